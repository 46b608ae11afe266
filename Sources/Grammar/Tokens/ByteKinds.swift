// SPDX-License-Identifier: Apache-2.0

/// Bytes by 64 kinds: such as grammars mostly tell apart have a kind of their own. Small enough for every node of a trie.
struct ByteKinds: Sendable {
    private var bits: UInt64 = 0

    init() {}

    /// The kinds of which all bytes are in a set.
    init(within set: ByteSet) {
        bits = .max
        for byte in UInt8.min...UInt8.max where !set.contains(byte) {
            bits &= ~(1 << UInt64(Self.kind(byte)))
        }
    }

    mutating func insert(_ byte: UInt8) { bits |= 1 << UInt64(Self.kind(byte)) }
    mutating func formUnion(_ other: ByteKinds) { bits |= other.bits }
    func isSubset(of other: ByteKinds) -> Bool { bits & ~other.bits == 0 }

    private static func kind(_ byte: UInt8) -> UInt8 {
        switch byte {
        case 0..<0x20: 0
        case 0x20..<0x30: 1 + byte - 0x20
        case 0x30..<0x3A: 17
        case 0x3A...0x40: 18 + byte - 0x3A
        case 0x41...0x5A: 25 + (byte - 0x41) / 5
        case 0x5B...0x60: 31 + byte - 0x5B
        case 0x61...0x7A: 37 + (byte - 0x61) / 3
        case 0x7B..<0x80: 46 + byte - 0x7B
        // What may follow E0, ED, F0 and F4 begins or ends at these.
        case 0x80..<0xC0: 51 + (byte - 0x80) / 16
        case 0xC0..<0xE0: 55
        case 0xE0: 56
        case 0xED: 58
        case 0xE1..<0xED: 57
        case 0xEE...0xEF: 59
        case 0xF0: 60
        case 0xF1...0xF3: 61
        case 0xF4: 62
        default: 63
        }
    }
}
