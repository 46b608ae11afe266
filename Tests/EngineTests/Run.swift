// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore

/// One conversation in slot 0, remembering everything it was given.
final class Run {
    private let evaluator: Evaluator
    private let states: StatePool
    private(set) var logits: [[Float]] = []
    private(set) var hidden: [[Float]] = []

    /// - Parameter tuning: as MMFREED_TUNING has it.
    init(_ model: Model, kernels: String? = nil, threads: Int = 2, tuning text: String = "") throws
    {
        states = try StatePool(slots: 1, model: model)
        let table = kernels == nil ? try Kernels.fromEnvironment() : try Kernels.select(kernels)
        var tuning = Tuning(table)
        try tuning.change(text)
        evaluator = try Evaluator(
            model: model, workers: WorkerPool(threads: threads), maxRows: 128, kernels: table,
            tuning: tuning)
    }

    var state: [Float] { states.values(0) }
    var snapshot: StateSnapshot { states.save(0, history: history) }
    func restore(_ state: StateSnapshot) throws { try states.restore(0, state) }
    private var history = TokenHistory()

    func feed(_ tokens: [UInt32], wants: Wants) throws {
        history.append(tokens)
        try evaluator.run(tokens.map { BatchRow(slot: 0, token: $0, wants: wants) }, states: states)
        for row in tokens.indices {
            switch wants {
            case .nothing: break
            case .logits: logits.append(evaluator.withLogits(row: row) { Array($0) })
            case .hidden: hidden.append(evaluator.withHidden(row: row) { Array($0) })
            }
        }
    }

    /// `count` most likely tokens after `prompt`, the lowest id on ties.
    func greedy(after prompt: [UInt32], count: Int) throws -> [UInt32] {
        try feed(prompt, wants: .logits)
        return try (0..<count).map { _ in
            let last = logits.last!
            let best = UInt32(last.firstIndex(of: last.max()!)!)
            try feed([best], wants: .logits)
            return best
        }
    }
}
