// SPDX-License-Identifier: Apache-2.0
//
// The thread that computes for one SharedModel. Each turn it takes what has been posted, gives free slots to jobs that wait, and
// computes one batch: a row for every answer that is being written, and prompts for as many rows as are left. Asleep while there
// is nothing to do, and while every consumer is behind.

import Engine
import ModelStore

final class LocalEngine: Sendable {
    enum Message: Sendable {
        case submit(LocalJob)
        /// A consumer has room again, or is gone.
        case wake
        case stop
    }

    private let mailbox = Mailbox<Message>()

    init(
        _ model: Model, _ kernels: Kernels.Table, _ options: SharedModel.Options
    ) throws(ModelError) {
        nonisolated(unsafe) let turns = try LocalTurns(model, kernels, options)
        startThread(name: "mmf-engine") { [mailbox] in
            while true {
                for message in mailbox.drain(until: turns.hasWork ? 0 : nil) {
                    switch message {
                    case .submit(let job): turns.submit(job)
                    case .wake: break
                    case .stop: return
                    }
                }
                turns.run()
            }
        }
    }

    deinit { mailbox.post(.stop) }

    func submit(_ job: LocalJob) { mailbox.post(.submit(job)) }
    var wake: @Sendable () -> Void { { [mailbox] in mailbox.post(.wake) } }
}

/// The engine's thread's own: evaluator, states and jobs.
private final class LocalTurns {
    private let model: Model
    private let evaluator: Evaluator
    private let states: StatePool
    /// In the order in which they came.
    private var jobs: [LocalJob] = []
    private var free: [Int]

    private static let maxRows = 256

    init(
        _ model: Model, _ kernels: Kernels.Table, _ options: SharedModel.Options
    ) throws(ModelError) {
        let slots = max(1, options.conversations)
        self.model = model
        evaluator = try Evaluator(
            model: model, workers: WorkerPool(threads: options.threads),
            maxRows: Self.maxRows + slots, kernels: kernels)
        states = try StatePool(slots: slots, model: model)
        free = Array(0..<slots)
    }

    var hasWork: Bool { jobs.contains { $0.consumer.isCancelled || $0.consumer.hasRoom } }

    func submit(_ job: LocalJob) {
        job.consumer.begin(ahead: jobs.count { $0.slot == nil })
        jobs.append(job)
    }

    func run() {
        remove(jobs.filter { $0.consumer.isCancelled })
        fillSlots()
        var rows: [BatchRow] = []
        var parts: [(job: LocalJob, rows: Range<Int>)] = []
        var left = Self.maxRows
        for job in jobs {
            guard let slot = job.slot, job.consumer.hasRoom else { continue }
            let next = job.rows(left, slot: slot)
            guard !next.isEmpty else { continue }
            if job.last == nil { left -= next.count }
            parts.append((job, rows.count..<rows.count + next.count))
            rows += next
        }
        guard !rows.isEmpty else { return }
        do { try evaluator.run(rows, states: states) } catch { return fail(MMFreeError(error)) }
        // After computing and before anything is told: what was computed may be of other bytes, or of zeros.
        if let damage = model.damage {
            return fail(MMFreeError(StoreError.changed(model.file.path, damage)))
        }
        remove(parts.filter { $0.job.take($0.rows, of: evaluator) }.map(\.job))
    }

    /// Jobs that wait get free slots, and those of jobs whose consumers are behind.
    private func fillSlots() {
        for job in jobs where job.slot == nil && job.consumer.hasRoom {
            if free.isEmpty,
                let idle = jobs.first(where: { $0.slot != nil && !$0.consumer.hasRoom })
            {
                idle.snapshot = idle.slot.map { states.save($0, history: idle.history) }
                leave(idle)
            }
            guard let slot = free.popLast() else { return }
            if let snapshot = job.snapshot {
                do { try states.restore(slot, snapshot) } catch {
                    free.append(slot)
                    return fail(MMFreeError(error))
                }
                job.snapshot = nil
            } else {
                states.reset(slot)
                job.consumer.enter()
            }
            job.slot = slot
        }
    }

    private func leave(_ job: LocalJob) {
        if let slot = job.slot { free.append(slot) }
        job.slot = nil
    }

    private func remove(_ over: [LocalJob]) {
        for job in over { leave(job) }
        jobs.removeAll { job in over.contains { $0 === job } }
    }

    private func fail(_ error: MMFreeError) {
        for job in jobs { job.consumer.fail(error) }
        remove(jobs)
    }
}
