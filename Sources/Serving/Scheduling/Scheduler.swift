// SPDX-License-Identifier: Apache-2.0
//
// The decode thread. It alone touches sequences, slots and states, and it drives the one worker pool. Each turn it takes what
// has been posted, lets waiting sequences into free slots, computes one batch for each model, and hands out what came of it.
// Answers do not depend on who shares a batch, so a turn may be cut any way that is fair and fast.

import CLinux
import Engine
import Logging
import ModelStore
import RPC

/// A model whose file is gone or replaced. It may still be on its way here with a request that was let in before.
private struct Stale {
    weak var model: Model?
}

final class Scheduler: @unchecked Sendable {
    enum Message: Sendable {
        case submit([Sequence])
        case cancel(String)
        /// A reader has caught up, or somebody wants to see the thread move.
        case wake
        /// Ends every sequence: the daemon stops.
        case cancelAll
        /// Models whose files are gone or replaced: they go with their last sequence.
        case stale([Model])
        case stop
    }

    private let mailbox = Mailbox<Message>()
    private let configuration: ServingConfiguration
    private let ledger: Ledger
    private let logger: Logger
    private let workers: WorkerPool
    private let kernels: Kernels.Table
    /// Turns taken and layers computed: what the watchdog watches.
    private let signs = Progress()

    // Owned by the decode thread.
    private var queue: [Sequence] = []
    private var active: [Sequence] = []
    /// Answers that are complete but not yet read.
    private var unread: [Sequence] = []
    private var runners: [ObjectIdentifier: ModelRunner] = [:]
    private var stale: [Stale] = []
    /// Whether somebody has come or gone since slots were last given out: until then there is nothing to decide.
    private var isUnsettled = false
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

    /// Rises while the thread computes, and at least once after each `wake`.
    var progress: UInt64 { signs.value }

    private func run() {
        if let problem = workers.pinCaller() {
            logger.warning(
                "pin_threads: the system refuses it: \(problem), ignoring (a service needs SystemCallFilter=sched_setaffinity)"
            )
        }
        while !isStopping {
            for message in mailbox.drain(until: patience()) { take(message) }
            signs.advance()
            expire()
            admit()
            compute()
        }
        for sequence in queue + active + unread { end(sequence, .cancelled) }
    }

    /// How long the thread may sleep: not at all while there is work, else until the next time limit.
    private func patience() -> UInt64? {
        if active.contains(where: { $0.isRunnable }) { return 0 }
        // The last turn has freed slots for those who wait.
        if !queue.isEmpty, active.count < configuration.slots { return 0 }
        let deadlines = (queue + active).map(\.call.deadline)
        // An answer that is complete has met its deadline; only its reader is waited for.
        let patience = (begun + unread).map(\.waitingSince).filter { $0 != 0 }
            .map { $0 &+ configuration.slowReaderTimeout }
        return (deadlines + patience).min()
    }

    private func take(_ message: Message) {
        switch message {
        case .submit(let sequences):
            queue += sequences
            isUnsettled = true
            for sequence in sequences { sequence.announce() }
        case .cancel(let id):
            for sequence in queue + active where sequence.record.id == id {
                end(sequence, .cancelled)
            }
        case .wake:
            for sequence in queue + active + unread { sequence.flush() }
        case .cancelAll:
            for sequence in queue + active {
                if sequence.hasAnswer { end(sequence, .cancelled) } else { turnAway(sequence) }
            }
        case .stale(let models):
            stale.removeAll { $0.model == nil }
            stale += models.map { Stale(model: $0) }
            for model in models { tidy(model) }
        case .stop: isStopping = true
        }
    }

    /// Sequences that have had a slot.
    private var begun: [Sequence] { queue.filter { $0.state != nil } + active }

    // MARK: Time limits

    private func expire() {
        let now = cl_monotonic_nanoseconds()
        for sequence in begun + unread {
            let since = sequence.waitingSince
            guard since != 0, now &- since >= configuration.slowReaderTimeout else { continue }
            let seconds = configuration.slowReaderTimeout / 1_000_000_000
            sequence.fail(
                RPCError(
                    .aborted, "nothing of the answer was read for \(seconds) s",
                    reason: "SLOW_READER"))
            retire(sequence, "slow reader")
        }
        for sequence in queue + active {
            if sequence.call.isCancelled || sequence.isClosed {
                end(sequence, .cancelled)
            } else if now >= sequence.call.deadline {
                end(sequence, .deadline)
            }
        }
        unread.removeAll { $0.waitingSince == 0 || $0.call.isCancelled }
    }

    // MARK: Admission

    /// Fills free slots, each time from the user who has the fewest; of one user's, first come, first served. If none is free,
    /// whoever has several makes room for those who have none.
    private func admit() {
        guard isUnsettled else { return }
        isUnsettled = false
        while !queue.isEmpty {
            let users = active.map(\.record.peer.uid)
            if active.count == configuration.slots {
                let waiting = queue.lazy.map(\.record.peer.uid)
                guard let place = Fairness.yields(waiting: waiting, active: users) else { return }
                setAside(place)
                continue
            }
            let next = Fairness.next(waiting: queue.lazy.map(\.record.peer.uid), active: users)
            guard let next, let slot = slot(for: queue[next]) else { return }
            let sequence = queue.remove(at: next)
            sequence.begin(slot: slot)
            if sequence.record.phase == .queued {
                ledger.leaveQueue(sequence.record)
                sequence.record.phase = .prefill
            }
            active.append(sequence)
            ledger.occupy(active.count)
        }
    }

    private func slot(for sequence: Sequence) -> Int? {
        let runner = runner(of: sequence.model)
        guard let state = sequence.state else { return runner.takeSlot() }
        return runner.takeSlot(for: state)
    }

    /// Takes its slot from an active sequence, which goes on, exactly as if nothing had been, as soon as its user's turn comes.
    private func setAside(_ place: Int) {
        let sequence = active.remove(at: place)
        sequence.state = runner(of: sequence.model).setAside(
            sequence.slot, tokens: sequence.consumed)
        sequence.slot = -1
        // Before the others of its user, so that no user has more states kept than there are slots.
        queue.insert(sequence, at: 0)
    }

    private func runner(of model: Model) -> ModelRunner {
        let key = ObjectIdentifier(model)
        if let runner = runners[key] { return runner }
        let runner = ModelRunner(
            model, slots: configuration.slots,
            maxRows: max(configuration.prefillChunk, configuration.sharedPrefillChunk)
                + 2 * configuration.slots, workers: workers, kernels: kernels,
            progress: signs)
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
            // After computing and before anything is sent: what was computed may be of other bytes, or of zeros.
            if let damage = runner.evaluator.model.damage {
                fail(all: runner.evaluator.model, because: damage)
                continue
            }
            for (sequence, rows) in zip(sequences, ranges) {
                advance(sequence, rows, runner.evaluator)
            }
        }
    }

    /// Takes what a batch computed for a sequence.
    private func advance(_ sequence: Sequence, _ rows: Range<Int>, _ evaluator: Evaluator) {
        guard let last = rows.last else { return }
        sequence.consumed += rows.count
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
            if sequence.isRequestOver, sequence.waitingSince != 0 { unread.append(sequence) }
        }
    }

    // MARK: The end

    /// Ends everything that runs or waits on a model whose file has been written or cut short. What was sent stands: it was
    /// computed before.
    private func fail(all model: Model, because damage: FileDamage) {
        for sequence in queue + active where sequence.model === model {
            sequence.fail(
                RPCError(
                    .dataLoss,
                    "model '\(sequence.record.model)' cannot go on: \(StoreError.changed(model.file.path, damage))",
                    reason: "MODEL_DAMAGED"))
            retire(sequence, "damaged")
        }
    }

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
        isUnsettled = true
        ledger.occupy(active.count)
        let runner = runners[ObjectIdentifier(sequence.model)]
        if sequence.slot >= 0 {
            runner?.giveBack(sequence.slot)
            sequence.slot = -1
        }
        tidy(sequence.model)
        guard sequence.isRequestOver, ledger.finish(sequence.record) else { return }
        if sequence.record.phase == .queued { ledger.leaveQueue(sequence.record) }
        sequence.record.phase = .decode
        log(sequence, reason)
    }

    /// Refuses a sequence that has got nothing yet, because the daemon stops.
    private func turnAway(_ sequence: Sequence) {
        sequence.fail(
            RPCError(.unavailable, "the daemon is stopping", reason: "DRAINING")
                .retrying(after: 1_000_000_000))
        retire(sequence, "drained")
    }

    /// Lets go of a model that nothing uses: at once if its file is gone, else when there are many.
    private func tidy(_ model: Model) {
        let key = ObjectIdentifier(model)
        guard stale.contains(where: { $0.model === model }) || runners.count > Self.runnersKept,
            !queue.contains(where: { $0.model === model }),
            !active.contains(where: { $0.model === model })
        else { return }
        runners[key] = nil
    }

    /// Models whose buffers stay while they are idle.
    private static let runnersKept = 4

    private func log(_ sequence: Sequence, _ reason: String) {
        let record = sequence.record
        let timings = sequence.timings
        func milliseconds(_ nanoseconds: UInt64) -> Logger.MetadataValue {
            "\(nanoseconds / 1_000_000)"
        }
        logger.info(
            "\(record.line(reason, decoding: timings.decode))",
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
        if case .generate(let answer) = sequence.purpose, let text = answer.transcript {
            logger.info("answer of \(record.id): \(text)", metadata: ["request": "\(record.id)"])
        }
    }
}
