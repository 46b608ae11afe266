// SPDX-License-Identifier: Apache-2.0

import CKernels
import Engine
import Glibc
import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

/// models/demo.gguf against what the original code made of its checkpoint; Tests/Fixtures/demo/README.md says how.
@Suite("The demonstration model")
struct DemoTests {
    private static let directory = fixtures.appending("demo")

    private func model() throws -> Model {
        try Model(
            PackedFile(
                path: fixtures.removingLastComponent().removingLastComponent()
                    .appending("models").appending("demo.gguf")))
    }

    @Test(
        "prompts are cut into the original's tokens, and greedy answers are its answers and its text"
    )
    func greedy() throws {
        let model = try model()
        let tokenizer = try #require(model.tokenizer)
        let facts = try JSON(parsing: bytes(of: Self.directory.appending("expected.json")))
        let prompts = try #require(facts["prompts"]?.array)
        #expect(prompts.count >= 3)
        for prompt in prompts {
            let text = try #require(prompt["prompt"]?.string)
            let inputs = (prompt["input_ids"]?.array ?? []).compactMap {
                $0.integer.map { UInt32($0) }
            }
            #expect(tokenizer.encode(text, addBOS: true) == inputs)
            let expected = (prompt["greedy"]?.array ?? []).compactMap {
                $0.integer.map { UInt32($0) }
            }
            // Where the two likeliest tokens are as near as this, another order of summation may choose the other one.
            let gaps = (prompt["gaps"]?.array ?? []).compactMap(\.number)
            let sure = gaps.firstIndex { $0 < 0.02 } ?? gaps.count
            #expect(sure > 10)
            let found = try Run(model).greedy(after: inputs, count: sure)
            #expect(found == Array(expected.prefix(sure)))
            let whole = try #require(prompt["text"]?.string)
            #expect(whole.hasPrefix(tokenizer.decode(inputs + found)))
        }
    }

    @Test(
        "perplexity over 20,479 held-out tokens is the original's 36.6991, within a thousandth",
        .enabled(if: isOptimised, "minutes of work for unoptimised code"))
    func perplexity() throws {
        let bytes = try bytes(of: Self.directory.appending("perplexity_20480.u16"))
        let tokens = stride(from: 0, to: bytes.count, by: 2).map {
            UInt32(bytes[$0]) | UInt32(bytes[$0 + 1]) << 8
        }
        #expect(tokens.count == 20_480)
        let model = try model()
        let kernels = try Kernels.fromEnvironment()
        let evaluator = try Evaluator(
            model: model, workers: WorkerPool(threads: 2), maxRows: 256, kernels: kernels)
        let states = try StatePool(slots: 1, model: model)
        var total = 0.0
        for start in stride(from: 0, to: tokens.count - 1, by: 256) {
            let end = min(start + 256, tokens.count - 1)
            try evaluator.run(
                tokens[start..<end].map { BatchRow(slot: 0, token: $0, wants: .logits) },
                states: states)
            for row in 0..<end - start {
                evaluator.withLogits(row: row) { logits in
                    let base = logits.baseAddress!
                    let highest = logits[kernels.pointee.argmax(base, logits.count)]
                    let sum = kernels.pointee.sum_exp(base, logits.count, highest)
                    total +=
                        Double(highest - logits[Int(tokens[start + row + 1])]) + log(Double(sum))
                }
            }
        }
        let perplexity = exp(total / Double(tokens.count - 1))
        #expect(abs(perplexity / 36.6991 - 1) < 0.001, "perplexity \(perplexity)")
    }
}
