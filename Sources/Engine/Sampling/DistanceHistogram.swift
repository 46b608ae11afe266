// SPDX-License-Identifier: Apache-2.0

/// How much there is at which distance below the highest logit: where a limit falls among very many candidates is looked for in one
/// bin only. A bin is a thirty-second of an octave, so that the order of bins is the order of distances; the first also has all that are
/// nearer than 2^-10, the last all that are 2^7 and more away.
struct DistanceHistogram: Sendable {
    /// Of the bits of a distance: the exponent and five bits of the fraction.
    private static let shift: UInt64 = 18
    private static let first = (127 - 10) << 5
    private static let bins = ((127 + 7) << 5) - first + 1

    /// Four of each: an addition need not wait for the one before it to reach memory.
    private var sums: [Double] = []

    /// - Parameter key: of a candidate: the bits of its distance, then 32 bits that tell it from others as far.
    @inline(__always)
    static func bin(_ key: UInt64) -> Int {
        min(max(Int(key >> (32 + shift)) - first, 0), bins - 1)
    }

    /// The keys of a bin, both ends included.
    static func keys(_ bin: Int) -> ClosedRange<UInt64> {
        let nearest = bin == 0 ? 0 : UInt64(bin + first) << (32 + shift)
        let next = UInt64(bin + 1 + first) << (32 + shift)
        return nearest...(bin == bins - 1 ? .max : next - 1)
    }

    /// - Parameters:
    ///   - target: 0 or more.
    ///   - before: the sum of those nearer than all of these.
    ///   - keys: of candidates.
    ///   - measures: of what the keys' lower 32 bits tell; `nil`: each counts 1.
    /// - Returns: the keys of the first bin with which `target` is reached, of the last one of all if it never is, and the sum of what is
    ///   before it.
    mutating func find(
        _ target: Double, from before: Double = 0, _ keys: UnsafeBufferPointer<UInt64>,
        _ measures: UnsafeBufferPointer<Float>?
    ) -> (keys: ClosedRange<UInt64>, before: Double) {
        if sums.isEmpty { sums = [Double](repeating: 0, count: 4 * Self.bins) }
        return sums.withUnsafeMutableBufferPointer { sums in
            sums.update(repeating: 0)
            if let measures {
                for place in 0..<keys.count {
                    let key = keys[place]
                    sums[4 * Self.bin(key) + place & 3] += Double(measures[Int(key & 0xFFFF_FFFF)])
                }
            } else {
                for place in 0..<keys.count { sums[4 * Self.bin(keys[place]) + place & 3] += 1 }
            }
            var before = before
            for bin in 0..<Self.bins - 1 {
                let sum =
                    before
                    + ((sums[4 * bin] + sums[4 * bin + 1])
                        + (sums[4 * bin + 2] + sums[4 * bin + 3]))
                if sum >= target { return (Self.keys(bin), before) }
                before = sum
            }
            return (Self.keys(Self.bins - 1), before)
        }
    }
}
