// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import Glibc
import ModelStore
import RPC

/// mmfree.v1.Control and grpc.health.v1.Health: what the daemon says of itself.
struct ControlService: Sendable {
    let configuration: ServingConfiguration
    let transport: RPCServer.Configuration
    let controllers: Controllers
    let catalog: ModelCatalog
    let ledger: Ledger
    let metrics: ServingMetrics
    let sessions: SessionStore
    let threads: Int
    let kernels: String
    let started: UInt64
    let isDraining: @Sendable () -> Bool
    let rescan: @Sendable (@escaping @Sendable (ReloadResponse) -> Void) -> Void

    func register(in services: inout Services) {
        let name = ServiceName.control
        services.unary(name, "GetInfo", isQuick: true) { (_: GetInfoRequest, _) in info }
        services.unary(name, "Status", isQuick: true) { (_: StatusRequest, call) in
            status(for: call.peer)
        }
        services.unary(name, "Metrics", isQuick: true) { (_: MetricsRequest, call) in
            try exposition(for: call.peer)
        }
        services.deferred(name, "ListModels", isQuick: true, listModels)
        services.deferred(name, "Reload", reload)
        services.deferred(name, "LoadModel", load)
        services.deferred(name, "UnloadModel", unload)
        services.deferred(ServiceName.health, "Check", isQuick: true, check)
    }

    private func listModels(
        _: ListModelsRequest, _ call: Call, _ reply: @escaping Services.Reply<ListModelsResponse>
    ) {
        open(catalog.names, call) { reply(.success(catalog.measuredListing())) }
    }

    private func reload(
        _: ReloadRequest, _ call: Call, _ reply: @escaping Services.Reply<ReloadResponse>
    ) {
        guard allow(call, "reload", reply) else { return }
        rescan { reply(.success($0)) }
    }

    /// Whether the caller may change the daemon; if not, it is told so.
    private func allow<Answer>(
        _ call: Call, _ what: String, _ reply: @escaping Services.Reply<Answer>
    ) -> Bool {
        if Permissions.mayControl(call.peer, controllers: controllers.users, own: getuid()) {
            return true
        }
        reply(
            .failure(
                RPCError(
                    .permissionDenied,
                    "only root, the daemon's own user and the setting controllers may \(what); you are user \(call.peer.uid)",
                    reason: "NOT_A_CONTROLLER")))
        return false
    }

    private func load(
        _ request: LoadModelRequest, _ call: Call,
        _ reply: @escaping Services.Reply<LoadModelResponse>
    ) {
        guard allow(call, request.pin ? "pin models" : "load models", reply) else { return }
        catalog.load(request.model, pin: request.pin, for: call) { result in
            reply(
                result.map { version in
                    var response = LoadModelResponse()
                    response.model = version.name
                    response.bytes = UInt64(version.model.file.byteCount)
                    return response
                }.mapError { $0 })
        }
    }

    private func unload(
        _ request: UnloadModelRequest, _ call: Call,
        _ reply: @escaping Services.Reply<UnloadModelResponse>
    ) {
        guard allow(call, "unload models", reply) else { return }
        catalog.unload(request.model, for: call) { error in
            reply(error.map { .failure($0) } ?? .success(UnloadModelResponse()))
        }
    }

    private func check(
        _ request: HealthCheckRequest, _ call: Call,
        _ reply: @escaping Services.Reply<HealthCheckResponse>
    ) {
        @Sendable func answer(_ status: HealthCheckResponse.ServingStatus) {
            var response = HealthCheckResponse()
            response.status = status
            reply(.success(response))
        }
        if request.service.isEmpty || request.service == ServiceName.inference {
            answer(isDraining() ? .notServing : .serving)
        } else if catalog.names.contains(request.service) {
            open([request.service], call) {
                let isServed = !isDraining() && catalog.isUsable(request.service)
                answer(isServed ? .serving : .notServing)
            }
        } else {
            answer(.serviceUnknown)
        }
    }

    /// Has models opened, so that there is something to say of them, and runs `body` then, or after a second if the disk is slow.
    private func open(_ names: [String], _ call: Call, _ body: @escaping @Sendable () -> Void) {
        if isDraining() { return body() }
        catalog.want(names)
        let waits = catalog.wait(
            for: Set(names), account: call.peer.account, bytes: 0,
            until: min(call.deadline, cl_monotonic_nanoseconds() + 1_000_000_000)
        ) { _ in body() }
        if !waits { body() }
    }

    private var info: GetInfoResponse {
        var limits = Limits()
        limits.maxFrameBytes = UInt32(FrameHeader.dataLimit)
        limits.maxPromptTokens = UInt32(clamping: configuration.maxPromptTokens)
        limits.maxTokens = UInt32(clamping: configuration.maxTokens)
        limits.maxStop = UInt32(clamping: configuration.maxStops)
        limits.maxEmbedInputs = UInt32(clamping: configuration.maxEmbedInputs)
        limits.maxQueue = UInt32(clamping: configuration.queue)
        limits.maxQueuePerUser = UInt32(clamping: configuration.queuePerUser)
        limits.defaultTimeout = transport.defaultTimeout
        limits.maxTimeout = transport.maximumTimeout
        var info = GetInfoResponse()
        info.version = Version.string
        info.protocol = "ttrpc 1.2, mmfree.v1"
        info.kernels = kernels
        info.threads = UInt32(threads)
        info.limits = limits
        info.fileDescriptorSet = DescriptorSet.bytes
        return info
    }

    /// The daemon's load, and the requests and totals of the users that `peer` may see: totals that are looked at often enough
    /// are a list of requests.
    private func status(for peer: Peer) -> StatusResponse {
        func maySee(_ uid: UInt32) -> Bool {
            Permissions.maySee(
                peer, ownedBy: uid, controllers: controllers.users, own: getuid())
        }
        let totals = ledger.totals { maySee($0.uid) }
        let load = ledger.load
        var status = StatusResponse()
        status.version = Version.string
        status.state = isDraining() ? "draining" : "serving"
        status.uptime = cl_monotonic_nanoseconds() &- started
        status.slots = UInt32(clamping: configuration.slots)
        status.active = UInt32(clamping: load.active)
        status.queued = UInt32(clamping: load.queued)
        status.requests = ledger.open.filter { maySee($0.peer.uid) }.map(\.status)
        status.finishedRequests = totals.finished
        status.refusedRequests = totals.refused
        status.promptTokens = totals.promptTokens
        status.completionTokens = totals.completionTokens
        let process = ProcessFigures.now
        status.residentBytes = process.residentBytes
        status.models = UInt32(clamping: catalog.names.count)
        status.privateBytes = process.privateBytes
        status.descriptors = UInt32(clamping: process.descriptors)
        status.cachedTokens = totals.cachedTokens
        status.preemptions = totals.preemptions
        status.prefixes = prefixStatus
        status.sessions = sessionsStatus
        return status
    }

    private var prefixStatus: PrefixStatus {
        let stats = ledger.prefixes
        return PrefixStatus(
            hits: stats.hits, misses: stats.misses, cachedTokens: stats.cachedTokens,
            evictions: stats.evictions, states: UInt64(stats.states), bytes: UInt64(stats.bytes),
            maxBytes: UInt64(configuration.prefixBytes))
    }

    private var sessionsStatus: SessionsStatus {
        let stats = sessions.stats
        return SessionsStatus(
            sessions: UInt32(clamping: stats.sessions), bytes: UInt64(stats.bytes),
            maxBytes: UInt64(transport.bytes.stateBytes),
            maxSessions: UInt32(clamping: transport.bytes.sessions), turns: stats.turns,
            expired: stats.expired)
    }

    /// Counters and histograms, of all accounts for those who may change the daemon, else of the caller's own.
    private func exposition(for peer: Peer) throws(RPCError) -> MetricsResponse {
        let load = ledger.load
        let levels = ServingMetrics.Levels(
            slots: configuration.slots, active: load.active, queued: load.queued,
            models: catalog.names.count, isDraining: isDraining(), version: Version.string,
            kernels: kernels, process: .now, prefixes: prefixStatus, sessions: sessionsStatus)
        let seesAll = Permissions.mayControl(peer, controllers: controllers.users, own: getuid())
        let text = metrics.exposition(levels, account: seesAll ? nil : peer.account)
        guard text.utf8.count <= AnswerSize.limit else {
            throw AnswerSize.tooLarge("restart the daemon")
        }
        return MetricsResponse(text: text)
    }
}
