// SPDX-License-Identifier: Apache-2.0

import Glibc
package import ModelStore

/// A metadata value as raw bytes, so that it may also be a wrong one.
package struct RawValue: Sendable {
    package var type: UInt32
    package var bytes: [UInt8]

    package init(type: UInt32, bytes: [UInt8]) {
        self.type = type
        self.bytes = bytes
    }

    package static func uint32(_ value: UInt32) -> RawValue {
        RawValue(type: 4, bytes: little(value))
    }
    package static func float(_ value: Float) -> RawValue {
        RawValue(type: 6, bytes: little(value.bitPattern))
    }
    package static func bool(_ byte: UInt8) -> RawValue { RawValue(type: 7, bytes: [byte]) }
    package static func string(_ text: String) -> RawValue {
        RawValue(type: 8, bytes: counted(text.utf8))
    }
    package static func text(_ bytes: [UInt8]) -> RawValue {
        RawValue(type: 8, bytes: counted(bytes))
    }

    /// - Parameter count: what the array claims to hold, if not what it does.
    package static func array(_ values: [RawValue], of type: UInt32, count: UInt64? = nil)
        -> RawValue
    {
        let count = count ?? UInt64(values.count)
        return RawValue(type: 9, bytes: little(type) + little(count) + values.flatMap(\.bytes))
    }
    package static func strings(_ texts: [String]) -> RawValue {
        array(texts.map { .string($0) }, of: 8)
    }
    package static func uint32s(_ values: [UInt32]) -> RawValue {
        array(values.map { .uint32($0) }, of: 4)
    }
    package static func floats(_ values: [Float]) -> RawValue {
        array(values.map { .float($0) }, of: 6)
    }
}

/// A tensor's table entry.
package struct RawTensor: Sendable {
    package var name: [UInt8]
    /// As GGUF stores them: innermost first.
    package var dimensions: [UInt64]
    package var dimensionCount: UInt32?
    package var type: UInt32
    package var offset: UInt64

    package init(_ name: String, _ dimensions: [UInt64], type: UInt32, offset: UInt64) {
        self.name = Array(name.utf8)
        self.dimensions = dimensions
        self.type = type
        self.offset = offset
    }
}

/// The smallest packed file with something of everything, to be spoilt one thing at a time. As it stands it opens.
package struct RawFile: Sendable {
    package var magic: [UInt8] = Array("GGUF".utf8)
    package var version: UInt32 = 3
    /// What the header claims, if not what there is.
    package var tensorCount: UInt64?
    package var keyCount: UInt64?
    package var pairs: [(key: [UInt8], value: RawValue)] = []
    package var tensors: [RawTensor] = []
    /// Bytes after the header and its padding.
    package var data = [UInt8](repeating: 0, count: 1024)

    package init() {
        set(FormatKeys.architecture, .string("hgrnbit"))
        set(FormatKeys.alignment, .uint32(64))
        set(FormatKeys.hgrnbit.formatVersion, .uint32(1))
        set(FormatKeys.hgrnbit.rmsEpsilon, .float(1e-6))
        set(FormatKeys.hgrnbit.useLowerBound, .bool(1))
        set(FormatKeys.tokens, .strings(["<unk>", "▁a", ""]))
        set(FormatKeys.tokenTypes, .array([.uint32(2), .uint32(1), .uint32(1)], of: 5))
        set(FormatKeys.hgrnbit.packedEncoding, .string("R16K4T5"))
        set(FormatKeys.hgrnbit.packedNames, .strings(["a.weight", "b.weight"]))
        set(FormatKeys.hgrnbit.packedRows, .uint32s([17, 1]))
        set(FormatKeys.hgrnbit.packedColumns, .uint32s([21, 20]))
        set(FormatKeys.hgrnbit.packedScales, .floats([0.5, 0.25]))
        set(FormatKeys.hgrnbit.packedTypes, .strings(["BF16", "F32"]))
        set(FormatKeys.hgrnbit.digestAlgorithm, .string("sha256"))
        set(FormatKeys.hgrnbit.digestNames, .strings(["norm.weight", "a.weight", "b.weight"]))
        set(FormatKeys.hgrnbit.digestValues, .strings([Self.digest, Self.digest, Self.digest]))
        // Told apart from the others, so that it can be found and put right.
        set(FormatKeys.hgrnbit.digestModel, .string(String(repeating: "1", count: 64)))
        tensors = [
            RawTensor("norm.weight", [3, 2], type: 0, offset: 0),
            RawTensor("a.weight", [256], type: 24, offset: 64),
            RawTensor("b.weight", [64], type: 24, offset: 320),
        ]
    }

    package static let digest = String(repeating: "0", count: 64)

    /// Puts a value in the place of the key's present one, or at the end.
    package mutating func set(_ key: String, _ value: RawValue) {
        if let index = pairs.firstIndex(where: { $0.key == Array(key.utf8) }) {
            pairs[index].value = value
        } else {
            pairs.append((Array(key.utf8), value))
        }
    }

    package mutating func remove(_ key: String) { pairs.removeAll { $0.key == Array(key.utf8) } }

    /// The file up to its data, without padding.
    package var header: [UInt8] {
        var bytes = magic + little(version)
        bytes += little(tensorCount ?? UInt64(tensors.count))
        bytes += little(keyCount ?? UInt64(pairs.count))
        for (key, value) in pairs { bytes += counted(key) + little(value.type) + value.bytes }
        for tensor in tensors {
            bytes += counted(tensor.name)
            bytes += little(tensor.dimensionCount ?? UInt32(tensor.dimensions.count))
            for size in tensor.dimensions { bytes += little(size) }
            bytes += little(tensor.type) + little(tensor.offset)
        }
        return bytes
    }

    /// The whole file, its own digest not yet put right.
    package var bytes: [UInt8] {
        let header = header
        return header + [UInt8](repeating: 0, count: (64 - header.count % 64) % 64) + data
    }
}

package func little<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

package func counted(_ bytes: some Collection<UInt8>) -> [UInt8] {
    little(UInt64(bytes.count)) + bytes
}

/// Opens bytes as a packed file. When the header's digest is all that is wrong it is put right first, as whoever forges a
/// file would do: the reader itself tells which it should be.
package func openSealed(_ bytes: [UInt8]) throws -> PackedFile {
    do {
        return try openPacked(bytes)
    } catch StoreError.damaged("the header", let expected, let found) {
        return try openPacked(replacing(Array(expected.utf8), with: Array(found.utf8), in: bytes))
    }
}

/// Replaces the first place of `old`, which is as long as `new`.
private func replacing(_ old: [UInt8], with new: [UInt8], in bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    bytes.withUnsafeMutableBytes { buffer in
        let start = buffer.baseAddress!
        var at = 0
        while at + old.count <= buffer.count,
            let next = memchr(start + at, Int32(old[0]), buffer.count - old.count + 1 - at)
        {
            at = start.distance(to: next)
            if memcmp(next, old, old.count) == 0 {
                memcpy(next, new, new.count)
                return
            }
            at += 1
        }
    }
    return bytes
}
