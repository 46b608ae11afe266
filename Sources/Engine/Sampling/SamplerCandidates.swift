// SPDX-License-Identifier: Apache-2.0

internal import CKernels

/// The tokens a choice is made among, in the order of their ids, and the limit down to which they are kept. Buffers are used
/// again from token to token.
struct SamplerCandidates {
    /// How many there are. The buffers are as long as the most there have been so far, or longer.
    private(set) var count = 0
    private var ids: [UInt32] = []
    /// Logits relative to the highest, so 0 at most.
    private var values: [Float] = []
    /// exp(values): the highest has 1. Zero for those dropped.
    private var weights: [Float] = []
    /// Those with keys beyond this one are dropped.
    private var last = UInt64.max
    /// Keys of the candidates among which a limit falls.
    private var keys: [UInt64] = []
    /// Of those between two values: their indices and values.
    private var nearIndices: [UInt32] = []
    private var nearValues: [Float] = []
    private var histogram = DistanceHistogram()
    private let kernels: Kernels.Table

    init(kernels: Kernels.Table) { self.kernels = kernels }

    /// A candidate's distance below the highest, then its index. Smaller is likelier, the lower id on ties; no two are equal.
    @inline(__always)
    private static func key(_ value: Float, _ index: Int) -> UInt64 {
        UInt64(value.magnitude.bitPattern) << 32 | UInt64(index)
    }

    /// The sum of the weights that are kept.
    var mass: Double { kernels.pointee.mass_above(weights, weights, count, 0) }

    /// Takes all of logits[0..<n] that are at least shift + threshold. shift: the highest logit. What is not a number is left
    /// out.
    mutating func gather(
        _ logits: UnsafePointer<Float>, _ n: Int, atLeast threshold: Float, shift: Float
    ) {
        select(logits, n, threshold + shift, shift)
        if count > ids.count {
            grow(to: min(n, max(count, 2 * ids.count, 1024)))
            select(logits, n, threshold + shift, shift)
        }
        last = .max
        kernels.pointee.exp_shifted(values, count, 0, &weights)
    }

    private mutating func select(
        _ logits: UnsafePointer<Float>, _ n: Int, _ threshold: Float, _ shift: Float
    ) {
        count = kernels.pointee.select(
            logits, n, threshold, .infinity, shift, &ids, &values, ids.count)
    }

    private mutating func grow(to size: Int) {
        ids = [UInt32](repeating: 0, count: size)
        values = [Float](repeating: 0, count: size)
        weights = values
        keys = [UInt64](repeating: 0, count: size)
        (nearIndices, nearValues) = (ids, values)
    }

    // MARK: Keeping some

    /// Keeps the k most likely ones.
    mutating func keepMostLikely(_ k: Int) {
        if k < count { cut(Double(k), counting: true) }
    }

    /// Keeps the fewest most likely ones whose weights add up to `target`; one at least.
    mutating func keepMass(_ target: Double) { cut(target, counting: false) }

    /// The same of the bounds' target, as the first limit.
    ///
    /// - Parameter bounds: all from `enough` on were gathered, or those of them that min-p leaves.
    mutating func keepMass(within bounds: MassBounds) {
        var bounds = bounds
        bounds.narrow(values, weights, count, kernels)
        if bounds.tooFew == .infinity { return keepMass(bounds.target) }
        let before = kernels.pointee.mass_above(weights, values, count, bounds.tooFew)
        let found = collect(from: bounds.enough, below: bounds.tooFew)
        cut(bounds.target, counting: false, among: found, before)
    }

    /// Keeps those with at least this weight; the likeliest always.
    mutating func keepWeights(atLeast least: Float) {
        weights.withUnsafeMutableBufferPointer { weights in
            guard let base = weights.baseAddress else { return }
            kernels.pointee.drop_below(base, base, count, least)
        }
    }

    /// Drops all but the most likely candidates whose measures (1 each, or their weights) add up to `target`; keeps one at least.
    private mutating func cut(_ target: Double, counting: Bool) {
        cut(target, counting: counting, among: collectKept(), 0)
    }

    /// Quickselect: the side of each partition that holds the end is partitioned again. Of very many only the bin that holds it.
    ///
    /// - Parameters:
    ///   - found: so many keys in front of `keys`, among which the end lies.
    ///   - before: the sum of what is likelier than all of them.
    private mutating func cut(
        _ target: Double, counting: Bool, among found: Int, _ before: Double
    ) {
        var (low, high, before) = (0, found, before)
        if high > Self.many {
            let near: ClosedRange<UInt64>
            (near, before) = keys.withUnsafeBufferPointer { keys in
                weights.withUnsafeBufferPointer { weights in
                    histogram.find(
                        target, from: before, UnsafeBufferPointer(rebasing: keys[..<high]),
                        counting ? nil : weights)
                }
            }
            high = keepKeys(of: high, near)
        }
        // Rounding may have left the target out of reach.
        guard high > 0 else { return }
        while high - low > 24 {
            let middle = partition(low, high)
            var sum = before
            if counting {
                sum += Double(middle - low)
            } else {
                for place in low..<middle { sum += weight(place) }
            }
            if sum >= target {
                high = middle
            } else {
                (low, before) = (middle, sum)
            }
        }
        sort(low..<high)
        while low < high - 1 {
            before += counting ? 1 : weight(low)
            if before >= target { break }
            low += 1
        }
        drop(beyond: min(last, keys[low]))
    }

    /// From so many candidates on a histogram pays.
    private static let many = 512

    /// Puts the keys of those with at least `low` and less than `high` in front of `keys`; returns how many.
    private mutating func collect(from low: Float, below high: Float) -> Int {
        let found = kernels.pointee.select(
            values, count, low, high.nextDown, 0, &nearIndices, &nearValues, nearIndices.count)
        keys.withUnsafeMutableBufferPointer { keys in
            for place in 0..<found {
                keys[place] = Self.key(nearValues[place], Int(nearIndices[place]))
            }
        }
        return found
    }

    /// The same of all that are kept.
    private mutating func collectKept() -> Int {
        let (count, last) = (count, last)
        keys.withUnsafeMutableBufferPointer { keys in
            for index in 0..<count { keys[index] = Self.key(values[index], index) }
        }
        return last == .max ? count : keepKeys(of: count, 0...last)
    }

    /// Moves those of the first `count` keys that are within `range` to the front; returns how many. No branch for each: whether one is,
    /// is anybody's guess.
    private mutating func keepKeys(of count: Int, _ range: ClosedRange<UInt64>) -> Int {
        keys.withUnsafeMutableBufferPointer { keys in
            let width = range.upperBound - range.lowerBound
            var found = 0
            for place in 0..<count {
                let key = keys[place]
                keys[found] = key
                found &+= key &- range.lowerBound <= width ? 1 : 0
            }
            return found
        }
    }

    /// In place: a slice of the array would be a copy of it.
    private mutating func sort(_ range: Range<Int>) {
        keys.withUnsafeMutableBufferPointer { $0[range].sort() }
    }

    private func weight(_ place: Int) -> Double {
        Double(weights[Int(keys[place] & 0xFFFF_FFFF)])
    }

    /// Splits keys[low..<high], three or more, into smaller and larger ones, some on both sides; returns where the larger ones
    /// begin.
    private mutating func partition(_ low: Int, _ high: Int) -> Int {
        keys.withUnsafeMutableBufferPointer { keys in
            let (a, b, c) = (keys[low], keys[(low + high) / 2], keys[high - 1])
            let pivot = max(min(a, b), min(max(a, b), c))
            var (left, right) = (low, high - 1)
            while true {
                while keys[left] < pivot { left += 1 }
                while keys[right] > pivot { right -= 1 }
                if left >= right { return left }
                keys.swapAt(left, right)
                // One of the two is the pivot at some time; it moves, and is met again.
                if keys[left] != pivot { left += 1 }
                if keys[right] != pivot { right -= 1 }
            }
        }
    }

    private mutating func drop(beyond key: UInt64) {
        last = key
        let lowest = -Float(bitPattern: UInt32(truncatingIfNeeded: key >> 32))
        // Of those that are as far, the ones before it stay.
        let stay = Int(key & 0xFFFF_FFFF) + 1
        let (count, kernels) = (count, kernels)
        weights.withUnsafeMutableBufferPointer { weights in
            values.withUnsafeBufferPointer { values in
                guard let weights = weights.baseAddress, let values = values.baseAddress else {
                    return
                }
                kernels.pointee.drop_below(weights, values, stay, lowest)
                kernels.pointee.drop_below(
                    weights + stay, values + stay, count - stay, lowest.nextUp)
            }
        }
    }

    // MARK: Choosing

    /// The `limit` most likely ones, most likely first, with their logits relative to the highest.
    mutating func mostLikely(_ limit: Int) -> [(id: UInt32, value: Float)] {
        keepMostLikely(limit)
        let kept = collectKept()
        sort(0..<kept)
        return keys[..<kept].map {
            let index = Int($0 & 0xFFFF_FFFF)
            return (ids[index], values[index])
        }
    }

    /// Draws among those kept, by their weights. unit: [0, 1).
    func draw(_ unit: Double) -> UInt32 {
        let index = weights.withUnsafeBufferPointer {
            Self.pick(.init(rebasing: $0[..<count]), unit, kernels)
        }
        return ids[index]
    }

    /// The index where the running sum of the weights passes `unit` of their whole. Some weight must be positive.
    static func pick(
        _ weights: UnsafeBufferPointer<Float>, _ unit: Double, _ kernels: Kernels.Table
    ) -> Int {
        guard let base = weights.baseAddress else { preconditionFailure("nothing to draw from") }
        // Block by block: only one needs a closer look.
        let blocks = stride(from: 0, to: weights.count, by: 512).lazy.map {
            $0..<min($0 + 512, weights.count)
        }
        func sum(_ block: Range<Int>) -> Double {
            let first = base + block.lowerBound
            return kernels.pointee.mass_above(first, first, block.count, 0)
        }
        var left = 0.0
        for block in blocks { left += sum(block) }
        left *= unit
        var last = 0
        for block in blocks {
            let sum = sum(block)
            if left < sum {
                for index in block where weights[index] > 0 {
                    last = index
                    left -= Double(weights[index])
                    if left < 0 { break }
                }
                return last
            }
            left -= sum
            if sum > 0 { last = block.upperBound - 1 }
        }
        // Rounding has left the last step without a taker.
        while last > 0, weights[last] == 0 { last -= 1 }
        return last
    }
}
