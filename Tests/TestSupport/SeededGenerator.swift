// SPDX-License-Identifier: Apache-2.0

/// SplitMix64: the same numbers in every run.
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    package init(_ seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    package mutating func unit() -> Float { Float(next() >> 40) / Float(1 << 24) }

    /// Near enough to a normal distribution for weights: the sum of four uniform numbers.
    package mutating func gaussian() -> Float {
        let bits = next()
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + bits >> 48
        return (Float(sum) / 65536 - 2) * 1.732
    }

    /// n floats in ±size.
    package mutating func floats(_ n: Int, size: Float = 1) -> [Float] {
        (0..<n).map { _ in Float(Int32(truncatingIfNeeded: next())) * 0x1p-31 * size }
    }

    /// n integers in ±limit.
    package mutating func integers(_ n: Int, limit: Int) -> [Int32] {
        (0..<n).map { _ in Int32(Int(next() % UInt64(2 * limit + 1)) - limit) }
    }

    package mutating func trits(_ n: Int) -> [Int8] { (0..<n).map { _ in Int8(next() % 3) - 1 } }
}
