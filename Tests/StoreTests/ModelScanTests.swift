// SPDX-License-Identifier: Apache-2.0

import Foundation
import ModelStore
import SystemPackage
import TestSupport
import Testing

@Suite("A directory's models are its well-named regular files")
struct ModelScanTests {
    @Test(
        "other files are no models",
        arguments: [
            ".gguf", ".hidden.gguf", ".mmfreed-partial-1-abc", "..gguf", "m", "m.GGUF", "m.gguf~",
            "m.gguf.part", "a b.gguf", "a/b.gguf", "ä.gguf", "a\n.gguf", "a\u{301}.gguf", "",
            String(repeating: "n", count: 201) + ".gguf",
        ])
    func unnamed(_ file: String) {
        #expect(ModelDirectory.modelName(file) == nil)
    }

    @Test("they come sorted; links are followed; what is no regular file is passed over")
    func scanned() throws {
        try withDirectory { directory in
            for name in ["b.gguf", "a.gguf", "c.txt", ".d.gguf", "elsewhere"] {
                try write([1], to: directory.appending(name))
            }
            try makeDirectory(directory.appending("e.gguf"))
            #expect(mkfifo(directory.appending("f.gguf").string, 0o600) == 0)
            #expect(symlink("elsewhere", directory.appending("link.gguf").string) == 0)
            #expect(symlink("nowhere", directory.appending("dangling.gguf").string) == 0)
            #expect(symlink("loop.gguf", directory.appending("loop.gguf").string) == 0)
            let models = ModelDirectory([directory]).scan().entries
            #expect(models.map(\.name) == ["a", "b", "link"])
            #expect(models[2].path == directory.appending("link.gguf"))
            #expect(
                try models[2].identity == FileIdentity(path: directory.appending("elsewhere")))
        }
    }

    @Test("a file that is no model at all hides no other: scanning opens none")
    func broken() throws {
        try withDirectory { directory in
            try write([0xff], to: directory.appending("broken.gguf"))
            let sound = try openSealed(RawFile().bytes)
            try write(sound.map.withBytes { Array($0) }, to: directory.appending("sound.gguf"))
            let models = ModelDirectory([directory]).scan().entries
            #expect(models.map(\.name) == ["broken", "sound"])
            #expect(throws: StoreError.self) { try PackedFile(path: models[0].path) }
            #expect(try PackedFile(path: models[1].path).modelDigest == sound.modelDigest)
        }
    }

    @Test("a file put in another's place is told from it; one that was left alone is the same")
    func replaced() throws {
        try withDirectory { directory in
            for name in ["a.gguf", "b.gguf"] { try write([1], to: directory.appending(name)) }
            let models = ModelDirectory([directory])
            let before = models.scan().entries
            #expect(models.scan().entries == before)
            let next = directory.appending("next")
            try write([2], to: next)
            #expect(rename(next.string, directory.appending("a.gguf").string) == 0)
            let after = models.scan().entries
            #expect(after[0].identity != before[0].identity)
            #expect(after[1] == before[1])
            try removeFile(directory.appending("b.gguf"))
            #expect(models.scan().entries.map(\.name) == ["a"])
        }
    }
}
