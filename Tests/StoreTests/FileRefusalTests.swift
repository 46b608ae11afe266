// SPDX-License-Identifier: Apache-2.0

import ModelStore
import TestSupport
import Testing

/// One thing wrong with a file, and what is said of it.
struct Refusal: Sendable, CustomTestStringConvertible {
    let claim: String
    let error: StoreError
    let spoil: @Sendable (inout RawFile) -> Void

    init(
        _ claim: String, _ error: StoreError, _ spoil: @escaping @Sendable (inout RawFile) -> Void
    ) {
        self.claim = claim
        self.error = error
        self.spoil = spoil
    }

    var testDescription: String { claim }

    func expectRefusal() throws {
        var file = RawFile()
        spoil(&file)
        #expect(throws: error) { try openSealed(file.bytes) }
    }
}

@Suite("A file with one thing wrong is refused by that thing's name")
struct FileRefusalTests {
    @Test("as it stands, the file that is spoilt below opens")
    func sound() throws {
        let file = try openSealed(RawFile().bytes)
        #expect(file.tensors.map(\.name) == ["norm.weight", "a.weight", "b.weight"])
        #expect(file["norm.weight"]?.shape == [2, 3])
        #expect(file.packed["a.weight"]?.scale == 0.5)
        #expect(try file.metadata.strings(forKey: FormatKeys.tokens) == ["<unk>", "▁a", ""])
    }

    @Test("the container", arguments: Refusals.containers)
    func container(_ refusal: Refusal) throws { try refusal.expectRefusal() }

    @Test("metadata", arguments: Refusals.metadata)
    func metadata(_ refusal: Refusal) throws { try refusal.expectRefusal() }

    @Test("the tensor table", arguments: Refusals.tensors)
    func tensors(_ refusal: Refusal) throws { try refusal.expectRefusal() }

    @Test("packed matrices", arguments: Refusals.packed)
    func packed(_ refusal: Refusal) throws { try refusal.expectRefusal() }

    @Test("digests", arguments: Refusals.digests)
    func digests(_ refusal: Refusal) throws { try refusal.expectRefusal() }

    @Test(
        "a key that must be there and is not",
        arguments: [
            FormatKeys.alignment, FormatKeys.hgrnbit.packedEncoding, FormatKeys.hgrnbit.packedNames,
            FormatKeys.hgrnbit.packedRows,
            FormatKeys.hgrnbit.packedColumns, FormatKeys.hgrnbit.packedScales,
            FormatKeys.hgrnbit.packedTypes,
            FormatKeys.hgrnbit.digestAlgorithm, FormatKeys.hgrnbit.digestNames,
            FormatKeys.hgrnbit.digestValues,
            FormatKeys.hgrnbit.digestModel,
        ])
    func missing(_ key: String) throws {
        try Refusal(key, .missingKey(key)) { $0.remove(key) }.expectRefusal()
    }

    @Test(
        "a GGUF file without what ours begin with is another program's",
        arguments: [FormatKeys.architecture, FormatKeys.hgrnbit.formatVersion])
    func otherProgram(_ key: String) throws {
        try Refusal(key, .otherProgram("\(key) is missing")) { $0.remove(key) }.expectRefusal()
    }

    @Test("a file cut at any byte of its header, or inside its last tensor")
    func cut() throws {
        let bytes = RawFile().bytes
        let lastTensorEnds = bytes.count - RawFile().data.count + 384
        for length in 1..<lastTensorEnds {
            #expect(throws: StoreError.self) { try openSealed(Array(bytes.prefix(length))) }
        }
        #expect(throws: Never.self) { try openSealed(Array(bytes.prefix(lastTensorEnds))) }
    }

    @Test("any changed bit of the header, whatever it means")
    func tampered() throws {
        let sealed = try openSealed(RawFile().bytes).map.withBytes { Array($0) }
        #expect(throws: Never.self) { try openPacked(sealed) }
        for at in RawFile().header.indices {
            var bytes = sealed
            bytes[at] ^= 1 << UInt8(at % 8)
            #expect(throws: StoreError.self, "byte \(at)") { try openPacked(bytes) }
        }
    }
}
