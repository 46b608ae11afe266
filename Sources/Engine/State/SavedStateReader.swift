// SPDX-License-Identifier: Apache-2.0

/// Checks a saved state that comes in any parts, and keeps none of its numbers: whatever lengths it tells, this takes some hundred
/// bytes.
package struct SavedStateReader: Sendable {
    /// Once all of it has come.
    package private(set) var header: SavedStateHeader?
    /// Bytes that have been taken.
    package private(set) var received = 0
    /// Of the whole state, as its first 48 bytes tell; `nil` before they have come.
    package private(set) var byteCount: Int?
    private var lengths: SavedStateHeader.Lengths?
    /// What stands before the numbers, as far as it has come.
    private var front: [UInt8] = []
    private var sum = StateChecksum()
    /// A number of which some bytes have come: at most 3, the last of them highest.
    private var number: (bits: UInt32, bytes: Int) = (0, 0)
    /// What is wrong with the numbers, which is told after the checksum: damage is called damage.
    private var flaw: SavedStateError?
    private var found: (checksum: UInt64, bytes: Int) = (0, 0)

    package init() {}

    /// Where the numbers are in the state's bytes; `nil` before the header has come.
    package var values: Range<Int>? {
        header.map { front.count..<front.count + $0.numberBytes }
    }

    /// Whether all has come, and is as it should be.
    package var isComplete: Bool { received == byteCount }

    package mutating func take(_ bytes: [UInt8]) throws(SavedStateError) {
        try take(bytes[...])
    }

    package mutating func take(_ bytes: ArraySlice<UInt8>) throws(SavedStateError) {
        let result = bytes.withUnsafeBytes { bytes in
            Result { () throws(SavedStateError) in try take(bytes) }
        }
        try result.get()
    }

    /// Takes the next bytes.
    ///
    /// - Throws: `SavedStateError` as soon as the state cannot be one; numbers and checksum are judged with the last byte. After an
    ///   error the reader is of no use.
    package mutating func take(_ bytes: UnsafeRawBufferPointer) throws(SavedStateError) {
        var rest = bytes
        while !rest.isEmpty {
            let count = try takeSome(rest)
            received += count
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
        if isComplete {
            guard sum.value == found.checksum else { throw .checksum }
            if let flaw { throw flaw }
        }
    }

    /// The bytes of one part of the state.
    private mutating func takeSome(_ bytes: UnsafeRawBufferPointer) throws(SavedStateError) -> Int {
        guard let byteCount, let values, let header else { return try takeFront(bytes) }
        let checksum = byteCount - 8
        guard received < byteCount else {
            throw .truncated(expected: byteCount, found: received + bytes.count)
        }
        let end = [values.upperBound, checksum, byteCount].first { received < $0 } ?? byteCount
        let some = UnsafeRawBufferPointer(rebasing: bytes.prefix(end - received))
        if received < checksum { sum.add(some) }
        if received < values.upperBound {
            takeNumbers(some, header.layout.byteCount)
        } else if received < checksum {
            if some.contains(where: { $0 != 0 }) {
                flaw = flaw ?? .field("a byte between the parts", "not 0")
            }
        } else {
            for byte in some {
                found.checksum |= UInt64(byte) << (found.bytes * 8)
                found.bytes += 1
            }
        }
        return some.count
    }

    private mutating func takeFront(_ bytes: UnsafeRawBufferPointer) throws(SavedStateError) -> Int
    {
        let wanted = (lengths?.front ?? SavedStateHeader.fixedBytes) - front.count
        let some = bytes.prefix(wanted)
        front += some
        let magic = SavedStateHeader.magic
        guard front.prefix(magic.count).elementsEqual(magic.prefix(front.count)) else {
            throw .notAState
        }
        if lengths == nil, front.count == SavedStateHeader.fixedBytes {
            let lengths = try SavedStateHeader.Lengths(front)
            self.lengths = lengths
            byteCount = lengths.byteCount
        }
        if let lengths, front.count == lengths.front {
            header = try SavedStateHeader(lengths, front)
            sum.add(front)
        }
        return some.count
    }

    /// - Parameter size: bytes of a number: 4, or 2 of the upper half of one.
    private mutating func takeNumbers(_ bytes: UnsafeRawBufferPointer, _ size: Int) {
        let shift = UInt32(32 - size * 8)
        var rest = bytes
        while number.bytes > 0, let byte = rest.first {
            number.bits |= UInt32(byte) << (number.bytes * 8)
            number.bytes += 1
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst())
            guard number.bytes == size else { continue }
            check((number.bits << shift) & Self.exponent == Self.exponent)
            number = (0, 0)
        }
        // The highest bit is set by an exponent of ones, and by no other.
        var found: UInt32 = 0
        if size == 4 {
            for index in 0..<rest.count / 4 {
                let bits = UInt32(
                    littleEndian: rest.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self))
                found |= (bits & Self.exponent) &+ 0x0080_0000
            }
        } else {
            for index in 0..<rest.count / 2 {
                let bits = UInt16(
                    littleEndian: rest.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
                found |= (UInt32(bits) << 16 & Self.exponent) &+ 0x0080_0000
            }
        }
        check(found >> 31 != 0)
        for byte in rest.suffix(rest.count % size) {
            number.bits |= UInt32(byte) << (number.bytes * 8)
            number.bytes += 1
        }
    }

    /// All ones of a number that is not finite.
    private static let exponent: UInt32 = 0x7F80_0000

    private mutating func check(_ isInfinite: Bool) {
        if isInfinite { flaw = flaw ?? .field("one of the values", "not a finite number") }
    }
}
