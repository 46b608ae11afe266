// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import Reference
import TestSupport
import Testing

/// transformers 5.24 on torch 2.13, loaded and cast to bfloat16, eager, against the same in float32: `hf_bf16_vs_fp32` of the goldens.
///
/// What is compared is noise: which int8 code a rounding moves depends on the order of sums, which bfloat16 then hides or shows. Over
/// all twelve goldens the norms of these distances are 0.94 to 1.07 of the authors'. One rounding left out or put elsewhere gives 0.85 to
/// 1.37 (the norm's, inside), 0.84 to 1.11 (BitLinear's quantiser in float32), 0.93 to 1.22 (the rotation's): hence 10 %.
@Suite("The reference in bfloat16 is as far from float32 as the authors' code is")
struct PrecisionTests {
    private func norm(_ a: [[Float]], _ b: [[Float]]) -> Double {
        var (difference, whole) = (0.0, 0.0)
        for (a, b) in zip(a.joined(), b.joined()) {
            difference += Double(a - b) * Double(a - b)
            whole += Double(b) * Double(b)
        }
        return (difference / whole).squareRoot()
    }

    @Test(
        "by the norms of hidden states and logits, and by likeliest tokens",
        arguments: AttentionGolden.models)
    func distance(_ name: String) throws {
        let golden = try AttentionGolden(name)
        let weights = AttentionWeights.checkpoint(golden.checkpoint, masters: nil)
        let tokens = golden.golden.ints("input_ids")
        let measured = try #require(golden.golden.facts["hf_bf16_vs_fp32"])
        func ratio(_ found: Double, _ name: String) throws -> Double {
            found / (try #require(measured[name]?.number))
        }
        let exact = try AttentionModel(weights)
        let rounded = try AttentionModel(weights, precision: .bfloat16)
        var (first, second) = (exact.freshState, rounded.freshState)
        let wanted = try exact.run(tokens, state: &first)
        let found = try rounded.run(tokens, state: &second)
        let hidden = try ratio(norm(found.hidden, wanted.hidden), "hidden_rel_l2")
        #expect(hidden > 0.9 && hidden < 1.1)
        guard exact.shape.family.hasHead else {
            // The angle between the vectors: of one vector, and so less certain.
            let cosine = zip(try rounded.embed(tokens), try exact.embed(tokens)).reduce(0.0) {
                $0 + Double($1.0) * Double($1.1)
            }
            let angle = (1 - cosine) / (1 - (try #require(measured["cosine"]?.number)))
            #expect(angle > 0.8 && angle < 1.25)
            return
        }
        let logits = try ratio(norm(found.logits, wanted.logits), "logits_rel_l2")
        #expect(logits > 0.9 && logits < 1.1)
        let same = zip(found.logits, wanted.logits).filter {
            ReferenceModel.argmax($0) == ReferenceModel.argmax($1)
        }.count
        let theirs = try #require(measured["argmax_equal"]?.integer)
        #expect(abs(same - theirs) <= 1)
    }

    @Test(
        "every hidden state and logit is a bfloat16", arguments: ["bn_odd_packed", "ll_inner_norm"])
    func rounded(_ name: String) throws {
        let golden = try AttentionGolden(name)
        let model = try AttentionModel(
            .checkpoint(golden.checkpoint, masters: nil), precision: .bfloat16)
        var state = model.freshState
        let output = try model.run(golden.golden.ints("input_ids"), state: &state)
        let values = [output.hidden, output.logits, output.hiddenLayers.flatMap { $0 }].joined()
            .joined()
        #expect(values.allSatisfy { $0.bitPattern & 0xFFFF == 0 })
    }
}
