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
    /// Of a bin: indices of its candidates, and their values.
    private var binIndices: [UInt32] = []
    private var binValues: [Float] = []
    private var histogram = DistanceHistogram()
    private let kernels: Kernels.Table

    init(kernels: Kernels.Table) { self.kernels = kernels }

    /// A candidate's distance below the highest, then its index. Smaller is likelier, the lower id on ties; no two are equal.
    @inline(__always)
    private static func key(_ value: Float, _ index: Int) -> UInt64 {
        UInt64(value.magnitude.bitPattern) << 32 | UInt64(index)
    }

    /// The sum of the weights that are kept.
    var mass: Double { weights.withUnsafeBufferPointer { Self.sum($0, 0..<count) } }

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
        (binIndices, binValues) = (ids, values)
    }

    // MARK: Keeping some

    /// Keeps the k most likely ones.
    mutating func keepMostLikely(_ k: Int) {
        if k < count { cut(Double(k), counting: true) }
    }

    /// Keeps the fewest most likely ones whose weights add up to `target`; one at least.
    mutating func keepMass(_ target: Double) { cut(target, counting: false) }

    /// Keeps those with at least this weight; the likeliest always.
    mutating func keepWeights(atLeast least: Float) {
        weights.withUnsafeMutableBufferPointer { weights in
            guard let base = weights.baseAddress else { return }
            kernels.pointee.drop_below(base, base, count, least)
        }
    }

    /// Drops all but the most likely candidates whose measures (1 each, or their weights) add up to `target`; keeps one at least.
    ///
    /// Quickselect: the side of each partition that holds the end is partitioned again. Of very many only the bin that holds it.
    private mutating func cut(_ target: Double, counting: Bool) {
        var (low, high, before) = (0, 0, 0.0)
        if count > Self.many {
            let bin: Int
            (bin, before) = values.withUnsafeBufferPointer { values in
                weights.withUnsafeBufferPointer { weights in
                    histogram.find(
                        target, UnsafeBufferPointer(rebasing: values[..<count]),
                        counting ? nil : weights)
                }
            }
            high = collect(DistanceHistogram.distances(bin))
        } else {
            high = collectKept()
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

    /// Puts the keys of those at these distances in front of `keys`; returns how many.
    private mutating func collect(_ distances: ClosedRange<Float>) -> Int {
        let found = kernels.pointee.select(
            values, count, -distances.upperBound, -distances.lowerBound, 0, &binIndices,
            &binValues, binIndices.count)
        keys.withUnsafeMutableBufferPointer { keys in
            for place in 0..<found {
                keys[place] = Self.key(binValues[place], Int(binIndices[place]))
            }
        }
        return found
    }

    /// The same of all that are kept.
    private mutating func collectKept() -> Int {
        let (count, last) = (count, last)
        return keys.withUnsafeMutableBufferPointer { keys in
            var found = 0
            for index in 0..<count {
                let key = Self.key(values[index], index)
                keys[found] = key
                found += key <= last ? 1 : 0
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
        ids[weights.withUnsafeBufferPointer { Self.pick(.init(rebasing: $0[..<count]), unit) }]
    }

    /// The index where the running sum of the weights passes `unit` of their whole. Some weight must be positive.
    static func pick(_ weights: UnsafeBufferPointer<Float>, _ unit: Double) -> Int {
        // Block by block: four sums side by side are four times as fast, and only one block needs a closer look.
        let blocks = stride(from: 0, to: weights.count, by: 512).lazy.map {
            $0..<min($0 + 512, weights.count)
        }
        var left = 0.0
        for block in blocks { left += sum(weights, block) }
        left *= unit
        var last = 0
        for block in blocks {
            let sum = sum(weights, block)
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

    private static func sum(_ weights: UnsafeBufferPointer<Float>, _ range: Range<Int>) -> Double {
        var (a, b, c, d) = (0.0, 0.0, 0.0, 0.0)
        var index = range.lowerBound
        while index + 4 <= range.upperBound {
            a += Double(weights[index])
            b += Double(weights[index + 1])
            c += Double(weights[index + 2])
            d += Double(weights[index + 3])
            index += 4
        }
        while index < range.upperBound {
            a += Double(weights[index])
            index += 1
        }
        return (a + b) + (c + d)
    }
}
