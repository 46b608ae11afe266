// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import ModelStore
import TestSupport
import Testing

@Suite("Log-probabilities")
struct SamplerLogprobTests {
    private func sample(_ logits: [Float], _ change: (inout SamplingOptions) -> Void)
        -> SampledToken
    {
        var options = SamplingOptions.greedy
        change(&options)
        var sampler = Sampler(options, prompt: [])
        return logits.withUnsafeBufferPointer { sampler.sample($0) }
    }

    @Test("are the model's own: logits as they came, before penalties, bias and temperature")
    func own() {
        let token = sample([0, 2, 1]) {
            $0.logitBias = [0: 10]
            $0.logprobs = 2
        }
        let whole = log(1 + exp(1.0) + exp(2.0))
        #expect(token.id == 0)
        #expect(abs(token.logprob - Float(-whole)) < 1e-6)
        #expect(token.top.map(\.id) == [1, 2])
        #expect(abs(token.top[0].logprob - Float(2 - whole)) < 1e-6)
    }

    @Test("are not worked out unless asked for; 0 asks for the chosen token's only")
    func asked() {
        let plain = sample([0, 1]) { _ in }
        #expect(plain.id == 1 && plain.logprob == 0 && plain.top.isEmpty)
        let token = sample([0, 1]) { $0.logprobs = 0 }
        #expect(token.logprob < 0 && token.top.isEmpty)
    }

    @Test("of the likeliest equal a full sort, lower ids first on ties", arguments: 0..<16)
    func sorted(_ seed: UInt64) {
        var random = Randomness(seed: seed)
        var logits = SamplerReference.logits([3, 50, 700, 4000][Int(seed) % 4], &random)
        // Ties.
        for _ in 0..<logits.count / 8 {
            logits[Int(random.next() % UInt64(logits.count))] =
                logits[Int(random.next() % UInt64(logits.count))]
        }
        let token = sample(logits) { $0.logprobs = 20 }
        let order = logits.indices.sorted {
            logits[$0] != logits[$1] ? logits[$0] > logits[$1] : $0 < $1
        }
        #expect(token.top.map(\.id) == order.prefix(20).map(UInt32.init))
        let highest = Double(logits.max()!)
        let whole = highest + log(logits.reduce(0) { $0 + exp(Double($1) - highest) })
        for item in token.top {
            let expected = Double(logits[Int(item.id)]) - whole
            #expect(abs(Double(item.logprob) - expected) < 1e-5)
        }
        #expect(token.logprob == token.top[0].logprob)
    }

    @Test("of a prompt's tokens are those of the original code's logits", arguments: Golden.models)
    func golden(_ name: String) throws {
        let golden = try GoldenModel(name)
        let (inputs, vocabulary) = (golden.inputs, golden.model.shape.vocabulary)
        let expected = try golden.floats("logits")
        // The golden logits may be of the last tokens only.
        let first = inputs.count - expected.count / vocabulary
        let kernels = try Kernels.fromEnvironment()
        let states = try StatePool(slots: 1, model: golden.model)
        let evaluator = try Evaluator(
            model: golden.model, workers: WorkerPool(threads: 2), maxRows: 16, kernels: kernels)
        var scorer = PromptScorer(inputs, from: first + 1, top: 1, kernels: kernels)
        var scores: [SampledToken] = []
        for start in stride(from: 0, to: inputs.count, by: 16) {
            let part = start..<min(start + 16, inputs.count)
            try evaluator.run(
                part.map {
                    BatchRow(
                        slot: 0, token: inputs[$0], wants: scorer.needs($0) ? .logits : .nothing)
                }, states: states)
            let added = scorer.take(0..<part.count, of: evaluator, from: start)
            scores += try #require(added)
        }
        #expect(scores.map(\.id) == Array(inputs[(first + 1)...]))
        for (row, score) in scores.enumerated() {
            let logits = expected[row * vocabulary..<(row + 1) * vocabulary].map { Double($0) }
            let highest = logits.max() ?? 0
            let whole = highest + log(logits.reduce(0) { $0 + exp($1 - highest) })
            let (own, best) = (logits[Int(score.id)] - whole, highest - whole)
            let tolerance = 2 * Double(golden.atol) + Double(golden.rtol) * 2 * abs(highest)
            #expect(abs(Double(score.logprob) - own) <= tolerance, "position \(first + 1 + row)")
            #expect(abs(Double(score.top[0].logprob) - best) <= tolerance)
        }
    }

    @Test("stay defined where logits are no numbers")
    func extremes() {
        let none = sample([.nan, .nan]) { $0.logprobs = 2 }
        #expect(none.id == 0 && none.logprob == -.infinity && none.top.isEmpty)
        let some = sample([.nan, 1, -.infinity, 1]) { $0.logprobs = 4 }
        #expect(some.id == 1 && abs(some.logprob + log(2)) < 1e-6)
        #expect(some.top.map(\.id).prefix(2) == [1, 3])
        let infinite = sample([.infinity, 1, .infinity]) { $0.logprobs = 1 }
        #expect(infinite.id == 0 && abs(infinite.logprob + log(2)) < 1e-6)
    }
}
