// SPDX-License-Identifier: Apache-2.0

import Engine

/// One model's evaluator, states and free slots. Owned by the decode thread.
final class ModelRunner {
    let evaluator: Evaluator
    private let states: StatePool
    private var free: [Int]
    private var rows: [BatchRow] = []

    init(_ model: Model, slots: Int, maxRows: Int, workers: WorkerPool, kernels: Kernels.Table) {
        evaluator = Evaluator(model: model, workers: workers, maxRows: maxRows, kernels: kernels)
        states = StatePool(slots: slots, shape: model.shape)
        free = Array((0..<slots).reversed())
    }

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

/// Who gets how much of what there is not enough of: pure arithmetic.
package enum Fairness {
    /// Whose turn it is to get a slot: of the users who wait, the one with the fewest slots; of their requests, the first.
    ///
    /// - Parameters:
    ///   - waiting: the users of the waiting requests, in the order they came.
    ///   - active: the users of the requests in slots.
    /// - Returns: how many of `waiting` come before it.
    package static func next(waiting: some Swift.Sequence<UInt32>, active: [UInt32]) -> Int? {
        var used: [UInt32: Int] = [:]
        for user in active { used[user, default: 0] += 1 }
        var best: (index: Int, used: Int)?
        for (index, user) in waiting.enumerated() {
            let count = used[user, default: 0]
            if count < best?.used ?? .max { best = (index, count) }
            if count == 0 { break }
        }
        return best?.index
    }

    /// Shares out a chunk of prompt tokens: equally, and what one does not need goes to the others.
    ///
    /// - Parameter wants: how many tokens each still has to read, 1 or more.
    /// - Returns: each one's share, 1 or more, so the sum exceeds a chunk smaller than the number of readers.
    package static func shares(of chunk: Int, among wants: [Int]) -> [Int] {
        var shares = wants
        var left = max(chunk, wants.count)
        // From the one that needs least: whoever is satisfied raises the share of all after it.
        let order = wants.indices.sorted { (wants[$0], $0) < (wants[$1], $1) }
        for (place, index) in order.enumerated() {
            let others = order.count - place
            shares[index] = min(wants[index], (left + others - 1) / others)
            left -= shares[index]
        }
        return shares
    }
}
