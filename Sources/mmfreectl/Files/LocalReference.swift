// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import Packer
import Reference

/// A model with attention, run by the reference program: as the authors' code computes it, and slow.
final class LocalReference: LocalRun {
    let model: AttentionModel
    let tokenizer: Tokenizer?
    let byteCount: Int
    private var state: AttentionModel.State

    init(
        _ weights: AttentionWeights, tokenizer: Tokenizer?, precision: Precision = .float32
    ) throws {
        model = try AttentionModel(weights, precision: precision)
        byteCount = weights.byteCount
        self.tokenizer = tokenizer
        state = model.freshState
    }

    var vocabulary: Int { model.shape.vocabulary }
    var hidden: Int { model.shape.hidden }
    func reset() { state = model.freshState }

    func feed(
        _ tokens: [UInt32], wants: Wants, _ body: (Int, UnsafeBufferPointer<Float>) throws -> Void
    ) throws {
        try check(tokens)
        guard wants != .logits || model.shape.family.hasHead else {
            throw Failure(
                "architecture \(model.shape.family.rawValue) is an embedding model: it has no logits; ask for --hidden or --embedding",
                .usage)
        }
        for (place, token) in tokens.enumerated() {
            let output = try model.run(
                [Int(token)], state: &state, logits: wants == .logits ? .all : .none)
            let row = wants == .logits ? output.logits[0] : output.hidden[0]
            try row.withUnsafeBufferPointer { row in
                guard row.isFinite else {
                    throw Failure("\(ModelError.notFinite) (token \(place) of the text)", .data)
                }
                if wants != .nothing { try body(place, row) }
            }
        }
    }
}
