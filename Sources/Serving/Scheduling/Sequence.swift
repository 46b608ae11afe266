// SPDX-License-Identifier: Apache-2.0

import Engine

/// One input of a request on its way through the model. Owned by the decode thread.
final class Sequence {
    enum Phase: Equatable {
        /// `next` is the first prompt token not computed yet.
        case reading(next: Int)
        /// `last` has been chosen and is to be fed next.
        case decoding(last: UInt32)
    }

    /// Where it is.
    enum Residence: ~Copyable {
        /// In the queue: from the start, or preempted with what it remembered.
        case waiting(StateSnapshot?)
        case inSlot(SlotLease)
        case done

        /// What it remembered when it was preempted.
        var snapshot: StateSnapshot? {
            switch self {
            case .waiting(let snapshot): snapshot
            default: nil
            }
        }

        var slot: Int? {
            switch self {
            case .inSlot(let lease): lease.slot
            default: nil
            }
        }

        /// What its slot remembers now.
        func save(tokens: Int) -> StateSnapshot? {
            switch self {
            case .inSlot(let lease): lease.save(tokens: tokens)
            default: nil
            }
        }
    }

    let request: Request
    /// Its place among the request's inputs.
    let input: Int
    /// At least one.
    let tokens: [UInt32]
    private(set) var phase = Phase.reading(next: 0)
    /// Tokens its state has read.
    private(set) var consumed = 0
    /// Its place among its account's prompts: the one that was read last comes last.
    var lastRead = 0
    private(set) var residence = Residence.waiting(nil)

    init(request: Request, input: Int, tokens: [UInt32]) {
        self.request = request
        self.input = input
        self.tokens = tokens
    }

    /// How many prompt tokens are still to be read; `nil` when none are.
    var promptLeft: Int? {
        if case .reading(let next) = phase { tokens.count - next } else { nil }
    }

    /// The slot it is in, and must be.
    var slot: Int {
        guard let slot = residence.slot else { preconditionFailure("in no slot") }
        return slot
    }

    var isPreempted: Bool { residence.snapshot != nil }

    // MARK: What the scheduler does with it

    /// Takes a slot, to begin or to go on exactly as if it had never been preempted. There must be a free one.
    func enter(_ pool: SlotPool) {
        guard residence.slot == nil,
            let lease = pool.take(for: request.model, from: residence.snapshot)
        else { preconditionFailure("no slot, or one already") }
        residence = .inSlot(lease)
    }

    /// Gives its slot to somebody else, and keeps what it remembers.
    func preempt() {
        guard let snapshot = residence.save(tokens: consumed) else {
            preconditionFailure("in no slot")
        }
        residence = .waiting(snapshot)
    }

    func finish() { residence = .done }

    /// `count` tokens have been computed; after the last of the prompt, or after a chosen one, `next` has been chosen.
    func advance(_ count: Int, next: UInt32?) {
        consumed += count
        if let next {
            phase = .decoding(last: next)
        } else if case .reading(let first) = phase {
            phase = .reading(next: first + count)
        }
    }

    /// Whether `count` more tokens are the rest of the prompt, or it is done.
    func completesPrompt(_ count: Int) -> Bool { (promptLeft ?? count) == count }

    /// Its next `count` rows.
    func rows(_ count: Int, into rows: inout [BatchRow]) {
        switch phase {
        case .reading(let next):
            for index in next..<next + count {
                rows.append(
                    BatchRow(
                        slot: slot, token: tokens[index],
                        wants: request.consumer.wants(isLast: index == tokens.count - 1)))
            }
        case .decoding(let last): rows.append(BatchRow(slot: slot, token: last, wants: .logits))
        }
    }
}
