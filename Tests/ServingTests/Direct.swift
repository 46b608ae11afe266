// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import TestSupport

/// The engine without serving: one conversation, one token at a time.
final class Direct {
    private let evaluator: Evaluator
    private let states: StatePool

    init(_ model: Model) throws {
        states = try StatePool(slots: 1, model: model)
        evaluator = try Evaluator(
            model: model, workers: WorkerPool(threads: 1), maxRows: 1,
            kernels: try Kernels.fromEnvironment())
    }

    func hidden(_ tokens: [UInt32]) -> [[Float]] {
        states.reset(0)
        return tokens.map { token in
            feed(token, wants: .hidden)
            return evaluator.withHidden(row: 0) { Array($0) }
        }
    }

    /// The logits after each token.
    func logits(_ tokens: [UInt32]) -> [[Float]] {
        states.reset(0)
        return tokens.map { token in
            feed(token)
            return evaluator.withLogits(row: 0) { Array($0) }
        }
    }

    /// The most likely tokens after `prompt`, the end of text forbidden.
    func greedy(after prompt: [UInt32], count: Int) -> [UInt32] {
        states.reset(0)
        for token in prompt { feed(token) }
        return (0..<count).map { _ in
            let best = evaluator.withLogits(row: 0) { logits in
                logits.indices.filter { $0 != Int(TinyModel.eos) }
                    .max { (logits[$0], $1) < (logits[$1], $0) } ?? 0
            }
            feed(UInt32(best))
            return UInt32(best)
        }
    }

    private func feed(_ token: UInt32, wants: Wants = .logits) {
        do {
            try evaluator.run([BatchRow(slot: 0, token: token, wants: wants)], states: states)
        } catch { preconditionFailure("\(error)") }
    }
}
