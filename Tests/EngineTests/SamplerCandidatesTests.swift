// SPDX-License-Identifier: Apache-2.0

import CKernels
import Glibc
import TestSupport
import Testing

@testable import Engine

@Suite("What a sampler keeps of very many candidates")
struct SamplerCandidatesTests {
    /// All logits as candidates, and their ids as a full sort has them: likeliest first, lower ids first on ties.
    private func gather(_ logits: [Float]) -> (SamplerCandidates, [UInt32], highest: Float) {
        let highest = logits.max() ?? 0
        var candidates = SamplerCandidates(kernels: ck_best())
        candidates.gather(
            logits, logits.count, atLeast: -.infinity, shift: highest)
        let distances = logits.map { highest - $0 }
        let sorted = logits.indices.sorted {
            distances[$0] != distances[$1] ? distances[$0] < distances[$1] : $0 < $1
        }
        return (candidates, sorted.map(UInt32.init), highest)
    }

    /// Flat, or as a model's, or with many that are equal.
    private func logits(_ count: Int, _ seed: UInt64) -> [Float] {
        var random = Randomness(seed: seed)
        let logits = SamplerReference.logits(count, &random)
        return seed % 3 == 0 ? logits.map { ($0 * 4).rounded() / 4 } : logits
    }

    @Test("the k most likely are a full sort's", arguments: 0..<24)
    func count(_ seed: UInt64) {
        let logits = logits([600, 5_000, 32_000][Int(seed) % 3], seed)
        var random = Randomness(seed: seed + 100)
        for k in [1, 2, logits.count / 2, logits.count - 1, Int(random.next() % 600) + 1] {
            var (candidates, sorted, _) = gather(logits)
            candidates.keepMostLikely(k)
            // Thousands of numbers would be printed.
            let isEqual = candidates.mostLikely(.max).map(\.id) == Array(sorted.prefix(k))
            #expect(isEqual, "the \(k) most likely of \(logits.count)")
        }
    }

    @Test("the fewest that make up a mass are a full sort's", arguments: 0..<24)
    func mass(_ seed: UInt64) {
        let logits = logits([600, 5_000, 32_000][Int(seed) % 3], seed)
        for share in [0, 0.02, 0.5, 0.9, 0.999] {
            var (candidates, sorted, highest) = gather(logits)
            let target = share * candidates.mass
            var (sum, kept) = (0.0, 0)
            while kept == 0 || sum < target {
                sum += Double(exp(logits[Int(sorted[kept])] - highest))
                kept += 1
            }
            candidates.keepMass(target)
            // The exponentials here are the C library's: one more or less may reach the mass.
            let found = candidates.mostLikely(.max).map(\.id)
            #expect(abs(found.count - kept) <= 1 + kept / 1_000)
            let isPrefix = found == Array(sorted.prefix(found.count))
            #expect(isPrefix, "\(share) of \(logits.count)")
        }
    }

    @Test(
        "limits among logits that are all but equal, and among very distant ones",
        arguments: [1e-6, 1e-4, 1e2, 1e5] as [Float])
    func extremes(_ scale: Float) {
        let logits = logits(5_000, 1).map { $0 * scale }
        for k in [1, 1_000, 4_999] {
            var (candidates, sorted, _) = gather(logits)
            candidates.keepMostLikely(k)
            let isEqual = candidates.mostLikely(.max).map(\.id) == Array(sorted.prefix(k))
            #expect(isEqual, "the \(k) most likely")
        }
        var (candidates, sorted, _) = gather(logits)
        candidates.keepMass(0.5 * candidates.mass)
        let found = candidates.mostLikely(.max).map(\.id)
        let isPrefix = found == Array(sorted.prefix(found.count))
        #expect(isPrefix && (1...3_000).contains(found.count))
    }

    @Test(
        "the mass is looked for between two values, and the same ones are kept", arguments: 0..<36)
    func bounds(_ seed: UInt64) {
        var random = Randomness(seed: seed)
        let scale = ([0.01, 1, 4, 30] as [Float])[Int(random.next() % 4)]
        let logits = logits([1, 40, 700, 32_000][Int(seed) % 4], seed).map { $0 * scale }
        let highest = logits.max() ?? 0
        var values = logits.map { $0 - highest }
        let weights = values.map { Double(ck_exp($0)) }
        for share: Float in [1e-3, 0.3, 0.9, 0.999] {
            var bounds = MassBounds(
                logits, &values, logits.count, highest: highest, temperature: 1, share: share,
                ck_best())
            let whole = Double(share) * weights.reduce(0, +)
            #expect(abs(bounds.target - whole) <= 5e-7 * whole)
            // What the two values promise, closer together or not.
            func mass(from value: Float) -> Double {
                zip(values, weights).reduce(0) { $0 + ($1.0 >= value ? $1.1 : 0) }
            }
            func expectPromised() {
                #expect(mass(from: bounds.tooFew) < bounds.target && bounds.enough < bounds.tooFew)
                #expect(bounds.enough == -.infinity || mass(from: bounds.enough) >= bounds.target)
            }
            expectPromised()

            var (all, _, _) = gather(values)
            all.keepMass(bounds.target)
            var some = SamplerCandidates(kernels: ck_best())
            some.gather(values, values.count, atLeast: bounds.enough, shift: 0)
            some.keepMass(within: bounds)
            let wanted = all.mostLikely(.max)
            let isEqual = some.mostLikely(.max).map(\.id) == wanted.map(\.id)
            #expect(isEqual, "\(share) of \(logits.count)")

            // Of what min-p leaves, which may be less than reaches the mass.
            let floor: Float = -1.5
            some.gather(values, values.count, atLeast: max(bounds.enough, floor), shift: 0)
            some.keepMass(within: bounds)
            let left = wanted.filter { $0.value >= floor }
            let isLeft = some.mostLikely(.max).map(\.id) == left.map(\.id)
            #expect(isLeft, "\(share) of \(logits.count), from a floor on")

            bounds.narrow(values, weights.map(Float.init), values.count, ck_best())
            expectPromised()
        }
    }

    @Test("a sum that was rounded up says nothing")
    func rounding() {
        // Fifteen of 20.52 units in the last place of the likeliest one's weight in one lane with it: each is rounded up to 21. Without the
        // last one the mass is not reached, and yet those from -13 on seem to reach it.
        var values = [Float](repeating: -40, count: 256)
        for place in 1...15 { values[16 * place] = -12.9209 }
        (values[0], values[1]) = (0, -13.5)
        let share = 1 - 16 * Float(0x1p-24)
        var same = values
        let bounds = MassBounds(
            values, &same, values.count, highest: 0, temperature: 1, share: share, ck_best())
        let without = values.reduce(0) { $0 + ($1 > -13 ? Double(ck_exp($1)) : 0) }
        #expect(without < bounds.target)
        var candidates = SamplerCandidates(kernels: ck_best())
        candidates.gather(values, values.count, atLeast: bounds.enough, shift: 0)
        candidates.keepMass(within: bounds)
        #expect(candidates.mostLikely(.max).map(\.id) == (0...15).map { 16 * $0 } + [1])
    }

    @Test("the order of bins is the order of distances, and their sums are told")
    func bins() {
        // From 2^-11 to 2^8, and the ends.
        let distances = (0..<2_000).map { Float(0x1p-11 * exp2(Double($0) * 19 / 2_000)) }
        let values: [Float] = [0] + distances + [.infinity]
        let keys = values.enumerated().map { UInt64($1.bitPattern) << 32 | UInt64($0) }
        let bins = keys.map { DistanceHistogram.bin($0) }
        #expect(bins == bins.sorted() && Set(bins).count > 500)
        for (key, bin) in zip(keys, bins) {
            #expect(DistanceHistogram.keys(bin).contains(key))
            let (first, last) = (
                DistanceHistogram.keys(bin).lowerBound, DistanceHistogram.keys(bin).upperBound
            )
            #expect(DistanceHistogram.bin(first) == bin && DistanceHistogram.bin(last) == bin)
        }
        var histogram = DistanceHistogram()
        let measures = values.indices.map { Float($0 % 3) }
        for target in [0, 1, 700.5, 1_999, 5_000] {
            let (found, before) = keys.withUnsafeBufferPointer { keys in
                measures.withUnsafeBufferPointer { histogram.find(target, from: 1, keys, $0) }
            }
            let bin = DistanceHistogram.bin(found.lowerBound)
            let sum = zip(bins, measures).reduce(1) { $0 + ($1.0 < bin ? Double($1.1) : 0) }
            let with = zip(bins, measures).reduce(1) { $0 + ($1.0 <= bin ? Double($1.1) : 0) }
            #expect(before == sum && (before < target || bin == 0))
            // The last one of all, if it is never reached.
            #expect(with >= target || bin == bins.last)
        }
    }

    @Test("a second limit is one among those that the first has kept")
    func twice() {
        var (candidates, sorted, _) = gather(logits(32_000, 1))
        candidates.keepMostLikely(20_000)
        candidates.keepMass(0.5 * candidates.mass)
        let found = candidates.mostLikely(.max).map(\.id)
        let isPrefix = found == Array(sorted.prefix(found.count))
        #expect(isPrefix)
        #expect((1_000..<20_000).contains(found.count))
    }

    @Test("more than there is keeps all")
    func beyond() {
        var (candidates, sorted, _) = gather(logits(5_000, 2))
        candidates.keepMass(2 * candidates.mass)
        let isAll = candidates.mostLikely(.max).map(\.id) == sorted
        #expect(isAll)
    }
}
