// SPDX-License-Identifier: Apache-2.0

internal import CKernels

/// Between which values the likeliest candidates reach a share of all there is: closer work is for what lies between them only.
struct MassBounds {
    /// The share of the sum of exp(value) over all.
    private(set) var target = 0.0
    /// Those with this value or more reach it; −infinity: it may take all.
    private(set) var enough = -Float.infinity
    /// Those with this value or more do not; infinity: of none it is known.
    private(set) var tooFew = Float.infinity
    /// What they sum up to.
    private var (massEnough, massTooFew): (Float, Float) = (0, 0)

    private static let width = Int(CK_LIMITS)
    /// Values that are tried first; 128,000 tokens at the last one weigh 0.3 of the likeliest.
    private static let first: [Float] = [-2, -3, -4, -5, -6, -7, -9, -13]
    /// From so many candidates between the two on, another pass costs less than they do.
    private static let many: Float = 1024
    private static let passes = 3

    /// Finds them in the pass that the logits need anyway.
    ///
    /// - Parameters:
    ///   - logits: [count]
    ///   - values: [count], may be the same: (logits − highest) / temperature, as `Sampler.shift` has it.
    ///   - highest: the highest logit, finite.
    ///   - share: 0 to 1.
    init(
        _ logits: UnsafePointer<Float>, _ values: UnsafeMutablePointer<Float>, _ count: Int,
        highest: Float, temperature: Float, share: Float, _ kernels: Kernels.Table
    ) {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: Self.width) { sums in
            guard let sums = sums.baseAddress else { return }
            let total = kernels.pointee.temper_above(
                logits, count, highest, temperature, values, Self.first, sums)
            target = Double(share) * total
            take(Self.first, sums, count)
        }
    }

    /// Brings them closer together, if it pays.
    ///
    /// - Parameters:
    ///   - values: [count], all from `enough` on.
    ///   - weights: their exponentials.
    mutating func narrow(
        _ values: UnsafePointer<Float>, _ weights: UnsafePointer<Float>, _ count: Int,
        _ kernels: Kernels.Table
    ) {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * Self.width) { both in
            guard let limits = both.baseAddress else { return }
            let sums = limits + Self.width
            for _ in 1..<Self.passes where isWide {
                let highest = min(tooFew, 0)
                let step = (highest - enough) / Float(Self.width + 1)
                for place in 0..<Self.width { limits[place] = highest - step * Float(place + 1) }
                kernels.pointee.masses_above(weights, values, count, limits, sums)
                take(limits, sums, count)
            }
        }
    }

    /// Whether many lie between the two: at least as many as there would be if all had the larger value.
    private var isWide: Bool {
        enough > -.infinity && massEnough - massTooFew > Self.many * ck_exp(min(tooFew, 0))
    }

    /// Descending limits, and what there is from each on.
    private mutating func take(
        _ limits: UnsafePointer<Float>, _ sums: UnsafePointer<Float>, _ count: Int
    ) {
        // A lane takes count / 16 + 1 additions, four more join the lanes, and each may be wrong by 2^-24. Twice that covers their
        // products.
        let margin = Double(count / 16 + 8) * 0x1p-23
        for place in 0..<Self.width {
            let (limit, sum) = (limits[place], sums[place])
            if Double(sum) < target * (1 - margin), limit < tooFew {
                (tooFew, massTooFew) = (limit, sum)
            }
            if Double(sum) >= target * (1 + margin) {
                if limit > enough { (enough, massEnough) = (limit, sum) }
                return
            }
        }
    }
}
