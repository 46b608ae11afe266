// SPDX-License-Identifier: Apache-2.0

/// A cursor over bytes from outside: every step is checked against what is left, and against how far it may go at all: a sparse
/// file costs nothing and is as long as it likes.
struct ByteReader {
    let bytes: UnsafeRawBufferPointer
    private let limit: Int
    private(set) var offset = 0

    init(_ bytes: UnsafeRawBufferPointer, limit: Int = .max) {
        self.bytes = bytes
        self.limit = limit
    }

    var left: Int { bytes.count - offset }

    /// Steps over `count` bytes and returns where they begin.
    mutating func skip(_ count: UInt64, _ what: @autoclosure () -> String) throws(StoreError) -> Int
    {
        guard count <= UInt64(left) else {
            throw .truncated(what(), offset: offset, needs: count, has: left)
        }
        guard offset + Int(count) <= limit else {
            throw .malformed(
                "\(what()) ends at byte \(offset + Int(count)); a header is at most \(limit) bytes long"
            )
        }
        defer { offset += Int(count) }
        return offset
    }

    mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type, _ what: @autoclosure () -> String
    ) throws(StoreError) -> T {
        let at = try skip(UInt64(MemoryLayout<T>.size), what())
        return T(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: T.self))
    }

    /// A length-prefixed string's bytes.
    mutating func stringBytes(_ what: @autoclosure () -> String) throws(StoreError) -> Range<Int> {
        let length = try integer(UInt64.self, what())
        let at = try skip(length, what())
        return at..<offset
    }

    /// A length-prefixed string that must be UTF-8 and at most `limit` bytes long.
    mutating func string(limit: Int, _ what: @autoclosure () -> String) throws(StoreError) -> String
    {
        let began = offset
        let range = try stringBytes(what())
        guard range.count <= limit else {
            throw .malformed(
                "\(what()) at byte \(began) is \(range.count) bytes long; at most \(limit) are allowed"
            )
        }
        guard let text = String(validating: bytes[range], as: UTF8.self) else {
            throw .malformed("\(what()) at byte \(began) is not UTF-8")
        }
        return text
    }
}
