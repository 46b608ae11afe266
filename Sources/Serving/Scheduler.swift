// SPDX-License-Identifier: Apache-2.0
//
// The decode thread. It alone touches sequences, slots and states, and it drives the one worker pool. Each turn it takes what
// has been posted, lets waiting sequences into free slots, computes one batch for each model, and hands out what came of it.
// Answers do not depend on who shares a batch, so a turn may be cut any way that is fair and fast.

import CLinux
import Engine
import Logging
import RPC
import Synchronization

final class Scheduler: @unchecked Sendable {
    enum Message: Sendable {
        case submit([Sequence])
        case cancel(String)
        /// A reader has caught up, or somebody wants to see the thread move.
        case wake
        /// Ends every sequence as cancelled.
        case cancelAll
        case stop
    }

    private let mailbox = Mailbox<Message>()
    private let configuration: ServingConfiguration
    private let ledger: Ledger
    private let logger: Logger
    private let workers: WorkerPool
    private let kernels: Kernels.Table
    /// Turns taken: what the watchdog watches.
    private let turns = Atomic<UInt64>(0)
    private let stopped = Atomic<Bool>(false)

    // Owned by the decode thread.
    private var queue: [Sequence] = []
    private var active: [Sequence] = []
    /// Answers that are complete but not yet read.
    private var unread: [Sequence] = []
    private var runners: [ObjectIdentifier: ModelRunner] = [:]
    private var isStopping = false

    init(
        _ configuration: ServingConfiguration, ledger: Ledger, workers: WorkerPool,
        kernels: Kernels.Table, logger: Logger
    ) {
        self.configuration = configuration
        self.ledger = ledger
        self.workers = workers
        self.kernels = kernels
        self.logger = logger
        startThread(name: "mmf-decode") { [self] in run() }
    }

    func post(_ message: Message) { mailbox.post(message) }

    /// How often the thread has gone round. It goes round at least once after each `wake`.
    var progress: UInt64 { turns.load(ordering: .relaxed) }
    var hasStopped: Bool { stopped.load(ordering: .acquiring) }

    private func run() {
        while !isStopping {
            for message in mailbox.drain(until: patience()) { take(message) }
            turns.wrappingAdd(1, ordering: .relaxed)
            expire()
            admit()
            compute()
        }
        for sequence in queue + active + unread { end(sequence, .cancelled) }
        stopped.store(true, ordering: .releasing)
    }

    /// How long the thread may sleep: not at all while there is work, else until the next time limit.
    private func patience() -> UInt64? {
        if active.contains(where: { $0.isRunnable }) { return 0 }
        let deadlines = (queue + active + unread).map { sequence in
            let since = sequence.waitingSince
            return since == 0
                ? sequence.call.deadline
                : min(sequence.call.deadline, since &+ configuration.slowReaderTimeout)
        }
        return deadlines.min()
    }

    private func take(_ message: Message) {
        switch message {
        case .submit(let sequences): queue += sequences
        case .cancel(let id):
            for sequence in queue + active where sequence.record.id == id {
                end(sequence, .cancelled)
            }
        case .wake:
            for sequence in active + unread { sequence.flush() }
        case .cancelAll:
            for sequence in queue + active { end(sequence, .cancelled) }
        case .stop: isStopping = true
        }
    }

    // MARK: Time limits

    private func expire() {
        let now = cl_monotonic_nanoseconds()
        for sequence in queue + active {
            if sequence.call.isCancelled || sequence.isClosed {
                end(sequence, .cancelled)
            } else if now >= sequence.call.deadline {
                end(sequence, .deadline)
            }
        }
        for sequence in active + unread {
            let since = sequence.waitingSince
            guard since != 0, now &- since >= configuration.slowReaderTimeout else { continue }
            let seconds = configuration.slowReaderTimeout / 1_000_000_000
            sequence.fail(
                RPCError(
                    .aborted, "nothing of the answer was read for \(seconds) s",
                    reason: "SLOW_READER"))
            retire(sequence, "slow reader")
        }
        unread.removeAll { sequence in
            guard sequence.waitingSince == 0 || sequence.call.isCancelled else { return false }
            return true
        }
    }

    // MARK: Admission

    /// Fills free slots, each time from the user who has the fewest; of one user's, first come, first served.
    private func admit() {
        while active.count < configuration.slots, !queue.isEmpty {
            var used: [UInt32: Int] = [:]
            for sequence in active { used[sequence.record.peer.uid, default: 0] += 1 }
            let next = queue.indices.min { a, b in
                let (ua, ub) = (
                    used[queue[a].record.peer.uid, default: 0],
                    used[queue[b].record.peer.uid, default: 0]
                )
                return ua != ub ? ua < ub : a < b
            }
            guard let next else { return }
            let sequence = queue.remove(at: next)
            guard let slot = runner(of: sequence.model).takeSlot() else { return }
            sequence.begin(slot: slot)
            if sequence.record.phase == .queued {
                ledger.leaveQueue(sequence.record)
                sequence.record.phase = .prefill
            }
            active.append(sequence)
        }
    }

    private func runner(of model: Model) -> ModelRunner {
        let key = ObjectIdentifier(model)
        if let runner = runners[key] { return runner }
        let runner = ModelRunner(
            model, slots: configuration.slots,
            maxRows: configuration.prefillChunk + 2 * configuration.slots, workers: workers,
            kernels: kernels)
        runners[key] = runner
        return runner
    }

    // MARK: Work

    private func compute() {
        for runner in runners.values {
            let key = ObjectIdentifier(runner.evaluator.model)
            let sequences = active.filter { ObjectIdentifier($0.model) == key && $0.isRunnable }
            guard !sequences.isEmpty else { continue }
            let alone = sequences.allSatisfy { $0.isPrefilling }
            let ranges = runner.run(
                sequences,
                chunk: alone ? configuration.prefillChunk : configuration.sharedPrefillChunk)
            for (sequence, rows) in zip(sequences, ranges) {
                advance(sequence, rows, runner.evaluator)
            }
        }
    }

    /// Takes what a batch computed for a sequence.
    private func advance(_ sequence: Sequence, _ rows: Range<Int>, _ evaluator: Evaluator) {
        guard let last = rows.last else { return }
        let isPromptDone = sequence.didCompute(rows.count)
        switch sequence.purpose {
        case .generate(let answer):
            guard isPromptDone else { return }
            if sequence.record.phase != .decode {
                sequence.record.phase = .decode
                sequence.prefilled = cl_monotonic_nanoseconds()
            }
            let next = evaluator.withLogits(row: last) { answer.next($0) }
            sequence.record.completionTokens = answer.count
            switch next {
            case .success(let token): sequence.phase = .decoding(last: token)
            case .failure(let ending): end(sequence, ending.reason)
            }
        case .embed(let vector):
            for row in rows where vector.pooling != .last || (isPromptDone && row == last) {
                evaluator.withHidden(row: row) { vector.add($0) }
            }
            guard isPromptDone else { return }
            vector.finish(promptTokens: sequence.tokens.count)
            retire(sequence, "done")
        }
    }

    // MARK: The end

    /// Ends a sequence for `reason`, giving the caller what there is.
    private func end(_ sequence: Sequence, _ reason: FinishReason) {
        if case .finished = sequence.phase { return }
        let wasQueued = sequence.record.phase == .queued
        sequence.finish(reason, wasQueued: wasQueued)
        retire(sequence, "\(reason)")
        if sequence.waitingSince != 0 { unread.append(sequence) }
    }

    private func retire(_ sequence: Sequence, _ reason: String) {
        sequence.phase = .finished
        queue.removeAll { $0 === sequence }
        active.removeAll { $0 === sequence }
        let runner = runners[ObjectIdentifier(sequence.model)]
        if sequence.slot >= 0 {
            runner?.giveBack(sequence.slot)
            sequence.slot = -1
        }
        guard sequence.isRequestOver else { return }
        if sequence.record.phase == .queued { ledger.leaveQueue(sequence.record) }
        sequence.record.phase = .decode
        ledger.finish(sequence.record)
        if let runner, runner.isIdle, !isKnown(sequence.model) {
            runners[ObjectIdentifier(sequence.model)] = nil
        }
        log(sequence, reason)
    }

    /// Whether the runner of a model is worth keeping: the one used last is.
    private func isKnown(_ model: Model) -> Bool { runners.count <= 4 }

    private func log(_ sequence: Sequence, _ reason: String) {
        let record = sequence.record
        let timings = sequence.timings
        func milliseconds(_ nanoseconds: UInt64) -> Logger.MetadataValue {
            "\(nanoseconds / 1_000_000)"
        }
        logger.info(
            "\(record.method) \(record.id): \(reason), \(record.promptTokens) + \(record.completionTokens) tokens",
            metadata: [
                "message-id": "\(Event.requestFinished)", "request": "\(record.id)",
                "uid": "\(record.peer.uid)", "pid": "\(record.peer.pid)",
                "model": "\(record.model)",
                "prompt_tokens": "\(record.promptTokens)",
                "completion_tokens": "\(record.completionTokens)", "finish": "\(reason)",
                "queue_ms": milliseconds(timings.queue),
                "prefill_ms": milliseconds(timings.prefill),
                "decode_ms": milliseconds(timings.decode),
            ])
    }
}
