// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC

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

        /// What it remembers now.
        func save(_ history: TokenHistory) -> StateSnapshot? {
            switch self {
            case .inSlot(let lease): lease.save(history)
            case .waiting(let snapshot): snapshot
            case .done: nil
            }
        }
    }

    /// A slot that has the state after the first `mark` tokens of the prompt when the batch is done.
    struct Tap {
        let mark: Int
        let slot: Int
    }

    let request: Request
    /// Its place among the request's inputs.
    let input: Int
    /// At least one.
    private(set) var tokens: [UInt32]
    private(set) var phase = Phase.reading(next: 0)
    /// The tokens its state has read: those of a session first, then those of the prompt and the answer.
    private(set) var history = TokenHistory()
    /// Tokens of the answer that its state has read.
    private(set) var answer: [UInt32] = []
    /// Prompt tokens it did not have to read.
    private(set) var cached = 0
    /// Its place among its account's prompts: the one that was read last comes last.
    var lastRead = 0
    private(set) var residence = Residence.waiting(nil)
    /// Bytes of keys and values that are set aside for it.
    var keyValueBytes = 0
    /// It is known how much it has to read and where its session is.
    private(set) var isMeasured = false
    /// Where its session is, until its state is read.
    private(set) var outline: SessionOutline?
    /// Its session's state, as far as it is read.
    private var reading: SessionReading?
    /// It has had a slot.
    private(set) var hasBegun = false
    /// Its state has read its own tokens and no others: it is a prefix that may come again.
    private(set) var isWhole = true
    /// Where states are to be kept: after so many tokens of the prompt, ascending.
    private var marks: [Int] = []
    /// Those of the batch under way.
    private(set) var taps: [Tap] = []

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

    var isPreempted: Bool { hasBegun && residence.snapshot != nil }
    var consumed: Int { history.count }
    /// Tokens that it has when its prompt is read, those of its session among them.
    var length: Int { history.count - read + tokens.count }
    /// Prompt tokens that are read.
    var read: Int { if case .reading(let next) = phase { next } else { tokens.count } }
    /// What it remembers now; `nil` if that is nothing.
    var snapshot: StateSnapshot? { residence.save(history) }
    /// Chosen and not read.
    var unread: UInt32? { if case .decoding(let last) = phase { last } else { nil } }

    // MARK: What the scheduler does with it

    /// How much it has to read is about to be found.
    func measure() { isMeasured = true }

    /// Begins after `depth` of its tokens, which `snapshot` has read.
    func begin(after depth: Int, of snapshot: StateSnapshot?, marks: [Int]) {
        precondition(!hasBegun && depth < tokens.count)
        self.marks = marks.filter { $0 > depth && $0 <= tokens.count }
        cached = depth
        phase = .reading(next: depth)
        history = snapshot?.history ?? TokenHistory()
        residence = .waiting(snapshot)
    }

    /// Will go on where a session is.
    func begin(at outline: SessionOutline, opening: UInt32?) {
        precondition(!hasBegun)
        self.outline = outline
        if outline.header.tokens.count == 0 {
            if let opening { tokens.insert(opening, at: 0) }
            return
        }
        tokens.insert(contentsOf: outline.header.unread, at: 0)
        isWhole = false
        history = outline.header.history
    }

    /// Its session's state is read from now on.
    func begin(reading: SessionReading) {
        precondition(!hasBegun)
        outline = nil
        self.reading = reading
    }

    /// Reads on in its session's state, if there is some.
    ///
    /// - Parameter most: bytes that may be read now, and are then fewer.
    /// - Returns: whether it has all of it.
    func readOn(_ most: inout Int) throws(RPCError) -> Bool {
        guard reading != nil else { return true }
        guard let state = try reading?.advance(&most) else { return false }
        reading = nil
        precondition(!hasBegun && state.snapshot?.history ?? TokenHistory() == history)
        residence = .waiting(state.snapshot)
        return true
    }

    /// Sets up taps for the marks among its next `count` tokens.
    ///
    /// - Parameter free: slots that nobody has; taken from its end.
    func tap(_ count: Int, _ free: inout [Int]) {
        taps = []
        guard case .reading(let next) = phase else { return }
        while let mark = marks.first, mark <= next + count {
            marks.removeFirst()
            if mark == next + count {
                taps.append(Tap(mark: mark, slot: slot))
            } else if let slot = free.popLast() {
                taps.append(Tap(mark: mark, slot: slot))
            }
        }
    }

    /// The history after the first `mark` tokens of the prompt, which are more than have been read.
    func history(at mark: Int) -> TokenHistory {
        var history = history
        history.append(tokens[read..<mark])
        return history
    }

    /// Takes a slot, to begin or to go on exactly as if it had never been preempted. There must be a free one.
    ///
    /// - Throws: `noMemory`.
    func enter(_ pool: SlotPool) throws(ModelError) {
        guard residence.slot == nil,
            let lease = try pool.take(for: request.model, from: residence.snapshot)
        else { preconditionFailure("no slot, or one already") }
        residence = .inSlot(lease)
        hasBegun = true
    }

    /// Gives its slot to somebody else, and keeps what it remembers.
    func preempt() {
        guard let snapshot = residence.save(history) else {
            preconditionFailure("in no slot")
        }
        residence = .waiting(snapshot)
    }

    func finish() { residence = .done }

    /// `count` tokens have been computed; after the last of the prompt, or after a chosen one, `next` has been chosen, which may
    /// be the last.
    func advance(_ count: Int, next: UInt32?) {
        switch phase {
        case .reading(let first):
            history.append(tokens[first..<first + count])
            phase = .reading(next: first + count)
        case .decoding(let last):
            history.append(last)
            answer.append(last)
            phase = .reading(next: tokens.count)
        }
        if let next { phase = .decoding(last: next) }
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
                        from: taps.first { $0.mark == index }?.slot ?? slot,
                        to: taps.first { $0.mark == index + 1 }?.slot ?? slot,
                        token: tokens[index],
                        wants: request.consumer.wants(index, of: tokens.count)))
            }
        case .decoding(let last): rows.append(BatchRow(slot: slot, token: last, wants: .logits))
        }
    }
}
