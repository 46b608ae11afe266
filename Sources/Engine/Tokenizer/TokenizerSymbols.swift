// SPDX-License-Identifier: Apache-2.0

/// The token of each Unicode scalar that is a piece by itself: an array for ASCII, open addressing for the rest.
struct TokenizerSymbols: Sendable {
    static let none = UInt32.max

    private var ascii = [UInt32](repeating: none, count: 128)
    /// Scalar in the high half, id in the low one; `empty` where there is nothing.
    private var slots: [UInt64]
    private let mask: Int
    private static let empty = UInt64.max

    init(_ tokens: [(scalar: UInt32, id: UInt32)]) {
        var capacity = 16
        while capacity < tokens.count * 2 { capacity *= 2 }
        mask = capacity - 1
        slots = [UInt64](repeating: Self.empty, count: capacity)
        // Of two tokens for the same scalar the first one counts.
        for token in tokens where self[token.scalar] == Self.none {
            if token.scalar < 128 {
                ascii[Int(token.scalar)] = token.id
            } else {
                var index = hash(token.scalar)
                while slots[index] != Self.empty { index = (index + 1) & mask }
                slots[index] = UInt64(token.scalar) << 32 | UInt64(token.id)
            }
        }
    }

    subscript(scalar: UInt32) -> UInt32 {
        if scalar < 128 { return ascii[Int(scalar)] }
        var index = hash(scalar)
        while slots[index] != Self.empty {
            if slots[index] >> 32 == UInt64(scalar) {
                return UInt32(truncatingIfNeeded: slots[index])
            }
            index = (index + 1) & mask
        }
        return Self.none
    }

    private func hash(_ scalar: UInt32) -> Int {
        Int(truncatingIfNeeded: (UInt64(scalar) &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
    }
}
