// SPDX-License-Identifier: Apache-2.0

/// A metadata value to write.
package enum MetadataValue: Sendable, Equatable {
    case uint32(UInt32)
    case float(Float)
    case bool(Bool)
    case string(String)
    case strings([String])
    case uint32s([UInt32])
    case int32s([Int32])
    case floats([Float])
}

/// Keys and values in the order to write them.
package typealias Facts = [(key: String, value: MetadataValue)]

/// A tensor to write.
package struct TensorPlan: Sendable, Equatable {
    /// What an I8 tensor of packed tiles holds.
    package struct Packed: Sendable, Equatable {
        package var rows: Int
        package var columns: Int
        /// "F32", "F16" or "BF16": the element type in the checkpoint.
        package var sourceType: String

        package init(rows: Int, columns: Int, sourceType: String) {
            self.rows = rows
            self.columns = columns
            self.sourceType = sourceType
        }
    }

    package var name: String
    package var type: TensorType
    /// Outermost dimension first.
    package var shape: [Int]
    package var packed: Packed?

    package init(name: String, type: TensorType, shape: [Int]) {
        self.name = name
        self.type = type
        self.shape = shape
    }

    /// A ternary matrix of rows × columns, stored packed.
    package init(packed name: String, rows: Int, columns: Int, sourceType: String) {
        self.name = name
        type = .i8
        shape = [Format.packedBytes(rows: rows, columns: columns) ?? 0]
        packed = Packed(rows: rows, columns: columns, sourceType: sourceType)
    }

    package var byteCount: Int { shape.reduce(type.size, *) }
}

/// A file's header and where its tensors go, before any tensor is written. The header's length does not depend on scales and
/// digests, so it is written over once they are known.
struct PackPlan {
    let metadata: Facts
    let tensors: [TensorPlan]
    /// From the beginning of the file, one per tensor.
    let offsets: [Int]
    let dataStart: Int
    let fileSize: Int

    init(metadata: Facts, tensors: [TensorPlan]) throws(StoreError) {
        try Self.check(metadata)
        try Self.check(tensors)
        self.metadata = metadata
        self.tensors = tensors
        let blank = [String](repeating: Digest.blank, count: tensors.count)
        let length = Self.header(
            metadata, tensors, offsets: tensors.map { _ in 0 }, dataStart: 0,
            scales: tensors.map { _ in 1 }, digests: blank, model: Digest.blank
        ).bytes.count
        dataStart = Self.align(length, Format.alignment)
        var offset = dataStart
        var offsets: [Int] = []
        var streaming = false
        for tensor in tensors {
            if tensor.packed != nil, !streaming {
                offset = Self.align(offset, Format.streamAlignment)
                streaming = true
            }
            offset = Self.align(offset, tensor.byteCount >= 64 << 10 ? 4096 : Format.alignment)
            offsets.append(offset)
            offset += tensor.byteCount
        }
        self.offsets = offsets
        fileSize = offset
    }

    /// Refuses what the reader would.
    private static func check(_ metadata: Facts) throws(StoreError) {
        var keys = ownKeys(keys(metadata))
        for (key, _) in metadata {
            guard key.utf8.count <= Metadata.keyLength, keys.insert(key).inserted else {
                throw .malformed(
                    "the key \(key) stands twice or is over \(Metadata.keyLength) bytes long")
            }
        }
        guard keys.count <= Metadata.keyLimit else {
            throw .malformed(
                "\(keys.count) metadata keys; at most \(Metadata.keyLimit) are allowed")
        }
    }

    private static func check(_ tensors: [TensorPlan]) throws(StoreError) {
        guard tensors.count <= Header.tensorLimit else {
            throw .malformed("\(tensors.count) tensors; at most \(Header.tensorLimit) are allowed")
        }
        var names: Set<String> = []
        var total = 0
        for tensor in tensors {
            var bytes = tensor.type.size
            var fits = (1...4).contains(tensor.shape.count)
            for size in tensor.shape {
                let (product, overflow) = bytes.multipliedReportingOverflow(by: size)
                fits = fits && !overflow && (1...Header.dimensionLimit).contains(size)
                bytes = product
            }
            if let packed = tensor.packed {
                guard packed.columns <= Format.columnLimit else {
                    throw .malformed(
                        "tensor \(tensor.name) has \(packed.columns) columns; at most \(Format.columnLimit) are allowed"
                    )
                }
                fits = fits && packed.rows <= Int(UInt32.max)
            }
            // Half of all there could be leaves room for headers and alignment.
            fits = fits && bytes <= Int.max / 2 - total
            guard fits else {
                throw .malformed("tensor \(tensor.name) cannot have the shape \(tensor.shape)")
            }
            total += bytes
            guard names.insert(tensor.name).inserted,
                tensor.name.utf8.count <= Header.nameLength
            else {
                throw .malformed(
                    "the tensor name \(tensor.name) stands twice or is over \(Header.nameLength) bytes long"
                )
            }
        }
    }

    /// The keys of the architecture that `metadata` names.
    private static func keys(_ metadata: Facts) -> FormatKeys {
        for case (FormatKeys.architecture, .string(let name)) in metadata {
            return FormatKeys(architecture: name)
        }
        return .hgrnbit
    }

    /// The keys that `header` adds.
    private static func ownKeys(_ keys: FormatKeys) -> Set<String> {
        [
            keys.packedEncoding, keys.packedNames, keys.packedRows, keys.packedColumns,
            keys.packedScales, keys.packedTypes, keys.digestAlgorithm, keys.digestNames,
            keys.digestValues, keys.digestModel,
        ]
    }

    /// The header as it finally stands, the model's own digest in it.
    func header(scales: [Float], digests: [String]) -> [UInt8] {
        let (bytes, slot) = Self.header(
            metadata, tensors, offsets: offsets, dataStart: dataStart, scales: scales,
            digests: digests, model: Digest.blank)
        var header = bytes + [UInt8](repeating: 0, count: dataStart - bytes.count)
        let digest = header.withUnsafeBytes { Digest.ofHeader($0, slot: slot) }
        header.replaceSubrange(slot, with: digest.utf8)
        return header
    }

    private static func align(_ value: Int, _ multiple: Int) -> Int {
        (value + multiple - 1) / multiple * multiple
    }

    /// The header's bytes without padding, and where the 64 characters of the model's digest stand in them.
    private static func header(
        _ metadata: Facts, _ tensors: [TensorPlan], offsets: [Int], dataStart: Int,
        scales: [Float], digests: [String], model: String
    ) -> (bytes: [UInt8], slot: Range<Int>) {
        let packed = tensors.indices.filter { tensors[$0].packed != nil }
        let shapes = packed.compactMap { tensors[$0].packed }
        let keys = keys(metadata)
        let own: Facts = [
            (keys.packedEncoding, .string(Format.packedEncoding)),
            (keys.packedNames, .strings(packed.map { tensors[$0].name })),
            (keys.packedRows, .uint32s(shapes.map { UInt32($0.rows) })),
            (keys.packedColumns, .uint32s(shapes.map { UInt32($0.columns) })),
            (keys.packedScales, .floats(packed.map { scales[$0] })),
            (keys.packedTypes, .strings(shapes.map(\.sourceType))),
            (keys.digestAlgorithm, .string(Format.digestAlgorithm)),
            (keys.digestNames, .strings(tensors.map(\.name))),
            (keys.digestValues, .strings(digests)),
            (keys.digestModel, .string(model)),
        ]
        var writer = ByteWriter()
        writer.bytes += "GGUF".utf8
        writer.integer(Format.ggufVersion)
        writer.integer(UInt64(tensors.count))
        writer.integer(UInt64(metadata.count + own.count))
        for (key, value) in metadata + own { writer.pair(key, value) }
        let slot = writer.bytes.count - 64..<writer.bytes.count
        for (tensor, offset) in zip(tensors, offsets) {
            writer.string(tensor.name)
            writer.integer(UInt32(tensor.shape.count))
            for size in tensor.shape.reversed() { writer.integer(UInt64(size)) }
            writer.integer(tensor.type.rawValue)
            writer.integer(UInt64(offset - dataStart))
        }
        return (writer.bytes, slot)
    }
}

/// Bytes as GGUF writes them: little-endian, strings behind their length.
private struct ByteWriter {
    var bytes: [UInt8] = []

    mutating func integer<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
    }

    mutating func string(_ text: String) {
        integer(UInt64(text.utf8.count))
        bytes += text.utf8
    }

    mutating func pair(_ key: String, _ value: MetadataValue) {
        string(key)
        switch value {
        case .uint32(let value):
            type(.uint32)
            integer(value)
        case .float(let value):
            type(.float32)
            integer(value.bitPattern)
        case .bool(let value):
            type(.bool)
            bytes.append(value ? 1 : 0)
        case .string(let value):
            type(.string)
            string(value)
        case .strings(let values):
            array(.string, values.count)
            for value in values { string(value) }
        case .uint32s(let values):
            array(.uint32, values.count)
            for value in values { integer(value) }
        case .int32s(let values):
            array(.int32, values.count)
            for value in values { integer(value) }
        case .floats(let values):
            array(.float32, values.count)
            for value in values { integer(value.bitPattern) }
        }
    }

    private mutating func type(_ type: Metadata.ValueType) { integer(type.rawValue) }

    private mutating func array(_ type: Metadata.ValueType, _ count: Int) {
        self.type(.array)
        self.type(type)
        integer(UInt64(count))
    }
}
