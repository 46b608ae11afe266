// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import RPC

/// One run of tokens through a model, in a slot of its own. Owned by the decode thread once it is posted.
final class Sequence: @unchecked Sendable {
    /// Where the sequence is. A phase carries what only it needs.
    enum Phase {
        case queued
        /// `next` is the first prompt token not computed yet.
        case prefilling(next: Int)
        /// `last` has been chosen and is to be fed next.
        case decoding(last: UInt32)
        case finished
    }

    /// What the sequence is computed for.
    enum Purpose {
        case generate(Answer)
        case embed(Vector)
    }

    let record: RequestRecord
    let call: Call
    let model: Model
    /// At least one.
    let tokens: [UInt32]
    let purpose: Purpose
    var phase = Phase.queued
    var slot = -1
    /// What its slot remembered when it had to make room for another user; `nil` unless it waits to go on.
    var state: StateSnapshot?
    /// Tokens its state has read.
    var consumed = 0
    /// CLOCK_MONOTONIC, nanoseconds: when the slot was got, and when the prompt was done.
    var started: UInt64 = 0
    var prefilled: UInt64 = 0

    init(record: RequestRecord, call: Call, model: Model, tokens: [UInt32], purpose: Purpose) {
        self.record = record
        self.call = call
        self.model = model
        self.tokens = tokens
        self.purpose = purpose
    }

    /// When it began to wait for a reader that does not read; 0 while it does not.
    var waitingSince: UInt64 {
        switch purpose {
        case .generate(let answer): answer.waitingSince
        case .embed(let vector): vector.waitingSince
        }
    }

    /// The rows it wants computed now, at most `limit` of them prompt tokens.
    func rows(promptLimit limit: Int, into rows: inout [BatchRow]) {
        switch phase {
        case .queued, .finished: return
        case .prefilling(let next):
            let end = min(next + limit, tokens.count)
            for index in next..<end {
                rows.append(
                    BatchRow(slot: slot, token: tokens[index], wants: wants(of: index)))
            }
        case .decoding(let last):
            rows.append(BatchRow(slot: slot, token: last, wants: .logits))
        }
    }

    private func wants(of index: Int) -> Wants {
        let isLast = index == tokens.count - 1
        switch purpose {
        case .generate: return isLast ? .logits : .nothing
        case .embed(let vector): return vector.pooling == .last && !isLast ? .nothing : .hidden
        }
    }

    // MARK: What the scheduler asks and tells

    var isPrefilling: Bool { promptLeft != nil }

    /// How many prompt tokens are still to be read; `nil` when none are.
    var promptLeft: Int? {
        guard case .prefilling(let next) = phase else { return nil }
        return tokens.count - next
    }

    /// It has a slot and its reader keeps up.
    var isRunnable: Bool {
        switch (phase, purpose) {
        case (.queued, _), (.finished, _): false
        case (_, .generate(let answer)): answer.isFlowing
        case (_, .embed(let vector)): vector.isFlowing
        }
    }

    /// Nobody wants it any more.
    var isClosed: Bool {
        switch purpose {
        case .generate(let answer): answer.isClosed
        case .embed(let vector): vector.isOver
        }
    }

    /// No other sequence of the same request is left.
    var isRequestOver: Bool {
        switch purpose {
        case .generate: true
        case .embed(let vector): vector.isRequestOver
        }
    }

    /// It has begun, and the caller gets what there is.
    var hasAnswer: Bool {
        if case .queued = phase { return false }
        if case .generate = purpose { return true }
        return false
    }

    /// Begins in `slot`, or goes on there.
    func begin(slot: Int) {
        self.slot = slot
        state = nil
        guard case .queued = phase else { return }
        phase = .prefilling(next: 0)
        started = cl_monotonic_nanoseconds()
    }

    /// Tells the caller that the request is in, by which name, and how many wait before it.
    func announce() {
        if case .generate(let answer) = purpose { answer.begin() }
    }

    /// Moves past `count` computed rows.
    ///
    /// - Returns: whether the prompt is done.
    func didCompute(_ count: Int) -> Bool {
        guard case .prefilling(let next) = phase else { return true }
        phase = .prefilling(next: next + count)
        return next + count == tokens.count
    }

    func flush() {
        switch purpose {
        case .generate(let answer): answer.flush()
        case .embed(let vector): vector.flush()
        }
    }

    func fail(_ error: RPCError) {
        switch purpose {
        case .generate(let answer): answer.fail(error)
        case .embed(let vector): vector.fail(error)
        }
    }

    /// Tells the caller that this is the end: with what there is, or with an error if there is nothing yet.
    func finish(_ reason: FinishReason, wasQueued: Bool) {
        let error: RPCError =
            switch reason {
            case .deadline:
                RPCError(
                    .deadlineExceeded,
                    wasQueued
                        ? "the deadline passed while request \(record.id) was waiting for a slot"
                        : "the deadline passed before request \(record.id) was done",
                    reason: "DEADLINE")
            default:
                RPCError(
                    .cancelled, "request \(record.id) was cancelled", reason: "CANCELLED")
            }
        switch purpose {
        case .embed(let vector): vector.fail(error)
        case .generate(let answer):
            if case .queued = phase { return answer.fail(error) }
            var usage = Usage()
            usage.promptTokens = UInt32(clamping: tokens.count)
            usage.completionTokens = UInt32(clamping: answer.count)
            answer.end(reason, usage: usage, timings: timings)
        }
    }

    var timings: Timings {
        let now = cl_monotonic_nanoseconds()
        var timings = Timings()
        guard started != 0 else {
            timings.queue = now &- call.received
            return timings
        }
        timings.queue = started &- call.received
        timings.prefill = (prefilled == 0 ? now : prefilled) &- started
        timings.decode = prefilled == 0 ? 0 : now &- prefilled
        return timings
    }
}
