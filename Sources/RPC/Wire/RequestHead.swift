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

    /// Reads the fields of a Request; unknown ones, and metadata, are passed over.
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
            default: break
            }
        }
        let overhead = data.count - payload.count
        guard overhead <= Self.overheadLimit else {
            throw Self.refusal(
                "has \(overhead) bytes besides its payload; the limit is \(Self.overheadLimit)")
        }
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
