// SPDX-License-Identifier: Apache-2.0

import Engine

/// One model's evaluator, states and free slots. Owned by the decode thread.
final class ModelRunner {
    let evaluator: Evaluator
    private let states: StatePool
    private var free: [Int]
    private let slots: Int
    private var rows: [BatchRow] = []

    init(_ model: Model, slots: Int, maxRows: Int, workers: WorkerPool, kernels: Kernels.Table) {
        evaluator = Evaluator(model: model, workers: workers, maxRows: maxRows, kernels: kernels)
        states = StatePool(slots: slots, shape: model.shape)
        free = Array((0..<slots).reversed())
        self.slots = slots
    }

    var isIdle: Bool { free.count == slots }

    /// A slot that remembers nothing.
    func takeSlot() -> Int? {
        guard let slot = free.popLast() else { return nil }
        states.reset(slot)
        return slot
    }

    func giveBack(_ slot: Int) { free.append(slot) }

    /// Computes what `sequences` want now: a row for each that decodes, and a share of `chunk` for each that reads its prompt.
    ///
    /// - Returns: the first row of each sequence, and one past the last.
    func run(_ sequences: [Sequence], chunk: Int) -> [Range<Int>] {
        rows.removeAll(keepingCapacity: true)
        let reading = sequences.count { $0.isPrefilling }
        let share = max(1, chunk / max(1, reading))
        var ranges: [Range<Int>] = []
        for sequence in sequences {
            let first = rows.count
            sequence.rows(promptLimit: share, into: &rows)
            ranges.append(first..<rows.count)
        }
        evaluator.run(rows, states: states)
        return ranges
    }
}
