// SPDX-License-Identifier: Apache-2.0

import Engine

/// Which model, without knowing it: that of the `Model`.
typealias ModelID = ObjectIdentifier

/// The recurrent states that slots stand for: the runners', or a test's.
protocol SlotStates: AnyObject {
    /// Makes a slot remember what `snapshot` does, or nothing.
    ///
    /// - Throws: `noMemory`.
    func load(_ snapshot: StateSnapshot?, into slot: Int, of model: ModelID) throws(ModelError)
    func save(_ slot: Int, of model: ModelID, history: TokenHistory) -> StateSnapshot
    /// What makes a saved state one that a slot can remember.
    ///
    /// - Throws: `SavedStateError` if it is none of the model.
    func builder(
        _ header: SavedStateHeader, of model: ModelID
    ) throws(SavedStateError) -> StateBuilder
    /// Nobody needs what a slot remembers.
    func free(_ slot: Int, of model: ModelID)
}

/// The slots: numbers below `count`, each at most once in a lease. A number is the same slot whichever model uses it.
final class SlotPool {
    let count: Int
    /// Slots beyond `count`, for states that are kept on the way through a batch. No lease has them.
    let taps: [Int]
    fileprivate let states: any SlotStates
    fileprivate var free: [Int]

    init(_ count: Int, taps: Int, states: any SlotStates) {
        self.count = count
        self.taps = Array(count..<count + taps)
        self.states = states
        free = (0..<count).reversed()
    }

    /// A slot that remembers what `snapshot` does, or nothing; `nil` when all are taken.
    ///
    /// - Throws: `noMemory`; then none is taken.
    func take(
        for model: ModelID, from snapshot: StateSnapshot?
    ) throws(ModelError) -> SlotLease? {
        guard let slot = free.last else { return nil }
        try states.load(snapshot, into: slot, of: model)
        free.removeLast()
        return SlotLease(slot: slot, model: model, pool: self)
    }

    /// What makes a saved state one that a slot can begin with.
    ///
    /// - Throws: `SavedStateError` if it is none of the model.
    func builder(
        _ header: SavedStateHeader, of model: ModelID
    ) throws(SavedStateError) -> StateBuilder { try states.builder(header, of: model) }

    /// The batch is over whose tap a slot was, if it was one.
    func freeTap(_ slot: Int, of model: ModelID) {
        if slot >= count { states.free(slot, of: model) }
    }

    /// What a slot that was a tap of the last batch remembers of the tokens of `history`.
    func save(_ slot: Int, of model: ModelID, _ history: TokenHistory) -> StateSnapshot {
        states.save(slot, of: model, history: history)
    }
}

/// The right to one slot. It returns when the lease ends; what it remembers is lost unless it was saved before.
struct SlotLease: ~Copyable {
    let slot: Int
    fileprivate let model: ModelID
    fileprivate let pool: SlotPool

    /// What the slot remembers of the tokens it has read.
    func save(_ history: TokenHistory) -> StateSnapshot {
        pool.states.save(slot, of: model, history: history)
    }

    deinit {
        pool.states.free(slot, of: model)
        pool.free.append(slot)
    }
}
