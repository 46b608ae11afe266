// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import SystemPackage
import TestSupport
import Testing

@Suite("Broken packed files end in errors that say what is wrong")
struct PackedFileHostileTests {
    private static let whole: [UInt8] = {
        var bytes: [UInt8] = []
        try? withDirectory { directory in
            let path = directory.appending("m.gguf")
            try MadeFile(seed: 11).write(to: path)
            bytes = try TestSupport.bytes(of: path)
        }
        return bytes
    }()

    @Test("a sparse file that claims a header of more than 128 MiB is refused, not read")
    func longHeader() throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            // One key: an array of 2^31 numbers, which takes 8 GiB of nothing.
            let start =
                Array("GGUF".utf8) + little(UInt32(3)) + little(UInt64(0)) + little(UInt64(1))
                + counted(Array("k".utf8)) + little(UInt32(9)) + little(UInt32(4))
                + little(UInt64(1) << 31)
            try write(start, to: path)
            guard truncate(path.string, 1 << 36) == 0 else { return }
            #expect(
                throws: StoreError.malformed(
                    "k ends at byte \(start.count + (1 << 33)); a header is at most 134217728 bytes long"
                )
            ) { try PackedFile(path: path) }
        }
    }

    @Test("what is told of a file that is no model shows nothing of what is in it")
    func silent() throws {
        let secret = "root:$y$j9T$secret:19000:0:99999:7:::\n"
        for text in [secret, "\u{1}\u{2}" + secret, "[" + secret, String(secret.prefix(3))] {
            #expect {
                try openPacked(Array(text.utf8))
            } throws: { error in
                !"\(error)".contains("root") && !"\(error)".contains("114")
                    && !"\(error)".contains("secret")
            }
        }
    }

    @Test("a file cut anywhere is refused")
    func cut() throws {
        for length in Array(0..<200) + stride(from: 200, to: Self.whole.count - 1, by: 30_011) {
            #expect(throws: StoreError.self) { try openPacked(Array(Self.whole[..<length])) }
        }
    }

    @Test("an empty file, a foreign file and a directory are refused by what they are")
    func foreign() throws {
        #expect(throws: StoreError.self) { try openPacked([]) }
        #expect(
            throws: StoreError.notGGUF(
                "a text, perhaps a message in place of the file: download it again"
            )
        ) {
            try openPacked(Array("{\"a\": 1}".utf8))
        }
        #expect(throws: StoreError.self) { try PackedFile(path: "/tmp") }
        #expect(throws: StoreError.io(.noSuchFileOrDirectory, doing: "open", "/proc/nonexistent")) {
            try PackedFile(path: "/proc/nonexistent")
        }
        #expect(throws: StoreError.self) { try PackedFile(path: "/dev/zero") }
    }

    @Test("another GGUF version is refused by both numbers")
    func version() {
        var bytes = Self.whole
        bytes[4] = 2
        #expect(throws: StoreError.otherProgram("it is of GGUF version 2")) {
            try openPacked(bytes)
        }
        bytes[4] = 4
        #expect(throws: StoreError.unsupportedVersion("GGUF", found: 4, expected: 3)) {
            try openPacked(bytes)
        }
    }

    @Test("wrong claims under a right digest are still refused")
    func claims() throws {
        // Each is written by the writer itself, so the digests are right and only the claim is wrong.
        func refused(_ why: String, _ change: (inout MadeFile) -> Void) throws {
            try withDirectory { directory in
                var made = MadeFile(seed: 12)
                change(&made)
                let path = directory.appending("m.gguf")
                try made.write(to: path)
                #expect(throws: StoreError.self, "\(why)") { try PackedFile(path: path) }
            }
        }
        try refused("another architecture") { $0.metadata[0].value = .string("llama") }
        try refused("an unknown format version") { $0.metadata[3].value = .uint32(3) }
        try refused("another alignment") { $0.metadata[2].value = .uint32(32) }
        try refused("a key of the wrong type") { $0.metadata[0].value = .uint32(1) }
    }

    @Test("a missing key and a mistyped key are named")
    func keys() throws {
        let file = try openPacked(Self.whole)
        #expect(throws: StoreError.missingKey("nothing")) {
            try file.metadata.uint32(forKey: "nothing")
        }
        #expect(
            throws: StoreError.wrongType(key: "test.flag", expected: "uint32", found: "bool")
        ) { try file.metadata.uint32(forKey: "test.flag") }
        #expect(
            throws: StoreError.wrongType(
                key: "test.numbers", expected: "uint32", found: "3 × uint32")
        ) { try file.metadata.uint32(forKey: "test.numbers") }
    }
}
