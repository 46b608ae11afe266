// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import TestSupport
import Testing

/// Expected values come from the original modelling code; Tests/Fixtures/golden/README.md says how.
@Suite("The forward pass equals the original code")
struct EvaluatorGoldenTests {
    @Test(
        "logits, hidden states and recurrent states are the golden ones",
        arguments: Golden.models)
    func values(_ name: String) throws {
        let golden = try GoldenModel(name)
        let run = try Run(golden.model)
        try run.feed(golden.inputs, wants: .logits)
        let vocabulary = golden.model.shape.vocabulary
        let expected = try golden.floats("logits")
        let first = golden.inputs.count - expected.count / vocabulary
        for row in first..<golden.inputs.count {
            let logits = run.logits[row]
            for (k, value) in logits.enumerated() {
                let want = expected[(row - first) * vocabulary + k]
                #expect(
                    abs(value - want) <= golden.atol + golden.rtol * abs(want),
                    "logit \(k) of row \(row)")
            }
        }
        let state = run.state
        for layer in 0..<golden.model.shape.layers {
            let inner = state.count / golden.model.shape.layers
            expectClose(
                Array(state[layer * inner..<(layer + 1) * inner]),
                try golden.floats("state.\(layer)"), 1e-4)
        }
    }

    @Test(
        "the hidden states, their mean and the last one are the golden embeddings",
        arguments: Golden.models)
    func hidden(_ name: String) throws {
        let golden = try GoldenModel(name)
        let run = try Run(golden.model)
        try run.feed(golden.inputs, wants: .hidden)
        var mean = [Float](repeating: 0, count: golden.model.shape.hidden)
        for row in run.hidden { for (k, value) in row.enumerated() { mean[k] += value } }
        expectClose(
            mean.map { $0 / Float(run.hidden.count) }, try golden.floats("embed_mean"), 1e-3)
        expectClose(run.hidden.last!, try golden.floats("embed_last"), 1e-3)
    }

    @Test("the state after half the tokens is the golden one", arguments: Golden.models)
    func half(_ name: String) throws {
        let golden = try GoldenModel(name)
        let run = try Run(golden.model)
        try run.feed(Array(golden.inputs.prefix(golden.inputs.count / 2)), wants: .nothing)
        let state = run.state
        let inner = state.count / golden.model.shape.layers
        for layer in 0..<golden.model.shape.layers {
            expectClose(
                Array(state[layer * inner..<(layer + 1) * inner]),
                try golden.floats("state_half.\(layer)"), 1e-4)
        }
    }

    @Test(
        "32 greedy tokens are the golden ones, on every kernel table this CPU can run",
        arguments: Golden.models, Kernels.runnable)
    func greedy(_ name: String, _ kernels: String) throws {
        let golden = try GoldenModel(name)
        let run = try Run(golden.model, kernels: kernels)
        #expect(try run.greedy(after: golden.inputs, count: golden.greedy.count) == golden.greedy)
    }

    @Test("an already ternary checkpoint gives the very logits of its original")
    func prequantised() throws {
        let original = try Run(GoldenModel("b_bf16").model)
        let ternary = try Run(GoldenModel("i_prequant_bf16").model)
        let inputs = try GoldenModel("b_bf16").inputs
        try original.feed(inputs, wants: .logits)
        try ternary.feed(inputs, wants: .logits)
        #expect(original.logits == ternary.logits)
    }
}

@Suite("Results do not depend on how the work is cut up")
struct EvaluatorDeterminismTests {
    static let kernels = Kernels.runnable

    /// One reference run: scalar kernels, one thread, one token at a time.
    private func reference(_ golden: GoldenModel) throws -> Run {
        let run = try Run(golden.model, kernels: "scalar", threads: 1)
        for token in golden.inputs { try run.feed([token], wants: .logits) }
        return run
    }

    @Test(
        "any chunking gives the same bits", arguments: Golden.models,
        [1, 2, 3, 5, 7, 8, 11, 64])
    func chunking(_ name: String, _ chunk: Int) throws {
        let golden = try GoldenModel(name)
        let expected = try reference(golden)
        let run = try Run(golden.model)
        var rest = golden.inputs[...]
        while !rest.isEmpty {
            try run.feed(Array(rest.prefix(chunk)), wants: .logits)
            rest = rest.dropFirst(chunk)
        }
        #expect(run.logits == expected.logits)
        #expect(run.state == expected.state)
    }

    @Test(
        "any kernel table and thread count gives the same bits", arguments: kernels, [1, 2, 3, 5])
    func tables(_ kernels: String, _ threads: Int) throws {
        for name in ["b_bf16", "d_odd_96_160", "l_inter_null"] {
            let golden = try GoldenModel(name)
            let expected = try reference(golden)
            let run = try Run(golden.model, kernels: kernels, threads: threads)
            try run.feed(golden.inputs, wants: .logits)
            #expect(run.logits == expected.logits)
            #expect(run.state == expected.state)
        }
    }

    @Test(
        "any cut of the work gives the same bits",
        arguments: ["shares=1,few=16K,many=16K,fused=no", "shares=64,few=65536K,fused=yes"],
        [1, 3, 8, 21])
    func tuning(_ tuning: String, _ chunk: Int) throws {
        for name in ["b_bf16", "d_odd_96_160"] {
            let golden = try GoldenModel(name)
            let expected = try reference(golden)
            let run = try Run(golden.model, tuning: tuning)
            for start in stride(from: 0, to: golden.inputs.count, by: chunk) {
                try run.feed(Array(golden.inputs[start...].prefix(chunk)), wants: .logits)
            }
            #expect(run.logits == expected.logits)
            #expect(run.state == expected.state)
        }
    }

    @Test("every layer is a sign of life, so that a long prompt is no hang")
    func progress() throws {
        let golden = try GoldenModel("b_bf16")
        let progress = Progress()
        let evaluator = try Evaluator(
            model: golden.model, workers: WorkerPool(threads: 1), maxRows: 64,
            kernels: try Kernels.fromEnvironment(), progress: progress)
        try evaluator.run(
            golden.inputs.map { BatchRow(slot: 0, token: $0, wants: .nothing) },
            states: try StatePool(slots: 1, model: golden.model))
        #expect(progress.value == UInt64(golden.model.shape.layers))
    }

    @Test("neighbours in a batch change nothing, and a reset slot remembers nothing")
    func neighbours() throws {
        let golden = try GoldenModel("b_bf16")
        let expected = try reference(golden)
        let states = try StatePool(slots: 3, model: golden.model)
        let evaluator = try Evaluator(
            model: golden.model, workers: WorkerPool(threads: 2), maxRows: 64,
            kernels: try Kernels.fromEnvironment())
        // Slot 1 is dirtied and reset, then runs between strangers.
        try evaluator.run(
            [5, 6, 7].map { BatchRow(slot: 1, token: $0, wants: .nothing) }, states: states)
        states.reset(1)
        for (step, token) in golden.inputs.enumerated() {
            try evaluator.run(
                [
                    BatchRow(slot: 0, token: UInt32(step % 7), wants: .hidden),
                    BatchRow(slot: 1, token: token, wants: .logits),
                    BatchRow(slot: 2, token: UInt32(step % 5), wants: .logits),
                    BatchRow(slot: 0, token: UInt32(step % 3), wants: .nothing),
                ], states: states)
            #expect(evaluator.withLogits(row: 1) { Array($0) } == expected.logits[step])
        }
        #expect(states.values(1) == expected.state)
    }

    @Test("a saved state, restored into another pool, goes on as if never interrupted")
    func saved() throws {
        let golden = try GoldenModel("e_heads4")
        let expected = try reference(golden)
        let half = golden.inputs.count / 2
        let first = try Run(golden.model)
        try first.feed(Array(golden.inputs.prefix(half)), wants: .nothing)
        let second = try Run(golden.model)
        try second.restore(first.snapshot)
        try second.feed(Array(golden.inputs.dropFirst(half)), wants: .logits)
        #expect(second.logits == Array(expected.logits.dropFirst(half)))
        #expect(second.state == expected.state)
    }

    @Test("more rows wanting logits than are computed at once")
    func manyLogits() throws {
        let golden = try GoldenModel("a_default_f32")
        let tokens = (0..<100).map { UInt32($0 * 7 % golden.model.shape.vocabulary) }
        let whole = try Run(golden.model)
        try whole.feed(tokens, wants: .logits)
        let steps = try Run(golden.model)
        for token in tokens { try steps.feed([token], wants: .logits) }
        #expect(whole.logits == steps.logits)
    }
}

private func expectClose(_ found: [Float], _ expected: [Float], _ tolerance: Float) {
    #expect(found.count == expected.count)
    for (k, (a, b)) in zip(found, expected).enumerated() {
        #expect(abs(a - b) <= tolerance * max(1, abs(b)), "element \(k): \(a), expected \(b)")
    }
}
