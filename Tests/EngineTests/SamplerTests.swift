// SPDX-License-Identifier: Apache-2.0

import CKernels
import Engine
import Glibc
import Testing

@Suite("The sampler")
struct SamplerTests {
    private func options(_ change: (inout SamplingOptions) -> Void) -> SamplingOptions {
        var options = SamplingOptions()
        options.temperature = 1
        options.topP = 1
        change(&options)
        return options
    }

    private func draw(
        _ count: Int, _ options: SamplingOptions, _ logits: [Float], prompt: [UInt32] = [],
        kernels: Kernels.Table = ck_best()
    ) -> [UInt32] {
        var sampler = Sampler(options, prompt: prompt, kernels: kernels)
        return (0..<count).map { _ in logits.withUnsafeBufferPointer { sampler.sample($0).id } }
    }

    // MARK: Greedy

    @Test("temperature 0 takes the most likely token, the lowest id on ties")
    func greedy() {
        #expect(draw(2, .greedy, [1, 5, 2, 5]) == [1, 1])
        #expect(
            draw(
                1,
                options {
                    $0.temperature = 0
                    $0.topK = 2
                    $0.topP = 0.1
                }, [0, 1, 2]) == [2])
    }

    @Test("temperature 0 looks at the logits after penalties and bias")
    func greedyChanged() {
        #expect(
            draw(
                1,
                options {
                    $0.temperature = 0
                    $0.logitBias = [0: 9]
                }, [1, 5]) == [0])
        let presence = options {
            $0.temperature = 0
            $0.presencePenalty = 2
        }
        #expect(draw(4, presence, [4, 5, 3.5]) == [1, 0, 2, 1])
        let frequency = options {
            $0.temperature = 0
            $0.frequencyPenalty = 1
        }
        #expect(draw(5, frequency, [4.5, 6]) == [1, 1, 0, 1, 0])
    }

    @Test("the repetition penalty counts the prompt, presence and frequency only the answer")
    func penalties() {
        let repetition = options {
            $0.temperature = 0
            $0.repetitionPenalty = 2
        }
        #expect(draw(3, repetition, [4, 3, 1], prompt: [0]) == [1, 0, 0])
        // Negative logits are multiplied.
        #expect(draw(1, repetition, [-1, -1.5], prompt: [0]) == [1])
        let presence = options {
            $0.temperature = 0
            $0.presencePenalty = 2
        }
        #expect(draw(1, presence, [4, 3], prompt: [0]) == [0])
        // A prompt may name tokens there are no logits for.
        #expect(draw(1, repetition, [4, 3], prompt: [7]) == [0])
    }

    // MARK: Distributions

    @Test(
        "top-k, top-p and min-p keep what a full sort keeps, and draw it as often as they should",
        arguments: 0..<48)
    func reference(_ seed: UInt64) {
        var random = Randomness(seed: seed)
        let count = [1, 2, 7, 40, 300, 1200][Int(seed) % 6]
        let logits = SamplerReference.logits(count, &random)
        let prompt = (0..<5).map { _ in UInt32(random.next() % UInt64(count)) }
        let options = options {
            $0.seed = seed
            $0.temperature = [0.3, 0.7, 1, 1.7][Int(random.next() % 4)]
            if seed & 1 != 0 { $0.topK = 1 + Int(random.next() % UInt64(count)) }
            if seed & 2 != 0 { $0.topP = Float(random.unit()) }
            if seed & 4 != 0 { $0.minP = Float(random.unit() * 0.2) }
            if seed & 8 != 0 { $0.repetitionPenalty = 1.3 }
            if seed & 16 != 0 { $0.logitBias = [0: 2] }
        }
        let expected = SamplerReference.probabilities(logits, options, prompt: prompt)
        let draws = 120
        var seen = [Int](repeating: 0, count: count)
        // A new sampler for each draw, so that its own answer does not change the penalty.
        var seeds = Randomness(seed: seed)
        for _ in 0..<draws {
            var again = options
            again.seed = seeds.next()
            seen[Int(draw(1, again, logits, prompt: prompt)[0])] += 1
        }
        for id in seen.indices where expected[id] == 0 { #expect(seen[id] == 0, "token \(id)") }
        expectLikely(seen, expected)
    }

    @Test("frequencies are the probabilities", arguments: [0.5, 1, 2] as [Float])
    func frequencies(_ temperature: Float) {
        var random = Randomness(seed: 11)
        let logits = SamplerReference.logits(60, &random)
        let options = options {
            $0.temperature = temperature
            $0.seed = 99
        }
        var seen = [Int](repeating: 0, count: logits.count)
        for id in draw(20_000, options, logits) { seen[Int(id)] += 1 }
        expectLikely(seen, SamplerReference.probabilities(logits, options))
    }

    /// Pearson's chi-square over tokens expected five times and more, the rest taken together, against its 1 − 10⁻⁵ quantile
    /// (Wilson and Hilferty).
    private func expectLikely(_ seen: [Int], _ probabilities: [Double]) {
        let draws = Double(seen.reduce(0, +))
        var (chi, groups, restSeen, restExpected) = (0.0, 0, 0.0, 0.0)
        for id in seen.indices {
            let expected = probabilities[id] * draws
            if expected >= 5 {
                chi += (Double(seen[id]) - expected) * (Double(seen[id]) - expected) / expected
                groups += 1
            } else {
                restSeen += Double(seen[id])
                restExpected += expected
            }
        }
        if restExpected >= 5 {
            chi += (restSeen - restExpected) * (restSeen - restExpected) / restExpected
            groups += 1
        }
        let freedom = Double(max(1, groups - 1))
        let root = 1 - 2 / (9 * freedom) + 4.26 * (2 / (9 * freedom)).squareRoot()
        #expect(chi <= freedom * root * root * root, "\(groups) groups")
    }

    @Test("top-p keeps a token if those before it add up to less than p, and one at least")
    func topP() {
        // Probabilities 0.5, 0.25, 0.25.
        let logits: [Float] = [0, log(0.5), log(0.5)]
        func kept(_ p: Float) -> Set<UInt32> { Set(draw(300, options { $0.topP = p }, logits)) }
        #expect(kept(0) == [0])
        #expect(kept(0.49) == [0])
        #expect(kept(0.51) == [0, 1])
        #expect(kept(0.8) == [0, 1, 2])
    }

    @Test("on ties top-k keeps the lower ids, and exactly k")
    func topKTies() {
        let logits = [Float](repeating: 1, count: 200)
        #expect(Set(draw(2_000, options { $0.topK = 5 }, logits)) == [0, 1, 2, 3, 4])
        #expect(Set(draw(50, options { $0.topK = 1 }, logits)) == [0])
        #expect(Set(draw(4_000, options { $0.topP = 0.125 }, logits)) == Set(0..<25))
    }

    // MARK: Determinism

    @Test("a seed gives this sequence, on every machine", arguments: Kernels.runnable)
    func sequence(_ table: String) throws {
        let kernels = try Kernels.select(table)
        var random = Randomness(seed: 3)
        let logits = SamplerReference.logits(1000, &random)
        let all = options { $0.seed = 7 }
        #expect(draw(8, all, logits, kernels: kernels) == Self.expectedOfAll)
        let some = options {
            $0.seed = 7
            $0.temperature = 0.8
            $0.topK = 200
            $0.topP = 0.9
            $0.minP = 0.01
            $0.repetitionPenalty = 1.1
        }
        #expect(draw(8, some, logits, prompt: [1, 2, 3], kernels: kernels) == Self.expectedOfSome)
    }

    static let expectedOfAll: [UInt32] = [702, 277, 840, 981, 990, 874, 60, 104]
    static let expectedOfSome: [UInt32] = [731, 268, 877, 988, 994, 900, 75, 122]

    @Test(
        "of a flat vocabulary top-p draws what is defined, on every machine",
        arguments: Kernels.runnable)
    func flat(_ table: String) throws {
        let kernels = try Kernels.select(table)
        var random = Randomness(seed: 4)
        let logits = (0..<32_000).map { _ in
            Float((0..<4).reduce(-2.0) { sum, _ in sum + random.unit() })
        }
        for minP: Float in [0, 0.06] {
            var options = options {
                $0.temperature = 0.7
                $0.topP = 0.9
                $0.minP = minP
            }
            let expected = SamplerReference.probabilities(logits, options)
            var through = expected
            for id in through.indices.dropFirst() { through[id] += through[id - 1] }
            for seed: UInt64 in 0..<20 {
                options.seed = seed
                let id = Int(draw(1, options, logits, kernels: kernels)[0])
                var numbers = Randomness(seed: seed)
                let unit = numbers.unit()
                // A token is some 5e-5; weights are in single precision.
                #expect(expected[id] > 0)
                #expect(through[id] - expected[id] - 5e-6 <= unit && unit <= through[id] + 5e-6)
            }
        }
    }

    @Test("the generator is xoshiro256** seeded by SplitMix64")
    func generator() {
        var random = Randomness(seed: 0)
        #expect((0..<3).map { _ in random.next() } == Self.expectedNumbers)
        #expect((0..<1000).allSatisfy { _ in (0..<1).contains(random.unit()) })
    }

    static let expectedNumbers: [UInt64] = [
        11_091_344_671_253_066_420, 13_793_997_310_169_335_082, 1_900_383_378_846_508_768,
    ]

    @Test("other seeds give other sequences")
    func seeds() {
        let logits = [Float](repeating: 0, count: 1000)
        let rows = Set((0..<20).map { seed in draw(4, options { $0.seed = seed }, logits) })
        #expect(rows.count == 20)
    }

    // MARK: Logits that are no numbers

    @Test("NaN counts as impossible, all impossible gives token 0, infinity beats all")
    func extremes() {
        let (nan, infinity) = (Float.nan, Float.infinity)
        for temperature in [0, 0.7] as [Float] {
            for filter in 0..<4 {
                let options = options {
                    $0.temperature = temperature
                    if filter & 1 != 0 { $0.topP = 0.9 }
                    if filter & 2 != 0 {
                        $0.topK = 2
                        $0.minP = 0.1
                    }
                    $0.logprobs = 3
                }
                #expect(Set(draw(20, options, [nan, -infinity, nan, 1, nan])) == [3])
                #expect(Set(draw(20, options, [nan, nan, nan])) == [0])
                #expect(Set(draw(20, options, [-infinity, -infinity])) == [0])
                #expect(Set(draw(20, options, [0, infinity, 3])) == [1])
            }
        }
        let forbidden = options { $0.logitBias = [0: -infinity, 2: -infinity] }
        #expect(Set(draw(50, forbidden, [infinity, 1, 9])) == [1])
        let tiny = options { $0.temperature = .leastNonzeroMagnitude }
        #expect(Set(draw(20, tiny, [1, 1.5, 1.25])) == [1])
        #expect(Set(draw(500, options { _ in }, [-3e38, 3e38, 3e38, 0])) == [1, 2])
    }
}
