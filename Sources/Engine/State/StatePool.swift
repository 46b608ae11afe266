// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// What the sequences in all slots remember: recurrent states, or keys and values.
package struct StatePool: ~Copyable {
    enum Memory {
        case recurrent(RecurrentStates)
        case attention(AttentionStates)
    }

    package let slots: Int
    let memory: Memory
    private let modelDigest: String

    /// - Throws: `noMemory`.
    package init(slots: Int, model: Model) throws(ModelError) {
        precondition(slots > 0)
        self.slots = slots
        modelDigest = model.digest
        switch model.shape {
        case .hgrnbit(let shape):
            memory = .recurrent(
                try RecurrentStates(slots: slots, layers: shape.layers, inner: shape.inner))
        case .attention:
            guard let shape = model.program.attention else {
                preconditionFailure("attention without memory")
            }
            memory = .attention(AttentionStates(slots: slots, shape))
        }
    }

    private func check(_ slot: Int) {
        precondition(slot >= 0 && slot < slots, "no such slot")
    }

    /// Forgets everything the slot has read.
    package func reset(_ slot: Int) {
        check(slot)
        switch memory {
        case .recurrent(let states): states.reset(slot)
        case .attention(let states): states.reset(slot)
        }
    }

    /// Nobody will read the slot before it is reset or restored: memory that grows with what it has read is given back.
    package func free(_ slot: Int) {
        check(slot)
        if case .attention(let states) = memory { states.reset(slot) }
    }

    /// The slot's state as values: [layers × inner], or [tokens][layers][keys, values][width].
    package func values(_ slot: Int) -> [Float] {
        check(slot)
        switch memory {
        case .recurrent(let states): return states.values(slot)
        case .attention(let states):
            let (pages, tokens) = states.pages(slot)
            return states.shape.values(pages, tokens: tokens)
        }
    }

    /// The slot's state, which the tokens of `history` have made. Of attention it shares the pages.
    package func save(_ slot: Int, history: TokenHistory) -> StateSnapshot {
        check(slot)
        switch memory {
        case .recurrent(let states):
            return StateSnapshot(
                modelDigest: modelDigest, history: history, values: states.values(slot))
        case .attention(let states):
            let (pages, tokens) = states.pages(slot)
            precondition(tokens == history.count, "\(tokens) tokens, not \(history.count)")
            return StateSnapshot(
                modelDigest: modelDigest, history: history, pages: pages, states.shape)
        }
    }

    /// Puts back what `save` gave, into this or another pool of the same model.
    ///
    /// - Throws: `noMemory`.
    package func restore(_ slot: Int, _ snapshot: StateSnapshot) throws(ModelError) {
        check(slot)
        precondition(snapshot.modelDigest == modelDigest, "a state of another model")
        switch memory {
        case .recurrent(let states):
            precondition(
                snapshot.layout == .recurrent && snapshot.values.count == states.stateCount,
                "a state of another layout")
            states.restore(slot, snapshot.values)
        case .attention(let states):
            states.restore(
                slot, try snapshot.pages(states.shape), tokens: snapshot.history.count)
        }
    }
}
