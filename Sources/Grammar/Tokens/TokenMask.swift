// SPDX-License-Identifier: Apache-2.0

/// Which tokens may come next: a bit for each.
package struct TokenMask: Sendable, Equatable {
    /// Token i is bit i % 64 of word i / 64; bits beyond `count` are 0.
    package private(set) var words: [UInt64]
    package let count: Int

    package init(count: Int) {
        self.count = count
        words = [UInt64](repeating: 0, count: (count + 63) / 64)
    }

    package func contains(_ token: UInt32) -> Bool {
        Int(token) < count && words[Int(token >> 6)] >> UInt64(token & 63) & 1 == 1
    }

    /// The lowest token that is allowed.
    package var first: UInt32? {
        words.firstIndex { $0 != 0 }.map { UInt32($0 * 64 + words[$0].trailingZeroBitCount) }
    }

    package var isEmpty: Bool { words.allSatisfy { $0 == 0 } }
    /// How many tokens are allowed.
    package var population: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }
    package var tokens: [UInt32] { (0..<UInt32(count)).filter(contains) }

    package mutating func insert(_ token: UInt32) {
        guard Int(token) < count else { return }
        words[Int(token >> 6)] |= 1 << UInt64(token & 63)
    }

    mutating func insert(_ tokens: ArraySlice<UInt32>) {
        words.withUnsafeMutableBufferPointer { words in
            for token in tokens { words[Int(token >> 6)] |= 1 << UInt64(token & 63) }
        }
    }

    /// - Parameter lengths: of the tokens.
    mutating func insert(
        _ tokens: ArraySlice<UInt32>, _ lengths: ArraySlice<UInt8>, atMost most: Int
    ) {
        words.withUnsafeMutableBufferPointer { words in
            for (token, length) in zip(tokens, lengths) where Int(length) <= most {
                words[Int(token >> 6)] |= 1 << UInt64(token & 63)
            }
        }
    }

    mutating func formUnion(_ other: TokenMask) {
        for index in words.indices { words[index] |= other.words[index] }
    }
}
