// SPDX-License-Identifier: Apache-2.0

/// A set of bytes.
struct ByteSet: Hashable, Sendable {
    private var a: UInt64 = 0
    private var b: UInt64 = 0
    private var c: UInt64 = 0
    private var d: UInt64 = 0

    init() {}

    init(_ range: ClosedRange<UInt8>) { for byte in range { insert(byte) } }

    init(_ byte: UInt8) { insert(byte) }

    var isEmpty: Bool { a | b | c | d == 0 }

    mutating func insert(_ byte: UInt8) {
        let bit = UInt64(1) << UInt64(byte & 63)
        switch byte >> 6 {
        case 0: a |= bit
        case 1: b |= bit
        case 2: c |= bit
        default: d |= bit
        }
    }

    func contains(_ byte: UInt8) -> Bool {
        let word = byte < 128 ? (byte < 64 ? a : b) : (byte < 192 ? c : d)
        return word >> UInt64(byte & 63) & 1 == 1
    }

    mutating func formUnion(_ other: ByteSet) {
        a |= other.a
        b |= other.b
        c |= other.c
        d |= other.d
    }

    mutating func formIntersection(_ other: ByteSet) {
        a &= other.a
        b &= other.b
        c &= other.c
        d &= other.d
    }

    func isSubset(of other: ByteSet) -> Bool {
        (a & ~other.a) | (b & ~other.b) | (c & ~other.c) | (d & ~other.d) == 0
    }

    /// Its one byte, if it has no more.
    var only: UInt8? {
        guard count == 1 else { return nil }
        if a != 0 { return UInt8(a.trailingZeroBitCount) }
        if b != 0 { return UInt8(64 + b.trailingZeroBitCount) }
        if c != 0 { return UInt8(128 + c.trailingZeroBitCount) }
        return UInt8(192 + d.trailingZeroBitCount)
    }

    private var count: Int {
        a.nonzeroBitCount + b.nonzeroBitCount + c.nonzeroBitCount + d.nonzeroBitCount
    }
}

/// Bytes that no set of a grammar tells apart are one class: transitions are kept by class.
struct ByteClasses: Sendable {
    /// The class of each byte: [256].
    private(set) var classes = [UInt8](repeating: 0, count: 256)
    /// A byte of each class.
    private(set) var members: [UInt8] = [0]

    init(_ sets: some Sequence<ByteSet>) {
        for set in Set(sets) where members.count < 256 {
            // Each class that the set cuts in two keeps its number for what lies in the part of its first byte.
            var halves = [UInt8?](repeating: nil, count: members.count)
            let whole = members
            for byte in UInt8.min...UInt8.max {
                let number = Int(classes[Int(byte)])
                guard set.contains(byte) != set.contains(whole[number]) else { continue }
                if halves[number] == nil {
                    halves[number] = UInt8(members.count)
                    members.append(byte)
                }
                classes[Int(byte)] = halves[number] ?? 0
            }
        }
    }

    var count: Int { members.count }
}
