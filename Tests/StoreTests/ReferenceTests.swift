// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import Reference
import TestSupport
import Testing

@Suite("The reference model computes what the original code does")
struct ReferenceTests {
    @Test("logits, hidden states, states and embeddings", arguments: Golden.models)
    func goldens(_ name: String) throws {
        let golden = try Golden(name)
        let model = try ReferenceModel(golden.checkpoint())
        let prompt = golden.ints("input_ids")
        var state = model.freshState
        let half = prompt.count / 2
        let first = model.run(Array(prompt[..<half]), state: &state)
        for layer in 0..<first.hiddenLayers.count {
            let wanted = try golden.values("state_half.\(layer)")
            #expect(golden.excess(state.layers[layer], wanted) <= 0)
        }
        let second = model.run(Array(prompt[half...]), state: &state)
        for layer in 0..<first.hiddenLayers.count {
            #expect(golden.excess(state.layers[layer], try golden.values("state.\(layer)")) <= 0)
        }

        let logits = (first.logits + second.logits).flatMap { $0 }
        #expect(golden.excess(logits, try golden.values("logits")) <= 0)
        let hidden = (first.hidden + second.hidden).flatMap { $0 }
        #expect(golden.excess(hidden, try golden.values("hidden")) <= 0)
        let layers = zip(first.hiddenLayers, second.hiddenLayers).flatMap {
            ($0 + $1).flatMap { $0 }
        }
        #expect(golden.excess(layers, try golden.values("hidden_layers")) <= 0)

        var whole = model.freshState
        let output = model.run(prompt, state: &whole, logits: .last)
        #expect(whole == state)
        #expect(golden.excess(output.meanHidden, try golden.values("embed_mean")) <= 0)
        #expect(golden.excess(output.hidden.last ?? [], try golden.values("embed_last")) <= 0)
        #expect(output.logits == Array(second.logits.suffix(1)))
    }

    @Test("greedy continuations", arguments: Golden.models)
    func greedy(_ name: String) throws {
        let golden = try Golden(name)
        let model = try ReferenceModel(golden.checkpoint())
        let wanted = golden.ints("greedy")
        #expect(wanted.count == 32)
        #expect(model.greedy(golden.ints("input_ids"), count: wanted.count) == wanted)
    }

    @Test("a copy that is already ternary gives the original's logits")
    func alreadyTernary() throws {
        let prompt = try Golden("b_bf16").ints("input_ids")
        let logits = try ["b_bf16", "i_prequant_bf16"].map { name in
            let model = try ReferenceModel(Golden(name).checkpoint())
            var state = model.freshState
            return model.run(prompt, state: &state).logits
        }
        #expect(logits[0] == logits[1])
    }
}
