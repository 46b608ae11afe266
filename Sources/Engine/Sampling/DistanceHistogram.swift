// SPDX-License-Identifier: Apache-2.0

/// How much there is at which distance below the highest logit: where a limit falls among very many candidates is looked for in one
/// bin only. A bin is a thirty-second of an octave, so that the order of bins is the order of distances; the first also has all that are
/// nearer than 2^-10, the last all that are 2^7 and more away.
struct DistanceHistogram: Sendable {
    /// Of the bits of a distance: the exponent and five bits of the fraction.
    private static let shift: UInt32 = 18
    private static let first = (127 - 10) << 5
    private static let bins = ((127 + 7) << 5) - first + 1

    /// Four of each: an addition need not wait for the one before it to reach memory.
    private var sums: [Double] = []

    @inline(__always)
    private static func bin(_ value: Float) -> Int {
        min(max(Int(value.magnitude.bitPattern >> shift) - first, 0), bins - 1)
    }

    /// The distances of a bin, both ends included.
    static func distances(_ bin: Int) -> ClosedRange<Float> {
        let nearest = bin == 0 ? 0 : Float(bitPattern: UInt32(bin + first) << shift)
        let next = Float(bitPattern: UInt32(bin + 1 + first) << shift)
        return nearest...(bin == bins - 1 ? .infinity : next.nextDown)
    }

    /// - Parameters:
    ///   - values: 0 or less, as far below the highest as candidates are.
    ///   - measures: of the candidates; `nil`: each counts 1.
    ///   - target: 0 or more.
    /// - Returns: the first bin with which `target` is reached, the last one of all if it never is, and the sum of the bins before it.
    mutating func find(
        _ target: Double, _ values: UnsafeBufferPointer<Float>,
        _ measures: UnsafeBufferPointer<Float>?
    ) -> (bin: Int, before: Double) {
        if sums.isEmpty { sums = [Double](repeating: 0, count: 4 * Self.bins) }
        return sums.withUnsafeMutableBufferPointer { sums in
            sums.update(repeating: 0)
            if let measures {
                for place in 0..<values.count {
                    let bin = Self.bin(values[place])
                    sums[4 * bin + place & 3] += Double(measures[place])
                }
            } else {
                for place in 0..<values.count {
                    sums[4 * Self.bin(values[place]) + place & 3] += 1
                }
            }
            var before = 0.0
            for bin in 0..<Self.bins - 1 {
                let sum =
                    before
                    + ((sums[4 * bin] + sums[4 * bin + 1])
                        + (sums[4 * bin + 2] + sums[4 * bin + 3]))
                if sum >= target { return (bin, before) }
                before = sum
            }
            return (Self.bins - 1, before)
        }
    }
}
