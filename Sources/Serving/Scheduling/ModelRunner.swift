// SPDX-License-Identifier: Apache-2.0

import Engine

/// One model's evaluator, states and free slots. Owned by the decode thread.
final class ModelRunner {
    let evaluator: Evaluator
    private let states: StatePool
    private var free: [Int]
    private var rows: [BatchRow] = []

    init(
        _ model: Model, slots: Int, maxRows: Int, workers: WorkerPool, kernels: Kernels.Table,
        progress: Progress
    ) {
        evaluator = Evaluator(
            model: model, workers: workers, maxRows: maxRows, kernels: kernels, progress: progress)
        states = StatePool(slots: slots, model: model)
        free = Array((0..<slots).reversed())
    }

    /// A slot that remembers nothing.
    func takeSlot() -> Int? {
        guard let slot = free.popLast() else { return nil }
        states.reset(slot)
        return slot
    }

    func giveBack(_ slot: Int) { free.append(slot) }

    /// Frees a slot; what it remembers is the caller's to keep.
    func setAside(_ slot: Int, tokens: Int) -> StateSnapshot {
        giveBack(slot)
        return states.save(slot, tokens: tokens)
    }

    /// A slot that remembers `state`.
    func takeSlot(for state: StateSnapshot) -> Int? {
        guard let slot = free.popLast() else { return nil }
        states.restore(slot, state)
        return slot
    }

    /// Computes what `sequences` want now: a row for each that decodes, and a share of `chunk` for each that reads its prompt.
    ///
    /// - Returns: the first row of each sequence, and one past the last.
    func run(_ sequences: [Sequence], chunk: Int) -> [Range<Int>] {
        rows.removeAll(keepingCapacity: true)
        let unread = sequences.compactMap(\.promptLeft)
        var shares = Fairness.shares(of: chunk, among: unread)[...]
        var ranges: [Range<Int>] = []
        for sequence in sequences {
            let first = rows.count
            let limit = sequence.isPrefilling ? shares.popFirst() ?? 1 : 0
            sequence.rows(promptLimit: limit, into: &rows)
            ranges.append(first..<rows.count)
        }
        evaluator.run(rows, states: states)
        return ranges
    }
}
