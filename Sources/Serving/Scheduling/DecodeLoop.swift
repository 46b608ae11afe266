// SPDX-License-Identifier: Apache-2.0
//
// The decode thread. It alone touches requests, slots and states, and it drives the one worker pool. Each turn it takes what has
// been posted, asks `SchedulerCore` what to compute, computes it, and tells callers, ledger and log what came of it.

import CLinux
import Engine
import Logging
import ModelStore
import RPC

final class DecodeLoop: @unchecked Sendable {
    enum Message: Sendable {
        case submit(Request, Model)
        /// Somebody who may has cancelled the request of this id.
        case cancel(String)
        /// The caller of this request has gone away.
        case gone(String)
        /// The reader of this request's answer has caught up.
        case drained(String)
        /// What the turn of this request has left of its session is on disk, or cannot be written there.
        case kept(String, isOnDisk: Bool)
        /// Somebody wants to see the thread move.
        case nudge
        /// Ends every request: the daemon stops.
        case endAll
        /// Models whose files are gone or replaced.
        case stale([Model])
        case stop
    }

    private let mailbox = Mailbox<Message>()
    /// Told once the thread has ended.
    private let end = Mailbox<Void>()
    private let ledger: Ledger
    private let metrics: ServingMetrics
    private let logger: Logger
    private let workers: WorkerPool
    private let clock: @Sendable () -> UInt64
    /// Turns taken and layers computed: what the watchdog watches.
    private let signs = Progress()

    // Owned by the decode thread.
    private var core: SchedulerCore
    private let runners: ModelRunners
    private var isStopping = false
    /// Requests that are over, and whose callers are told so when their sessions are on disk.
    private var unkept: [String: SchedulerCore.Ended] = [:]

    /// - Parameter clock: CLOCK_MONOTONIC in nanoseconds, by which the thread also sleeps.
    init(
        _ configuration: ServingConfiguration, ledger: Ledger, metrics: ServingMetrics,
        workers: WorkerPool, kernels: Kernels.Table, logger: Logger,
        clock: @escaping @Sendable () -> UInt64 = { cl_monotonic_nanoseconds() }
    ) {
        self.ledger = ledger
        self.metrics = metrics
        self.workers = workers
        self.logger = logger
        self.clock = clock
        runners = ModelRunners { [signs] model throws(ModelError) in
            try ModelRunner(
                model, configuration, workers: workers, kernels: kernels, progress: signs)
        }
        core = SchedulerCore(configuration, states: runners)
        startThread(name: "mmf-decode") { [self] in
            run()
            end.post(())
        }
    }

    func post(_ message: Message) { mailbox.post(message) }

    /// Ends what is left, and returns when the thread has ended: it sends nothing afterwards.
    func stop() {
        post(.stop)
        _ = end.drain(until: nil)
        end.post(())
    }

    /// Rises while the thread computes, and at least once after each `nudge`.
    var progress: UInt64 { signs.value }

    private func run() {
        if let problem = workers.pinCaller() {
            logger.warning(
                "pin_threads: the system refuses it: \(problem), ignoring (a service needs SystemCallFilter=sched_setaffinity)"
            )
        }
        while true {
            for message in mailbox.drain(until: core.wakeTime) { take(message) }
            if isStopping { break }
            signs.advance()
            turn()
        }
        conclude(core.endAll(.cancelled))
        while !unkept.isEmpty {
            for case .kept(let id, let isOnDisk) in mailbox.drain(until: nil) {
                kept(id, isOnDisk)
            }
        }
    }

    private func take(_ message: Message) {
        switch message {
        case .submit(let request, let model):
            do throws(ModelError) {
                try runners.retain(model)
                core.submit(request)
                request.consumer.begin()
            } catch {
                let why = RPCError(
                    .resourceExhausted, "model '\(request.record.model)' cannot be run: \(error)",
                    reason: "NO_MEMORY")
                conclude([SchedulerCore.Ended(request: request, ending: .refused(why))])
            }
        case .cancel(let id): conclude(core.cancel(id).map { [$0] } ?? [])
        case .gone(let id): conclude(core.gone(id).map { [$0] } ?? [])
        case .drained(let id): core.drained(id)
        case .kept(let id, let isOnDisk): kept(id, isOnDisk)
        case .nudge: break
        case .endAll: conclude(core.endAll(.drained))
        case .stale(let models):
            runners.retire(models)
            for model in models { core.prefixes.remove(digest: model.digest) }
        case .stop: isStopping = true
        }
    }

    private func turn() {
        let began = clock()
        let turn = core.plan(now: began)
        for request in turn.begun { ledger.leaveQueue(request.record) }
        conclude(turn.ended)
        ledger.occupy(core.occupied)
        core.computes(from: clock())
        var written: [Account: Int] = [:]
        for batch in turn.batches {
            let runner = runners[batch.model]
            let computed: [ComputedRows]
            do throws(ModelError) { computed = try runner.run(batch) } catch {
                let why = RPCError(.resourceExhausted, "\(error)", reason: "NO_MEMORY")
                conclude(core.endAll(of: batch.model, .refused(why)))
                continue
            }
            // After computing and before anything is sent: what was computed may be of other bytes, or of zeros.
            if let damage = runner.model.damage {
                let problem = StoreError.changed(runner.model.file.path, damage)
                conclude(core.endAll(of: batch.model, .damaged("\(problem)")))
                core.prefixes.remove(digest: runner.model.digest)
                continue
            }
            // Tokens are chosen by the workers, side by side; what comes of it is told in order.
            workers.forEach(computed.count) { index in
                let (sequence, count) = batch.parts[index]
                sequence.request.consumer.compute(
                    computed[index], of: sequence, isPromptDone: sequence.completesPrompt(count))
            }
            let steps = zip(batch.parts, computed).map { part, rows in
                take(rows, part.sequence, part.count, &written)
            }
            conclude(core.apply(batch, steps, now: clock()))
        }
        if !written.isEmpty { ledger.spend(written) }
        ledger.prefixes = core.prefixes.stats
        if !turn.batches.isEmpty { metrics.turn(clock() &- began) }
    }

    /// Hands computed rows to their request's consumer, and counts the tokens.
    private func take(
        _ rows: ComputedRows, _ sequence: Sequence, _ count: Int, _ written: inout [Account: Int]
    ) -> Step {
        let record = sequence.request.record
        let (isPrompt, before) = (sequence.promptLeft != nil, record.completionTokens)
        let step = sequence.request.consumer.take(
            rows, of: sequence, isPromptDone: sequence.completesPrompt(count))
        if isPrompt { record.readTokens += count }
        let added = record.completionTokens - before
        if added > 0 { written[record.account, default: 0] += added }
        metrics.computed(prompt: isPrompt ? count : 0, completion: added, for: record.account)
        return step
    }

    /// Tells caller, ledger and log the ends of requests; of turns whose sessions are to be on disk, when they are there.
    private func conclude(_ ended: [SchedulerCore.Ended]) {
        guard !ended.isEmpty else { return }
        for end in ended {
            let request = end.request
            guard let session = request.session, session.isKeptOnDisk, request.hasBegun,
                end.ending.leavesState
            else {
                tell(end)
                continue
            }
            unkept[request.id] = end
            session.whenKept { [mailbox, id = request.id] isOnDisk in
                mailbox.post(.kept(id, isOnDisk: isOnDisk))
            }
        }
        ledger.occupy(core.occupied)
    }

    private func kept(_ id: String, _ isOnDisk: Bool) {
        guard let end = unkept.removeValue(forKey: id) else { return }
        end.request.record.isSessionOnDisk = isOnDisk
        tell(end)
    }

    private func tell(_ end: SchedulerCore.Ended) {
        let (request, now) = (end.request, clock())
        let reason = request.conclude(end.ending, now: now)
        core.watchReader(of: request)
        // An answer that was complete has been counted.
        guard ledger.finish(request.record) else { return }
        if !request.hasBegun { ledger.leaveQueue(request.record) }
        metrics.finished(request, reason, now: now)
        log(request, reason, now)
        runners.release(request.model)
    }

    private func log(_ request: Request, _ reason: String, _ now: UInt64) {
        let record = request.record
        let timings = request.timings(now)
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
                "cached_tokens": "\(record.cachedTokens)",
                "preemptions": "\(record.preemptions)",
                "queue_ms": milliseconds(timings.queue),
                "prefill_ms": milliseconds(timings.prefill),
                "decode_ms": milliseconds(timings.decode),
            ])
        if let text = request.consumer.transcript {
            logger.info("answer of \(record.id): \(text)", metadata: ["request": "\(record.id)"])
        }
    }
}
