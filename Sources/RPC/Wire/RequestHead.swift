// SPDX-License-Identifier: Apache-2.0

/// What of a ttrpc Request decides where it goes. It is read on a connection's event loop, so the work is bounded: 64 fields,
/// names of 128 bytes, 16 KiB besides the payload. The payload stays where it is in the frame.
package struct RequestHead: Sendable, Equatable {
    package static let nameLimit = 128
    package static let fieldLimit = 64
    package static let overheadLimit = 16 << 10

    package var service = ""
    package var method = ""
    /// Nanoseconds; 0 asks for the default, a negative time is over already.
    package var timeout: Int64 = 0
    /// The payload's place in the frame's data.
    package var payload = 0..<0
    /// The user for whom a gateway makes the call.
    package var onBehalfOf: UInt32?

    /// The metadata that says so; its value is a uid in decimal.
    package static let onBehalfKey = "mmfree-on-behalf-of-uid"

    /// Reads the fields of a Request; unknown ones, and other metadata, are passed over.
    package init(_ data: [UInt8]) throws(RPCError) {
        var reader = FieldReader(data)
        var fields = 0
        while let (number, value) = try reader.next() {
            fields += 1
            guard fields <= Self.fieldLimit else {
                throw Self.refusal("has more than \(Self.fieldLimit) fields and metadata entries")
            }
            switch (number, value) {
            case (1, .bytes(let range)): service = try Self.name(data[range], "service")
            case (2, .bytes(let range)): method = try Self.name(data[range], "method")
            case (3, .bytes(let range)): payload = range
            case (4, .number(let number)): timeout = Int64(bitPattern: number)
            case (5, .bytes(let range)): try read(metadata: Array(data[range]))
            default: break
            }
        }
        let overhead = data.count - payload.count
        guard overhead <= Self.overheadLimit else {
            throw Self.refusal(
                "has \(overhead) bytes besides its payload; the limit is \(Self.overheadLimit)")
        }
    }

    /// The field that says so, to follow a Request's other fields.
    static func metadata(onBehalfOf user: UInt32) -> [UInt8] {
        func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] {
            // All of them are shorter than 128 bytes, so that their length is one byte.
            [number << 3 | 2, UInt8(bytes.count)] + bytes
        }
        return field(5, field(1, Array(onBehalfKey.utf8)) + field(2, Array("\(user)".utf8)))
    }

    private mutating func read(metadata data: [UInt8]) throws(RPCError) {
        guard data.count <= Self.overheadLimit else { return }
        var reader = FieldReader(data)
        var key = 0..<0
        var value = 0..<0
        while let (number, field) = try reader.next() {
            switch (number, field) {
            case (1, .bytes(let range)): key = range
            case (2, .bytes(let range)): value = range
            default: break
            }
        }
        guard data[key].elementsEqual(Self.onBehalfKey.utf8) else { return }
        let digits = data[value]
        // (uid_t) -1 is nobody's.
        guard onBehalfOf == nil, digits.allSatisfy({ (48...57).contains($0) }),
            let uid = UInt32(String(decoding: digits, as: UTF8.self)), uid != .max
        else {
            throw Self.refusal("does not name one user in its metadata '\(Self.onBehalfKey)'")
        }
        onBehalfOf = uid
    }

    private static func name(_ bytes: ArraySlice<UInt8>, _ field: String) throws(RPCError) -> String
    {
        guard bytes.count <= nameLimit else {
            throw refusal(
                "has a \(field) name of \(bytes.count) bytes; the limit is \(nameLimit)")
        }
        guard let name = String(validating: bytes, as: UTF8.self) else {
            throw refusal("has a \(field) name that is not UTF-8")
        }
        return name
    }

    fileprivate static func refusal(_ what: String) -> RPCError {
        RPCError(.invalidArgument, "the Request \(what)", reason: "INVALID_MESSAGE")
    }
}

/// The fields of a protobuf message, one after another.
private struct FieldReader {
    enum Value {
        case number(UInt64)
        case bytes(Range<Int>)
        /// A fixed-width value.
        case other
    }

    private let data: [UInt8]
    private var at = 0

    init(_ data: [UInt8]) { self.data = data }

    /// The next field's number and value; `nil` at the end.
    mutating func next() throws(RPCError) -> (Int, Value)? {
        guard at < data.count else { return nil }
        let tag = try varint()
        let number = Int(truncatingIfNeeded: tag >> 3)
        switch tag & 7 {
        case 0: return (number, .number(try varint()))
        case 1: _ = try take(8)
        case 2: return (number, .bytes(try take(varint())))
        case 5: _ = try take(4)
        default: throw Self.malformed
        }
        return (number, .other)
    }

    private mutating func take(_ count: UInt64) throws(RPCError) -> Range<Int> {
        guard count <= UInt64(data.count - at) else { throw Self.malformed }
        defer { at += Int(count) }
        return at..<(at + Int(count))
    }

    private mutating func varint() throws(RPCError) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard at < data.count else { throw Self.malformed }
            let byte = data[at]
            at += 1
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        throw Self.malformed
    }

    private static var malformed: RPCError { RequestHead.refusal("is malformed") }
}
