// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore

/// One model's evaluator and states. Owned by the decode thread.
final class ModelRunner {
    let model: Model
    let states: StatePool
    private let evaluator: Evaluator
    private var rows: [BatchRow] = []

    init(
        _ model: Model, _ configuration: ServingConfiguration, workers: WorkerPool,
        kernels: Kernels.Table, progress: Progress
    ) throws(ModelError) {
        self.model = model
        evaluator = try Evaluator(
            model: model, workers: workers,
            maxRows: configuration.prefillChunk + configuration.slots, kernels: kernels,
            progress: progress)
        states = try StatePool(slots: configuration.slots + configuration.tapSlots, model: model)
    }

    /// Computes a batch.
    ///
    /// - Returns: each part's rows.
    /// - Throws: `noMemory`, for keys and values.
    func run(_ batch: SchedulerCore.Batch) throws(ModelError) -> [ComputedRows] {
        rows.removeAll(keepingCapacity: true)
        var computed: [ComputedRows] = []
        computed.reserveCapacity(batch.parts.count)
        for (sequence, count) in batch.parts {
            let first = rows.count
            sequence.rows(count, into: &rows)
            computed.append(ComputedRows(evaluator: evaluator, rows: first..<rows.count))
        }
        try evaluator.run(rows, states: states)
        return computed
    }
}

/// The models that requests run on, and their runners. A runner stays while it is idle, unless its file is gone or there are
/// many.
final class ModelRunners: SlotStates {
    private struct Entry {
        let runner: ModelRunner
        /// Requests that are open.
        var users = 0
    }

    /// A model whose file is gone or replaced. It may still be on its way here with a request that was let in before.
    private struct Stale {
        weak var model: Model?
    }

    private var stale: [Stale] = []
    private var entries: [ModelID: Entry] = [:]
    private let make: (Model) throws(ModelError) -> ModelRunner
    /// Runners kept while they are idle.
    private static let idleLimit = 4

    init(_ make: @escaping (Model) throws(ModelError) -> ModelRunner) { self.make = make }

    /// A request for `model` has come: it can be run from now on.
    ///
    /// - Throws: `noMemory`; then there is nothing to release.
    func retain(_ model: Model) throws(ModelError) {
        let id = ObjectIdentifier(model)
        if entries[id] == nil { entries[id] = Entry(runner: try make(model)) }
        entries[id]?.users += 1
    }

    /// One is over.
    func release(_ id: ModelID) {
        entries[id]?.users -= 1
        tidy(id)
    }

    /// These models' files are gone or replaced: they go with their last requests.
    func retire(_ models: [Model]) {
        stale.removeAll { $0.model == nil }
        stale += models.map { Stale(model: $0) }
        for model in models { tidy(ObjectIdentifier(model)) }
    }

    private func tidy(_ id: ModelID) {
        guard let entry = entries[id], entry.users == 0 else { return }
        let isStale = stale.contains { $0.model === entry.runner.model }
        if isStale || entries.count > Self.idleLimit { entries[id] = nil }
    }

    subscript(id: ModelID) -> ModelRunner {
        guard let entry = entries[id] else { preconditionFailure("a model without requests") }
        return entry.runner
    }

    func load(
        _ snapshot: StateSnapshot?, into slot: Int, of model: ModelID
    ) throws(ModelError) {
        if let snapshot {
            try self[model].states.restore(slot, snapshot)
        } else {
            self[model].states.reset(slot)
        }
    }

    func free(_ slot: Int, of model: ModelID) { entries[model]?.runner.states.free(slot) }

    func save(_ slot: Int, of model: ModelID, history: TokenHistory) -> StateSnapshot {
        self[model].states.save(slot, history: history)
    }

    func builder(
        _ header: SavedStateHeader, of model: ModelID
    ) throws(SavedStateError) -> StateBuilder {
        try StateBuilder(header, for: self[model].model)
    }
}
