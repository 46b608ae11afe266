// SPDX-License-Identifier: Apache-2.0

import Engine
import Testing

@testable import mmfreectl

@Suite("What bench --tune chooses")
struct TuningChoiceTests {
    private typealias Candidate = TuningChoice.Candidate
    private let now: TuningChoice.Candidate
    private var choice: TuningChoice

    init() throws {
        now = Candidate(
            kernels: "scalar", tuning: Tuning(try Kernels.select("scalar")), name: "now")
        choice = TuningChoice(now: now, works: [.decode(1), .prompt(128)])
    }

    /// The choice now, but for the parts that `text` names.
    private func candidate(_ text: String, kernels: String = "scalar") throws -> Candidate {
        var tuning = now.tuning
        try tuning.change(text)
        return Candidate(kernels: kernels, tuning: tuning, name: text)
    }

    /// What rounds have found of a candidate, at all works the same.
    private mutating func measure(_ candidate: Candidate, _ rounds: [Double]) {
        for ratio in rounds { for work in choice.works { choice.add(ratio, of: candidate, work) } }
    }

    @Test("the median of the rounds counts, so one that was disturbed does not")
    mutating func median() throws {
        let odd = try candidate("shares=1")
        measure(odd, [1.1, 9, 1.05])
        #expect(choice.ratio(odd, .decode(1)) == 1.1)
        let even = try candidate("shares=2")
        measure(even, [1.25, 0.1, 1.75, 1.5])
        #expect(choice.ratio(even, .prompt(128)) == 1.375)
        #expect(choice.ratio(try candidate("shares=3"), .decode(1)).isNaN, "not measured")
    }

    @Test(
        "what is as fast, slower, less than 2 % faster or not measured keeps what is chosen now",
        arguments: [
            [1, 1, 1, 1], [0.9, 0.9, 0.9, 0.9], [1.019, 1.019, 1.019, 1.019], [],
        ])
    mutating func ties(_ rounds: [Double]) throws {
        let other = try candidate("shares=1,few=64K,many=1024K,fused=no")
        measure(other, rounds)
        let best = choice.best(of: [other])
        #expect(best.tuning == now.tuning && best.kernels == now.kernels)
        #expect(choice.advice(best).hasPrefix("Nothing was 2 % faster"))
    }

    @Test("what was faster in fewer than three of four rounds is noise, however much it was faster")
    mutating func noise() throws {
        let other = try candidate("shares=1")
        measure(other, [1.5, 0.99, 1.5, 0.99, 1.5])
        #expect(choice.ratio(other, .decode(1)) == 1.5)
        #expect(choice.best(of: [other]).tuning == now.tuning)
        let steady = try candidate("fused=no")
        measure(steady, [1.5, 0.99, 1.5, 1.5])
        #expect(choice.best(of: [other, steady]).tuning == steady.tuning)
    }

    @Test("what gains at one work and loses as much at another is not faster")
    mutating func mean() throws {
        let other = try candidate("many=1024K")
        for _ in 0..<4 {
            choice.add(1.25, of: other, .prompt(128))
            choice.add(0.8, of: other, .decode(1))
        }
        #expect(choice.best(of: [other]).tuning == now.tuning)
    }

    @Test("parts that alone were faster are taken together; of two for one part the faster one")
    mutating func together() throws {
        let few = try candidate("few=64K")
        let fused = try candidate("fused=no")
        let shares = try (candidate("shares=1"), candidate("shares=12"), candidate("shares=2"))
        measure(few, [1.03, 1.03])
        measure(fused, [0.97, 0.97])
        measure(shares.0, [1.04, 1.04])
        measure(shares.1, [1.2, 1.2])
        measure(shares.2, [1.1, 1.1])
        let best = choice.best(of: [few, fused, shares.0, shares.1, shares.2])
        #expect(try best.tuning == candidate("few=64K,shares=12").tuning)
        #expect(
            choice.advice(best).hasPrefix("Nothing"), "before both have been measured together")
        measure(best, [1.25, 1.25])
        #expect(
            choice.advice(best)
                == "1.250 times as fast, all together: MMFREED_TUNING=\(best.tuning.text)")
    }

    @Test("other kernels are advised with a cut of their own, and never mixed with another's")
    mutating func kernels() throws {
        let other = try candidate("shares=1", kernels: "avx2")
        measure(other, [1.3, 1.3])
        let best = choice.best(of: [other])
        #expect(best.tuning == now.tuning && best.kernels == "scalar")
        #expect(
            choice.advice(best)
                == "1.300 times as fast, with its own cut of the work: MMFREED_KERNELS=avx2")
    }
}
