// SPDX-License-Identifier: Apache-2.0

import ModelStore
import SystemPackage
import Testing

@Suite("Broken packed files end in errors that say what is wrong")
struct PackedFileHostileTests {
    private static let whole: [UInt8] = {
        var bytes: [UInt8] = []
        try? withDirectory { directory in
            let path = directory.appending("m.gguf")
            try MadeFile(seed: 11).write(to: path)
            bytes = try StoreTests.bytes(of: path)
        }
        return bytes
    }()

    /// Where the header ends, near enough: the data are cut off, but for a little.
    private static let header: Int = 4096

    @Test("a file cut anywhere is refused")
    func cut() throws {
        for length in Array(0..<200) + stride(from: 200, to: Self.whole.count - 1, by: 997) {
            #expect(throws: StoreError.self) { try openPacked(Array(Self.whole[..<length])) }
        }
    }

    @Test("an empty file, a foreign file and a directory are refused by what they are")
    func foreign() throws {
        #expect(throws: StoreError.self) { try openPacked([]) }
        #expect(throws: StoreError.notGGUF(found: Array("{\"a\"".utf8))) {
            try openPacked(Array("{\"a\": 1}".utf8))
        }
        #expect(throws: StoreError.self) { try PackedFile(path: "/tmp") }
        #expect(throws: StoreError.io(.noSuchFileOrDirectory, doing: "open", "/nonexistent")) {
            try PackedFile(path: "/nonexistent")
        }
        #expect(throws: StoreError.self) { try PackedFile(path: "/dev/zero") }
    }

    @Test("another GGUF version is refused by both numbers")
    func version() {
        var bytes = Self.whole
        bytes[4] = 2
        #expect(throws: StoreError.unsupportedVersion("GGUF", found: 2, expected: 3)) {
            try openPacked(bytes)
        }
    }

    @Test("random changes to the header end in an error or a sound file", arguments: 0..<8)
    func mutations(_ seed: Int) throws {
        var random = SeededGenerator(UInt64(seed))
        // The header's digest would catch nearly all of them: half are made with it mended.
        for _ in 0..<1500 {
            var bytes = Self.whole
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let at = Int.random(in: 0..<min(Self.header, bytes.count), using: &random)
                switch Int.random(in: 0..<5, using: &random) {
                case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: bytes[at] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &random)!
                case 2:
                    let value = [
                        0, 1, UInt64(Int64.max), .max, UInt64(bytes.count), 1 << 32, 1 << 31,
                        1 << 62,
                    ].randomElement(using: &random)!
                    for k in 0..<8 where at + k < bytes.count {
                        bytes[at + k] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(k)))
                    }
                case 3:
                    let other = Int.random(in: 0..<min(Self.header, bytes.count), using: &random)
                    let length = min(
                        Int.random(in: 1...64, using: &random), bytes.count - max(at, other))
                    for k in 0..<length { bytes[at + k] = Self.whole[other + k] }
                default: bytes.removeSubrange(at..<min(at + 5, bytes.count))
                }
            }
            do {
                let file = try openPacked(bytes)
                for tensor in file.tensors {
                    #expect(file.bytes(of: tensor).count == tensor.byteCount)
                }
                for key in file.metadata.keys { _ = file.metadata.describe(key) }
            } catch {
                #expect(error is StoreError)
            }
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
        try refused("an unknown format version") { $0.metadata[3].value = .uint32(2) }
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
