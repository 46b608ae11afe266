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
}

/// Bytes that no set of a grammar tells apart are one class: transitions are kept by class.
struct ByteClasses: Sendable {
    /// The class of each byte: [256].
    private(set) var classes = [UInt8](repeating: 0, count: 256)
    /// A byte of each class.
    private(set) var members: [UInt8] = [0]

    init(_ sets: some Sequence<ByteSet>) {
        var keys: [[UInt8]: UInt8] = [:]
        for set in Set(sets) where members.count < 256 {
            keys.removeAll(keepingCapacity: true)
            members.removeAll(keepingCapacity: true)
            for byte in UInt8.min...UInt8.max {
                let key = [classes[Int(byte)], set.contains(byte) ? 1 : 0]
                if let known = keys[key] {
                    classes[Int(byte)] = known
                } else {
                    let new = UInt8(members.count)
                    keys[key] = new
                    members.append(byte)
                    classes[Int(byte)] = new
                }
            }
        }
    }

    var count: Int { members.count }
}
