// SPDX-License-Identifier: Apache-2.0

import DequeModule
import Engine
import ModelStore
import RPC

/// One call: what waits, has a deadline, is cancelled, counted, shown and logged as a whole. Owned by the decode thread once it
/// is posted.
final class Request: @unchecked Sendable {
    let record: RequestRecord
    /// CLOCK_MONOTONIC, nanoseconds.
    let deadline: UInt64
    let model: ModelID
    /// Of the model.
    let digest: String
    let memory: SequenceMemory
    let consumer: any Consumer

    /// Its place in the order of arrival.
    var arrival = 0
    /// Its place before all that have not been preempted, while one of its sequences is.
    var preemptedPlace = 0
    /// Its inputs that are in no slot, preempted ones first.
    var waiting: Deque<Sequence> = []
    /// Inputs that are not done.
    var unfinished: Int
    /// Its reader is behind: its sequences pause until the outbox has drained.
    var isStalled = false { didSet { record.isStalled = isStalled } }
    /// Its session's state is being read: it has memory, and no slot yet.
    var isReading = false
    /// CLOCK_MONOTONIC, nanoseconds: when it got its first slot, and when a prompt was done; 0 before.
    var started: UInt64 = 0
    var prefilled: UInt64 = 0

    /// The session it appends to, if it does.
    let session: SessionTurn?

    /// - Parameter inputs: the tokens of each input; one or more, none empty; of a session one, which may be.
    init(
        record: RequestRecord, deadline: UInt64, model: ModelID, digest: String,
        memory: SequenceMemory = .recurrent(floats: 0), inputs: [[UInt32]], consumer: any Consumer,
        session: SessionTurn? = nil
    ) {
        precondition(session == nil || inputs.count == 1)
        self.digest = digest
        self.memory = memory
        self.session = session
        self.record = record
        self.deadline = deadline
        self.model = model
        self.consumer = consumer
        unfinished = inputs.count
        for (index, tokens) in inputs.enumerated() {
            waiting.append(Sequence(request: self, input: index, tokens: tokens))
        }
    }

    var id: String { record.id }
    var account: Account { record.account }
    var hasBegun: Bool { started != 0 }
    /// Its place among the requests of its account that wait: lower is earlier.
    var place: Int { waiting.first?.isPreempted == true ? preemptedPlace : arrival }

    /// How a request ends.
    enum Ending {
        /// `nil` where there is but one way to be complete.
        case complete(FinishReason?)
        case deadline
        case cancelled
        /// The daemon stops.
        case drained
        /// Nothing of the answer was read for so many nanoseconds.
        case slowReader(UInt64)
        /// Its model's file has been written or cut short, or its results are not finite.
        case damaged(String)
        /// Its session cannot go on with it.
        case refused(RPCError)

        /// Whether the model's states are what they should be.
        var leavesState: Bool {
            switch self {
            case .complete, .deadline, .cancelled, .drained, .slowReader: true
            case .damaged, .refused: false
            }
        }
    }

    /// Tells the caller the end: with what there is, or with an error if there is nothing it could use.
    ///
    /// - Returns: the end's name in the log.
    func conclude(_ ending: Ending, now: UInt64) -> String {
        let partial = hasBegun && consumer.keepsPartialAnswer
        switch ending {
        case .complete(let reason):
            end(reason, now)
            return reason.map { "\($0)" } ?? "done"
        case .deadline where partial, .cancelled where partial, .drained where partial:
            let reason: FinishReason = if case .deadline = ending { .deadline } else { .cancelled }
            end(reason, now)
            return "\(reason)"
        case .deadline:
            consumer.fail(
                RPCError(
                    .deadlineExceeded,
                    hasBegun
                        ? "the deadline passed before request \(id) was done"
                        : "the deadline passed while request \(id) was waiting for a slot",
                    reason: "DEADLINE"))
            return "deadline"
        case .cancelled:
            consumer.fail(
                RPCError(.cancelled, "request \(id) was cancelled", reason: "CANCELLED"))
            return "cancelled"
        case .drained:
            consumer.fail(
                RPCError(.unavailable, "the daemon is stopping", reason: "DRAINING")
                    .retrying(after: 1_000_000_000))
            return "drained"
        case .slowReader(let limit):
            consumer.fail(
                RPCError(
                    .aborted, "nothing of the answer was read for \(limit / 1_000_000_000) s",
                    reason: "SLOW_READER"))
            return "slow reader"
        case .damaged(let problem):
            consumer.fail(
                RPCError(
                    .dataLoss, "model '\(record.model)' cannot go on: \(problem)",
                    reason: "MODEL_DAMAGED"))
            return "damaged"
        case .refused(let error):
            consumer.fail(error)
            return "refused"
        }
    }

    private func end(_ reason: FinishReason?, _ now: UInt64) {
        var usage = Usage()
        usage.promptTokens = UInt32(clamping: record.promptTokens)
        usage.completionTokens = UInt32(clamping: record.completionTokens)
        usage.cachedTokens = UInt32(clamping: record.cachedTokens)
        consumer.end(reason, usage: usage, timings: timings(now))
    }

    func timings(_ now: UInt64) -> Timings {
        var timings = Timings()
        guard hasBegun else {
            timings.queue = now &- record.received
            return timings
        }
        timings.queue = started &- record.received
        timings.prefill = (prefilled == 0 ? now : prefilled) &- started
        timings.decode = prefilled == 0 ? 0 : now &- prefilled
        return timings
    }
}
