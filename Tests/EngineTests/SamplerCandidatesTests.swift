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

    @Test("a distance lies in the bin that it is counted in, and in no other")
    func bins() {
        var random = Randomness(seed: 9)
        let patterns = (0..<2_000).map { _ in UInt32(random.next() % 0x7F80_0000) }
        // From 2^-10 to 2^7.
        let edges: [UInt32] = (3_744...4_288).flatMap { (bin: UInt32) -> [UInt32] in
            let first = bin << 18
            return [first - 1, first, first + 1]
        }
        var histogram = DistanceHistogram()
        let ends: [UInt32] = [0, 1, Float.infinity.bitPattern]
        for pattern in patterns + edges + ends {
            let distance = Float(bitPattern: pattern)
            let values: [Float] = [-distance]
            let (bin, before) = values.withUnsafeBufferPointer { histogram.find(1, $0, nil) }
            #expect(before == 0)
            #expect(DistanceHistogram.distances(bin).contains(distance))
            #expect(bin == 0 || !DistanceHistogram.distances(bin - 1).contains(distance))
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
