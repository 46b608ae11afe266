// SPDX-License-Identifier: Apache-2.0

/// How much there is at which distance below the highest logit: where a limit falls among very many candidates is looked for in one
/// bin only. A bin is an eighth of an octave, so that the order of bins is the order of distances.
struct DistanceHistogram: Sendable {
    /// Of a key, whose upper half is the bits of a distance: the exponent and three bits of the fraction.
    private static let shift: UInt64 = 32 + 20
    private static let bins = Int(Float.infinity.bitPattern >> 20) + 1

    /// Keys with even places, and with odd ones: an addition need not wait for the one before it to reach memory.
    private var sums: [Double] = []

    static func bin(_ key: UInt64) -> Int { Int(key >> shift) }

    /// - Parameters:
    ///   - weights: of the candidates that the keys' lower halves name; `nil`: each counts 1.
    ///   - target: more than 0.
    /// - Returns: the first bin with which `target` is reached, the last one of all if it never is, and the sum of the bins before it.
    mutating func find(
        _ target: Double, _ keys: UnsafeBufferPointer<UInt64>,
        _ weights: UnsafeBufferPointer<Float>?
    ) -> (bin: Int, before: Double) {
        if sums.isEmpty {
            sums = [Double](repeating: 0, count: 2 * Self.bins)
        } else {
            sums.withUnsafeMutableBufferPointer { $0.update(repeating: 0) }
        }
        sums.withUnsafeMutableBufferPointer { sums in
            for place in 0..<keys.count {
                let key = keys[place]
                let weight = weights.map { Double($0[Int(key & 0xFFFF_FFFF)]) } ?? 1
                sums[2 * Self.bin(key) + place & 1] += weight
            }
        }
        var before = 0.0
        for bin in 0..<Self.bins - 1 {
            let sum = before + (sums[2 * bin] + sums[2 * bin + 1])
            if sum >= target { return (bin, before) }
            before = sum
        }
        return (Self.bins - 1, before)
    }
}
