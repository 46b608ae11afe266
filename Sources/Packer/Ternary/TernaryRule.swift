// SPDX-License-Identifier: Apache-2.0

/// How one tensor becomes trits: a single comparison per weight, and one scale.
///
/// The definition (`weight_quant` of the original code) rounds w·mul in the tensor's own type and
/// compares with ±0.5. Multiplication and rounding are monotone in |w|, so there is one smallest
/// magnitude that gives ±1, and comparing stored bits with it is the definition exactly.
package struct TernaryRule: Sendable, Equatable {
    /// A weight whose bits without the sign are at least this is ±1, a smaller one 0.
    package let threshold: UInt32
    /// s: what a trit is worth.
    package let scale: Float
    /// The tensor held {-s, 0, +s} before we came: nothing was computed.
    package let alreadyTernary: Bool
    /// F16 whose mean is too small for F16's own reciprocal; F32 arithmetic was used.
    package let widened: Bool

    /// The rule of a tensor of `count` elements of which `scan` tells the sums.
    package init(type: ElementType, count: Int, scan: WeightScan) {
        guard scan.nonzero > 0 else {
            // Any finite scale will do; upstream's F16 gives NaN here.
            self.init(threshold: type.infinity, scale: 1e-5)
            return
        }
        // A single non-zero weight is no evidence of anything.
        if scan.nonzero >= 2, let magnitude = scan.onlyMagnitude {
            self.init(
                threshold: 1, scale: type.value(ofBits: magnitude), alreadyTernary: true)
            return
        }
        let mean = max(
            type.rounded(Float(scan.sum / Double(count))), type.rounded(1e-5))
        let multiplier = type.rounded(1 / mean)
        if multiplier.isFinite {
            self.init(
                threshold: Self.threshold(type, multiplier) { type.rounded($0) },
                scale: type.rounded(1 / multiplier))
        } else {
            let multiplier = 1 / mean
            self.init(
                threshold: Self.threshold(type, multiplier) { $0 }, scale: 1 / multiplier,
                widened: true)
        }
    }

    init(
        threshold: UInt32, scale: Float, alreadyTernary: Bool = false, widened: Bool = false
    ) {
        self.threshold = threshold
        self.scale = scale
        self.alreadyTernary = alreadyTernary
        self.widened = widened
    }

    /// The smallest magnitude whose product with `multiplier` rounds to more than one half.
    static func threshold(
        _ type: ElementType, _ multiplier: Float, _ round: (Float) -> Float
    ) -> UInt32 {
        var (low, high): (UInt32, UInt32) = (0, type.infinity)  // low gives 0, high gives 1
        while high - low > 1 {
            let middle = low + (high - low) / 2
            if round(type.value(ofBits: middle) * multiplier) > 0.5 {
                high = middle
            } else {
                low = middle
            }
        }
        return high
    }

    /// Trits of F16 or BF16 weights. Returns how many are not zero.
    package func trits(
        _ weights: UnsafeBufferPointer<UInt16>, to out: UnsafeMutablePointer<Int8>
    ) -> Int {
        let threshold = UInt16(truncatingIfNeeded: threshold)
        var nonzero = 0
        var k = 0
        while k < weights.count {
            let bits = weights[k]
            let one: Int8 = (bits & 0x7fff) >= threshold ? 1 : 0
            let sign = Int8(truncatingIfNeeded: bits >> 15)  // 1 if negative
            out[k] = one &- 2 &* (one & sign)
            nonzero &+= Int(one)
            k &+= 1
        }
        return nonzero
    }

    /// Trits of F32 weights. Returns how many are not zero.
    package func trits(
        _ weights: UnsafeBufferPointer<UInt32>, to out: UnsafeMutablePointer<Int8>
    ) -> Int {
        let threshold = threshold
        var nonzero = 0
        var k = 0
        while k < weights.count {
            let bits = weights[k]
            let one: Int8 = (bits & 0x7fff_ffff) >= threshold ? 1 : 0
            let sign = Int8(truncatingIfNeeded: bits >> 31)
            out[k] = one &- 2 &* (one & sign)
            nonzero &+= Int(one)
            k &+= 1
        }
        return nonzero
    }
}
