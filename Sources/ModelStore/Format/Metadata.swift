// SPDX-License-Identifier: Apache-2.0

/// The metadata of a packed file. Values stay in the mapping until they are asked for.
package struct Metadata: Sendable {
    /// GGUF's value types.
    package enum ValueType: UInt32, Sendable {
        case uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64
        case float64

        /// Bytes of one value; `nil` for strings and arrays.
        var size: Int? {
            switch self {
            case .uint8, .int8, .bool: 1
            case .uint16, .int16: 2
            case .uint32, .int32, .float32: 4
            case .uint64, .int64, .float64: 8
            case .string, .array: nil
            }
        }
    }

    /// Where a value lies: `count` values of `type` in `range`.
    struct Entry: Sendable {
        let type: ValueType
        let isArray: Bool
        let count: Int
        let range: Range<Int>

        var described: String { isArray ? "\(count) × \(type)" : "\(type)" }
    }

    private let file: MappedFile
    private var entries: [String: Entry] = [:]
    /// Keys in the order of the file.
    package private(set) var keys: [String] = []

    /// The names of the keys that are the file's architecture's own.
    package var own: FormatKeys {
        FormatKeys(architecture: (try? string(forKey: FormatKeys.architecture)) ?? "")
    }

    init(_ file: MappedFile) { self.file = file }

    /// The most keys a file may have, and the longest key.
    static let keyLimit = 4096
    static let keyLength = 256

    /// Reads `count` pairs, checking every length on the way.
    mutating func read(_ count: UInt64, from reader: inout ByteReader) throws(StoreError) {
        guard count <= UInt64(Self.keyLimit) else {
            throw .malformed("\(count) metadata keys; at most \(Self.keyLimit) are allowed")
        }
        for _ in 0..<count {
            let key = try reader.string(limit: Self.keyLength, "a metadata key")
            guard entries[key] == nil else { throw .malformed("the key \(key) stands twice") }
            entries[key] = try Self.value(of: key, from: &reader)
            keys.append(key)
        }
    }

    private static func value(
        of key: String, from reader: inout ByteReader
    ) throws(StoreError) -> Entry {
        var type = try valueType(of: key, from: &reader)
        var count = 1
        let isArray = type == .array
        if isArray {
            type = try valueType(of: key, from: &reader)
            guard type != .array else { throw .malformed("the key \(key) holds arrays of arrays") }
            let claimed = try reader.integer(UInt64.self, "the length of \(key)")
            // A string takes at least its length's eight bytes.
            let size = type.size ?? 8
            guard claimed <= UInt64(reader.left / size) else {
                let (bytes, overflow) = claimed.multipliedReportingOverflow(by: UInt64(size))
                throw .truncated(
                    key, offset: reader.offset, needs: overflow ? .max : bytes, has: reader.left)
            }
            count = Int(claimed)
        }
        let begin = reader.offset
        if let size = type.size {
            let at = try reader.skip(UInt64(count * size), key)
            if type == .bool, !isArray, reader.bytes[at] > 1 {
                throw .malformed(
                    "the key \(key) holds the bool \(reader.bytes[at]); it must be 0 or 1")
            }
        } else {
            for _ in 0..<count { _ = try reader.stringBytes(key) }
        }
        return Entry(type: type, isArray: isArray, count: count, range: begin..<reader.offset)
    }

    private static func valueType(
        of key: String, from reader: inout ByteReader
    ) throws(StoreError) -> ValueType {
        let raw = try reader.integer(UInt32.self, "the type of \(key)")
        guard let type = ValueType(rawValue: raw) else {
            throw .malformed("the key \(key) is of the unknown type \(raw)")
        }
        return type
    }

    // MARK: Values

    package func contains(_ key: String) -> Bool { entries[key] != nil }

    private func entry(
        _ key: String, _ type: ValueType, array: Bool
    ) throws(StoreError) -> Entry {
        guard let entry = entries[key] else { throw .missingKey(key) }
        guard entry.type == type, entry.isArray == array else {
            throw .wrongType(
                key: key, expected: array ? "an array of \(type)" : "\(type)",
                found: entry.described)
        }
        return entry
    }

    private func load<T: BitwiseCopyable>(_ type: T.Type, _ offset: Int) -> T {
        file.start.loadUnaligned(fromByteOffset: offset, as: T.self)
    }

    package func uint32(forKey key: String) throws(StoreError) -> UInt32 {
        UInt32(
            littleEndian: load(UInt32.self, try entry(key, .uint32, array: false).range.lowerBound))
    }

    package func float(forKey key: String) throws(StoreError) -> Float {
        let at = try entry(key, .float32, array: false).range.lowerBound
        return Float(bitPattern: UInt32(littleEndian: load(UInt32.self, at)))
    }

    package func bool(forKey key: String) throws(StoreError) -> Bool {
        load(UInt8.self, try entry(key, .bool, array: false).range.lowerBound) != 0
    }

    package func string(forKey key: String) throws(StoreError) -> String {
        let range = try entry(key, .string, array: false).range
        return try text(range.lowerBound + 8..<range.upperBound, key)
    }

    /// An array of integers or floats, its elements of `type` in the file.
    ///
    /// - Parameter limit: how many there may be. A sparse file claims any number of zeros at no cost of its own.
    private func values<T: BitwiseCopyable>(
        _ key: String, _ type: ValueType, as: T.Type, atMost limit: Int
    ) throws(StoreError) -> [T] {
        let entry = try entry(key, type, array: true)
        guard entry.count <= limit else {
            throw .malformed("the key \(key) holds \(entry.count) numbers; at most \(limit) fit")
        }
        return [T](unsafeUninitializedCapacity: entry.count) { buffer, count in
            for index in 0..<entry.count {
                (buffer.baseAddress! + index).initialize(
                    to: load(T.self, entry.range.lowerBound + index * MemoryLayout<T>.size))
            }
            count = entry.count
        }
    }

    package func uint32s(
        forKey key: String, atMost limit: Int = .max
    ) throws(StoreError) -> [UInt32] {
        try values(key, .uint32, as: UInt32.self, atMost: limit)
    }

    package func int32s(
        forKey key: String, atMost limit: Int = .max
    ) throws(StoreError) -> [Int32] {
        try values(key, .int32, as: Int32.self, atMost: limit)
    }

    package func floats(
        forKey key: String, atMost limit: Int = .max
    ) throws(StoreError) -> [Float] {
        try values(key, .float32, as: Float.self, atMost: limit)
    }

    /// - Parameter limit: how many there may be. In memory a short string is larger than in the file, so that without a
    ///   limit a hostile file could make more of itself than it is.
    package func strings(
        forKey key: String, atMost limit: Int = .max
    ) throws(StoreError) -> [String] {
        let entry = try entry(key, .string, array: true)
        guard entry.count <= limit else {
            throw .malformed("the key \(key) holds \(entry.count) strings; at most \(limit) fit")
        }
        var strings: [String] = []
        strings.reserveCapacity(entry.count)
        var offset = entry.range.lowerBound
        for _ in 0..<entry.count {
            let range = try element(at: offset, in: entry, key)
            strings.append(try text(range, key))
            offset = range.upperBound
        }
        return strings
    }

    /// Lends each string of an array as bytes, in order, without making strings of them. Returns how many there are.
    @discardableResult
    package func forEachString(
        forKey key: String, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(StoreError) -> Int {
        let entry = try entry(key, .string, array: true)
        var offset = entry.range.lowerBound
        for _ in 0..<entry.count {
            let range = try element(at: offset, in: entry, key)
            body(UnsafeRawBufferPointer(start: file.start + range.lowerBound, count: range.count))
            offset = range.upperBound
        }
        return entry.count
    }

    /// Where the string of an array lies whose length stands at `offset`. That length was checked before, but the file may have
    /// been written since.
    private func element(at offset: Int, in entry: Entry, _ key: String) throws(StoreError)
        -> Range<Int>
    {
        guard offset + 8 <= entry.range.upperBound,
            let length = Int(exactly: UInt64(littleEndian: load(UInt64.self, offset))),
            length <= entry.range.upperBound - offset - 8
        else { throw .malformed("the key \(key) changes while it is read") }
        return offset + 8..<offset + 8 + length
    }

    private func text(_ range: Range<Int>, _ key: String) throws(StoreError) -> String {
        let bytes = UnsafeRawBufferPointer(start: file.start + range.lowerBound, count: range.count)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .malformed("the key \(key) holds text that is not UTF-8")
        }
        return text
    }

    /// A short rendering of a value, for people.
    package func describe(_ key: String) -> String {
        guard let entry = entries[key] else { return "" }
        if entry.isArray {
            guard entry.type == .uint32, entry.count <= 16,
                let values = try? uint32s(forKey: key)
            else { return "[\(entry.described)]" }
            return "\(values)"
        }
        let at = entry.range.lowerBound
        switch entry.type {
        case .uint8: return "\(load(UInt8.self, at))"
        case .int8: return "\(load(Int8.self, at))"
        case .uint16: return "\(load(UInt16.self, at))"
        case .int16: return "\(load(Int16.self, at))"
        case .uint32: return "\(load(UInt32.self, at))"
        case .int32: return "\(load(Int32.self, at))"
        case .float32: return "\(load(Float.self, at))"
        case .bool: return load(UInt8.self, at) != 0 ? "true" : "false"
        case .uint64: return "\(load(UInt64.self, at))"
        case .int64: return "\(load(Int64.self, at))"
        case .float64: return "\(load(Double.self, at))"
        case .string: return (try? string(forKey: key)) ?? "(not UTF-8)"
        case .array: return ""
        }
    }

    /// Where the value of `key` stands in the file.
    func range(of key: String) -> Range<Int>? { entries[key]?.range }
}
