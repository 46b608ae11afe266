// SPDX-License-Identifier: Apache-2.0

internal import CKernels

/// The tokens a choice is made among, in the order of their ids, and the limit down to which they are kept. Buffers are used
/// again from token to token.
struct SamplerCandidates: Sendable {
    /// How many there are. The buffers are as long as the most there have been so far, or longer.
    private(set) var count = 0
    private var ids: [UInt32] = []
    /// Logits relative to the highest, so 0 at most.
    private var values: [Float] = []
    /// exp(values): the highest has 1. Zero for those dropped.
    private var weights: [Float] = []
    /// One for each candidate still kept: its distance below the highest, then its index. Smaller is likelier, the lower id on
    /// ties; no two are equal.
    private var keys: [UInt64] = []
    private var kept = 0
    /// Whether `keys` are of these candidates: not before some are to be dropped.
    private var hasKeys = false
    private var histogram = DistanceHistogram()
    /// Keys of one bin.
    private var middle: [UInt64] = []

    /// The sum of the weights that are kept.
    var mass: Double { weights.withUnsafeBufferPointer { Self.sum($0, 0..<count) } }

    /// Takes all of logits[0..<n] that are at least shift + threshold. shift: the highest logit. What is not a number is left
    /// out.
    mutating func gather(
        _ logits: UnsafePointer<Float>, _ n: Int, atLeast threshold: Float, shift: Float,
        _ kernels: Kernels.Table
    ) {
        count = kernels.pointee.select_at_least(logits, n, threshold + shift, &ids, ids.count)
        if count > ids.count {
            grow(to: min(n, max(count, 2 * ids.count, 1024)))
            count = kernels.pointee.select_at_least(logits, n, threshold + shift, &ids, ids.count)
        }
        kept = count
        hasKeys = false
        let count = count
        values.withUnsafeMutableBufferPointer { values in
            ids.withUnsafeBufferPointer { ids in
                for index in 0..<count { values[index] = logits[Int(ids[index])] - shift }
            }
        }
        kernels.pointee.exp_shifted(values, count, 0, &weights)
    }

    private mutating func makeKeys() {
        guard !hasKeys else { return }
        hasKeys = true
        let count = count
        keys.withUnsafeMutableBufferPointer { keys in
            values.withUnsafeBufferPointer { values in
                for index in 0..<count {
                    keys[index] =
                        UInt64(values[index].magnitude.bitPattern) << 32 | UInt64(index)
                }
            }
        }
    }

    private mutating func grow(to size: Int) {
        ids = [UInt32](repeating: 0, count: size)
        values = [Float](repeating: 0, count: size)
        weights = values
        keys = [UInt64](repeating: 0, count: size)
    }

    // MARK: Keeping some

    /// Keeps the k most likely ones.
    mutating func keepMostLikely(_ k: Int) {
        guard k < kept else { return }
        drop(from: cut(Double(k), counting: true))
    }

    /// Keeps the fewest most likely ones whose weights add up to `target`; one at least.
    mutating func keepMass(_ target: Double) { drop(from: cut(target, counting: false)) }

    /// Keeps those with at least this weight; the likeliest always.
    mutating func keepWeights(atLeast least: Float) {
        for index in 0..<count where weights[index] < least { weights[index] = 0 }
    }

    /// Puts the most likely candidates whose measures (1 each, or their weights) add up to `target` at the front of `keys`;
    /// returns how many.
    ///
    /// Quickselect: the side of each partition that holds the end is partitioned again. Of very many only the bin that holds it.
    private mutating func cut(_ target: Double, counting: Bool) -> Int {
        makeKeys()
        var (low, before) = (0, 0.0)
        if kept > Self.many { (low, before) = narrow(target, counting: counting) }
        var high = kept
        while high - low > 24 {
            let middle = partition(low, high)
            var sum = before
            if counting {
                sum += Double(middle - low)
            } else {
                for index in low..<middle { sum += weight(index) }
            }
            if sum >= target {
                high = middle
            } else {
                (low, before) = (middle, sum)
            }
        }
        sort(low..<high)
        while low < high {
            before += counting ? 1 : weight(low)
            low += 1
            if before >= target { break }
        }
        return low
    }

    private static let many = 512

    /// Drops what is beyond the bin where `target` is reached, and puts that bin's keys last.
    ///
    /// - Returns: where they begin, and the sum of all before.
    private mutating func narrow(_ target: Double, counting: Bool) -> (Int, Double) {
        if middle.count < kept { middle = [UInt64](repeating: 0, count: keys.count) }
        let kept = kept
        let (low, high, before) = keys.withUnsafeMutableBufferPointer { keys in
            weights.withUnsafeMutableBufferPointer { weights in
                let (bin, before) = histogram.find(
                    target, UnsafeBufferPointer(rebasing: keys[..<kept]),
                    counting ? nil : UnsafeBufferPointer(weights))
                return middle.withUnsafeMutableBufferPointer { middle in
                    var (low, inside) = (0, 0)
                    for place in 0..<kept {
                        let key = keys[place]
                        let own = DistanceHistogram.bin(key)
                        if own < bin {
                            keys[low] = key
                            low += 1
                        } else if own == bin {
                            middle[inside] = key
                            inside += 1
                        } else {
                            weights[Int(key & 0xFFFF_FFFF)] = 0
                        }
                    }
                    for index in 0..<inside { keys[low + index] = middle[index] }
                    return (low, low + inside, before)
                }
            }
        }
        self.kept = high
        return (low, before)
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

    private mutating func drop(from place: Int) {
        for key in keys[place..<kept] { weights[Int(key & 0xFFFF_FFFF)] = 0 }
        kept = place
    }

    // MARK: Choosing

    /// The `limit` most likely ones, most likely first, with their logits relative to the highest.
    mutating func mostLikely(_ limit: Int) -> [(id: UInt32, value: Float)] {
        keepMostLikely(limit)
        makeKeys()
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
