// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import Glibc
import Logging
import ModelStore
import RPC
import Synchronization

/// What of a mapped model is in memory. Bytes.
struct MemoryUse: Sendable {
    /// Of its file in the page cache; `nil` where the kernel does not tell.
    var cached: Int?
    /// Of the daemon's mapping.
    var own: MappingUse?
}

/// Models in memory: as the administrator wants them, and as the kernel counts them.
extension ModelCatalog {
    /// Reads a model into memory and, if asked to, locks it there; its later versions too. Answers on another thread.
    func load(
        _ name: String, pin: Bool, for call: Call,
        _ body: @escaping @Sendable (Result<LoadedModel, RPCError>) -> Void
    ) {
        withModel(name, for: call, bytes: 0) { [self] result in
            switch result {
            case .failure(let error): body(.failure(RPCError(error)))
            case .success(let version):
                update { $0.state.setMemory(pin ? .pinned : .loaded, of: version) }
                memory.post { [self] in
                    let error = bring(version, pin: pin)
                    shared.withLock { $0.measured = (0, [:]) }
                    body(error.map { .failure($0) } ?? .success(version))
                }
            }
        }
    }

    /// As a new version's predecessor was.
    func bringAgain(_ version: LoadedModel, _ wanted: CatalogState.Memory) {
        if let error = bring(version, pin: wanted == .pinned), !version.isRetired {
            logger.warning("\(error.message), ignoring", metadata: ["model": "\(version.name)"])
        }
    }

    private func bring(_ version: LoadedModel, pin: Bool) -> RPCError? {
        let map = version.model.file.map
        defer { version.broughtIn = 0 }
        do {
            try map.prefault(window: 16 << 20) { done in
                version.broughtIn = done
                return !isStopping && !version.isRetired
            }
        } catch { return RPCError(.refused(version.name, Refusal(error))) }
        if isStopping { return RPCError(.stopping) }
        if version.isRetired {
            return RPCError(
                .aborted,
                "model '\(version.name)' was replaced or removed while it was being read into memory",
                reason: "MODEL_REPLACED")
        }
        guard pin else {
            map.unlock()
            return nil
        }
        do { try map.lock() } catch {
            update { $0.state.setMemory(.loaded, of: version) }
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue), &limit)
            return RPCError(
                .failedPrecondition,
                "\(error): it has \(map.count) bytes, the process may lock \(limit.rlim_cur); set LimitMEMLOCK= of the unit (ulimit -l)",
                reason: "MEMORY_LOCK")
        }
        return nil
    }

    /// Lets go of a model until the next request for it. Requests under way keep it.
    func unload(
        _ name: String, for call: Call, _ body: @escaping @Sendable (RPCError?) -> Void
    ) {
        let (choice, isUnsettled) = shared.withLock {
            (
                name.isEmpty ? $0.state.choice() : $0.state.choice(name),
                $0.state.isUnsettled(name)
            )
        }
        let chosen: String
        switch choice {
        case .model(let name), .unclear(let name): chosen = name
        case .fail(let error): return body(RPCError(error))
        }
        guard isUnsettled else {
            update { $0.state.unload(chosen) }
            return body(nil)
        }
        let waits = wait(
            for: [chosen], account: call.peer.account, bytes: 0, until: call.deadline,
            onCancel: call.onCancel
        ) { [self] outcome in
            switch outcome {
            case .settled:
                update { $0.state.unload(chosen) }
                body(nil)
            case .expired: body(RPCError(.tooLate(chosen)))
            case .stopping: body(RPCError(.stopping))
            }
        }
        if !waits { body(RPCError(isStopping ? .stopping : .crowded(chosen))) }
    }

    // MARK: Idle models

    /// `isBusy` tells whether requests for the model of a name are open.
    func askWhoIsBusy(_ isBusy: @escaping @Sendable (String) -> Bool) {
        shared.withLock { $0.isBusy = isBusy }
    }

    /// A request has been given this version.
    func noteUse(of version: LoadedModel) {
        guard configuration.idleMemory != .keep else { return }
        version.used = cl_monotonic_nanoseconds()
        watchIdle()
    }

    /// Has idle models looked at once, in a while; the daemon does not wake up for it when none was used since the last look.
    private func watchIdle() {
        let after: Timer? = shared.withLock { shared in
            guard !shared.watchesIdle else { return nil }
            shared.watchesIdle = true
            return shared.after
        }
        after?(configuration.idleMemoryAfter) { [weak self] in
            self?.memory.post { [weak self] in self?.adviseIdle() }
        }
    }

    private func adviseIdle() {
        let (versions, isBusy) = shared.withLock { shared in
            shared.watchesIdle = false
            return (
                shared.state.entries.values.filter { !$0.memory.isWanted }.compactMap(
                    \.state.loaded),
                shared.isBusy
            )
        }
        let now = cl_monotonic_nanoseconds()
        var isDue = false
        for version in versions where version.used != 0 {
            guard now &- version.used >= configuration.idleMemoryAfter, !isBusy(version.name) else {
                isDue = true
                continue
            }
            version.used = 0
            version.model.file.map.advise(configuration.idleMemory)
            logger.debug(
                "the pages of model \(version.name) are given back",
                metadata: ["model": "\(version.name)"])
        }
        if isDue { watchIdle() }
    }

    // MARK: What the kernel says

    /// One version of one model.
    private static func key(_ info: ModelInfo) -> String { "\(info.name) \(info.digest)" }

    /// The listing, with what is in memory of each mapped model. Looks at most five times a second: a look takes milliseconds.
    func measuredListing() -> ListModelsResponse {
        var response = listing
        let (versions, measured) = shared.withLock { shared in
            (shared.state.entries.values.compactMap(\.state.loaded), shared.measured)
        }
        let now = cl_monotonic_nanoseconds()
        var uses = measured.1
        if now &- measured.at > 200_000_000
            || versions.contains(where: { uses[Self.key($0.info)] == nil })
        {
            let maps = versions.map(\.model.file.map)
            let own = MappingUse.of(maps)
            uses = [:]
            for (index, version) in versions.enumerated() {
                uses[Self.key(version.info)] = MemoryUse(
                    cached: maps[index].cachedBytes, own: own?[index])
            }
            shared.withLock { [uses] in $0.measured = (now, uses) }
        }
        for index in response.models.indices where response.models[index].state == "mapped" {
            guard let use = uses[Self.key(response.models[index])] else { continue }
            response.models[index].cachedBytes = use.cached.map { UInt64($0) }
            response.models[index].residentBytes = use.own.map { UInt64($0.resident) }
            response.models[index].shareBytes = use.own.map { UInt64($0.share) }
        }
        return response
    }
}
