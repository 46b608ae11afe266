// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import SystemPackage
import TestSupport
import Testing

@Suite("The packed file")
struct PackedFileTests {
    @Test("what was written is read, however it was cut", arguments: 0..<20, [1, 7, 4096, 1 << 20])
    func roundTrip(_ seed: Int, _ chunk: Int) throws {
        try withDirectory { directory in
            let made = MadeFile(seed: UInt64(seed))
            let path = directory.appending("m.gguf")
            if chunk > 1 || made.contents.reduce(0, { $0 + $1.count }) < 20_000 {
                try made.write(to: path, chunk: chunk)
            } else {
                try made.write(to: path, chunk: 64)
            }
            let file = try PackedFile(path: path)
            #expect(file.tensors.map(\.name) == made.tensors.map(\.name))
            for (plan, bytes) in zip(made.tensors, made.contents) {
                let tensor = try #require(file[plan.name])
                #expect(tensor.shape == plan.shape)
                #expect(tensor.type == plan.type)
                #expect(Array(file.bytes(of: tensor)) == bytes)
                #expect(tensor.offset % 64 == 0)
            }
            #expect(file.packed["m0"]?.scale == 0.125)
            #expect(file.packed["m1"]?.rows == made.tensors.last?.packed?.rows)
            #expect(try #require(file["m0"]).offset % (2 << 20) == 0)
            #expect(try file.metadata.uint32s(forKey: "test.numbers") == [1, 2, 3])
            #expect(try file.metadata.strings(forKey: "test.texts") == ["", "é", "a longer text"])
            #expect(try file.metadata.bool(forKey: "test.flag"))
            try file.verify()
        }
    }

    @Test("the same input gives the same bytes")
    func reproducible() throws {
        try withDirectory { directory in
            let made = MadeFile(seed: 3)
            try made.write(to: directory.appending("a.gguf"), chunk: 17)
            try made.write(to: directory.appending("b.gguf"))
            #expect(
                try bytes(of: directory.appending("a.gguf"))
                    == bytes(of: directory.appending("b.gguf")))
        }
    }

    @Test("a flipped bit in any tensor is found by that tensor's name")
    func damaged() throws {
        try withDirectory { directory in
            let made = MadeFile(seed: 5)
            let path = directory.appending("m.gguf")
            try made.write(to: path)
            let whole = try bytes(of: path)
            let tensors = try PackedFile(path: path).tensors
            for tensor in tensors {
                var broken = whole
                broken[tensor.offset + tensor.byteCount / 2] ^= 4
                let file = try openPacked(broken)
                #expect {
                    try file.verify()
                } throws: { error in
                    guard case StoreError.damaged("tensor \(tensor.name)", _, _) = error else {
                        return false
                    }
                    return true
                }
            }
        }
    }

    @Test("a changed scale is found when the file is opened")
    func damagedHeader() throws {
        try withDirectory { directory in
            let made = MadeFile(seed: 6)
            let path = directory.appending("m.gguf")
            try made.write(to: path)
            var broken = try bytes(of: path)
            // 0.125 is 00 00 00 3e; its neighbour in the array is 0.25.
            let scale: [UInt8] = [0, 0, 0, 0x3e, 0, 0, 0x80, 0x3e]
            let at = try #require(
                (0..<broken.count - 8).first { Array(broken[$0..<$0 + 8]) == scale })
            broken[at + 2] = 1
            #expect {
                try openPacked(broken)
            } throws: { error in
                guard case StoreError.damaged("the header", _, _) = error else { return false }
                return true
            }
        }
    }

    @Test("a mapping outlives its file's name, and the replacement has another identity")
    func replaced() throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            try MadeFile(seed: 8).write(to: path)
            let old = try PackedFile(path: path)
            try MadeFile(seed: 9).write(to: path, replacing: true)
            try old.verify()
            #expect(try FileIdentity(path: path) != old.map.identity)
            #expect(try PackedFile(path: path).modelDigest != old.modelDigest)
        }
    }
}

@Suite("The packed file's writer")
struct PackedWriterTests {
    @Test(
        "a writer that is dropped leaves nothing behind, and the old file as it was",
        arguments: [true, false])
    func dropped(_ nameless: Bool) throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            try MadeFile(seed: 1).write(to: path)
            let before = try bytes(of: path)
            do {
                let made = MadeFile(seed: 2)
                var writer = try PackedWriter(
                    path: path, metadata: made.metadata, tensors: made.tensors, replacing: true,
                    nameless: nameless)
                try made.contents[0].withUnsafeBytes { try writer.write($0) }
                if !nameless { #expect(names(in: directory).count == 2) }
            }
            #expect(names(in: directory) == ["m.gguf"])
            #expect(try bytes(of: path) == before)
        }
    }

    @Test("an existing file is not replaced unasked")
    func exists() throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            try MadeFile(seed: 1).write(to: path)
            #expect(throws: StoreError.exists(path)) { try MadeFile(seed: 1).write(to: path) }
        }
    }

    @Test("too few bytes and too many bytes are refused")
    func amount() throws {
        try withDirectory { directory in
            let made = MadeFile(seed: 4)
            let path = directory.appending("m.gguf")
            var short = made
            short.contents[short.contents.count - 1].removeLast()
            #expect(throws: StoreError.self) { try short.write(to: path) }
            var long = made
            long.contents[long.contents.count - 1].append(0)
            #expect(throws: StoreError.self) { try long.write(to: path) }
            #expect(names(in: directory).isEmpty)
        }
    }

    @Test("a file system without room is told before anything is written")
    func noRoom() throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            var made = MadeFile(seed: 4)
            // 4 TiB in all.
            for index in 0..<1024 {
                made.tensors.append(TensorPlan(name: "huge\(index)", type: .i8, shape: [1 << 32]))
                made.contents.append([])
            }
            #expect {
                try made.write(to: path)
            } throws: { error in
                guard case StoreError.noSpace(path, let needs, let free) = error else {
                    return false
                }
                return needs > free
            }
        }
    }

    @Test("the written file may be read by all and written by its owner alone")
    func mode() throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            try MadeFile(seed: 1).write(to: path)
            let identity = try FileIdentity(path: path)
            #expect(!identity.isWritableByOthers)
            #expect(identity.mode & 0o400 != 0)
        }
    }
}

@Suite("A directory of models")
struct ModelDirectoryTests {
    @Test("every well-named regular file is a model, and an earlier directory goes first")
    func scan() throws {
        try withDirectory { directory in
            let (first, second) = (directory.appending("a"), directory.appending("b"))
            for path in [first, second] { mkdir(path.string, 0o755) }
            try MadeFile(seed: 1).write(to: first.appending("one.gguf"))
            try MadeFile(seed: 2).write(to: second.appending("one.gguf"))
            try MadeFile(seed: 3).write(to: second.appending("two-2.7B_x.gguf"))
            for name in [".hidden.gguf", "sp ace.gguf", "other.txt", ".gguf"] {
                try FileDescriptor.open(
                    first.appending(name), .writeOnly, options: .create,
                    permissions: .ownerReadWrite
                ).close()
            }
            mkdir(first.appending("folder.gguf").string, 0o755)
            symlink("../b/two-2.7B_x.gguf", first.appending("link.gguf").string)
            symlink("nowhere", first.appending("broken.gguf").string)
            let found = ModelDirectory([first, second, directory.appending("missing")]).scan()
                .entries
            #expect(found.map(\.name) == ["link", "one", "two-2.7B_x"])
            #expect(found[1].path == first.appending("one.gguf"))
        }
    }

    @Test(
        "names are letters, digits, dots, underscores and dashes",
        arguments: [
            ("a.gguf", "a"), ("a.b-c_D9.gguf", "a.b-c_D9"), ("ä.gguf", nil), ("a/b.gguf", nil),
            ("a", nil),
        ])
    func name(_ file: String, _ name: String?) {
        #expect(ModelDirectory.modelName(file) == name)
    }
}
