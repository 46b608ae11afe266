// SPDX-License-Identifier: Apache-2.0

/// Reads the fields of one protobuf message, bounded by its bytes. Enough for tokenizer.model.
struct WireReader {
    enum Value {
        case varint(UInt64)
        case fixed32(UInt32)
        case fixed64(UInt64)
        case bytes(ArraySlice<UInt8>)
    }

    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    /// What is wrong, in a few words.
    struct Broken: Error { let what: String }

    /// The next field and its number, or nil at the end.
    mutating func next() throws(Broken) -> (field: UInt64, value: Value)? {
        guard !rest.isEmpty else { return nil }
        let key = try varint()
        guard key >> 3 != 0 else { throw Broken(what: "a field numbered 0") }
        switch key & 7 {
        case 0: return (key >> 3, .varint(try varint()))
        case 1: return (key >> 3, .fixed64(try fixed(8)))
        case 2:
            let count = try varint()
            guard count <= rest.count else { throw Broken(what: "a field reaches past the end") }
            let bytes = rest.prefix(Int(count))
            rest = rest.dropFirst(Int(count))
            return (key >> 3, .bytes(bytes))
        case 5: return (key >> 3, .fixed32(UInt32(truncatingIfNeeded: try fixed(4))))
        default: throw Broken(what: "an unknown wire type")
        }
    }

    private mutating func varint() throws(Broken) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = rest.popFirst() else { throw Broken(what: "ends inside a number") }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        throw Broken(what: "a number longer than ten bytes")
    }

    private mutating func fixed(_ count: Int) throws(Broken) -> UInt64 {
        guard rest.count >= count else { throw Broken(what: "ends inside a number") }
        var value: UInt64 = 0
        for (place, byte) in rest.prefix(count).enumerated() {
            value |= UInt64(byte) << UInt64(8 * place)
        }
        rest = rest.dropFirst(count)
        return value
    }
}
