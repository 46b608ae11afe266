// SPDX-License-Identifier: Apache-2.0

import CLinux
package import Engine
import Glibc
package import Logging
package import ModelStore
package import RPC
import Synchronization

/// Everything between the socket and the engine, put together.
package final class ServingService: Sendable {
    package let server: RPCServer
    package let share: ShareServer
    package let catalog: ModelCatalog
    let ledger: Ledger
    package let sessions: SessionStore
    private let loop: DecodeLoop
    private let logger: Logger
    private let draining: DrainFlag
    private let controllers: Controllers
    private let clock: @Sendable () -> UInt64
    /// The kernel table in use, and the worker threads.
    package let kernelsName: String
    package let threads: Int

    /// - Parameters:
    ///   - clock: CLOCK_MONOTONIC in nanoseconds, by which requests end and draining ends.
    ///   - wallClock: CLOCK_REALTIME in nanoseconds, by which sessions end.
    ///   - keptSessions: the descriptor that `sessions` of an earlier process had; taken over.
    package init(
        _ configuration: ServingConfiguration, transport: RPCServer.Configuration,
        directory: ModelDirectory, logger: Logger, catalog: ModelCatalog? = nil,
        clock: @escaping @Sendable () -> UInt64 = { cl_monotonic_nanoseconds() },
        wallClock: @escaping @Sendable () -> UInt64 = SessionStore.now,
        keptSessions: Int32? = nil
    ) throws(ModelError) {
        self.clock = clock
        MappedFile.containFaults()
        let kernels =
            configuration.kernels == nil
            ? try Kernels.fromEnvironment() : try Kernels.select(configuration.kernels)
        // What cannot be read is refused now, and not with every request.
        _ = try Tuning.fromEnvironment(kernels)
        let workers = WorkerPool(
            threads: configuration.threads, pinned: configuration.pinsThreads)
        let catalog = catalog ?? ModelCatalog(directory, configuration, logger)
        let ledger = Ledger(configuration, clock: clock)
        let accounts = Accounts(transport.bytes)
        let sessions = try SessionStore(
            configuration, accounts: accounts, bytes: transport.bytes.stateBytes,
            kept: keptSessions, logger: logger, clock: wallClock)
        let draining = DrainFlag()
        let metrics = ServingMetrics()
        loop = DecodeLoop(
            configuration, ledger: ledger, metrics: metrics, workers: workers, kernels: kernels,
            logger: logger, clock: clock)
        kernelsName = Kernels.name(of: kernels)
        threads = workers.count
        slots = configuration.slots
        self.catalog = catalog
        self.ledger = ledger
        self.sessions = sessions
        self.logger = logger
        catalog.onRetired { [loop, sessions] versions in
            for version in versions where version.proof.verdict == .damaged {
                sessions.condemn(version.proof, digest: version.model.digest)
            }
            loop.post(.stale(versions.map(\.model)))
        }
        catalog.askWhoIsBusy { [ledger] name in ledger.open.contains { $0.model == name } }
        self.draining = draining
        controllers = Controllers(configuration.controllers)
        var services = Services { error, call, number in
            logger.error(
                "\(call.service)/\(call.method): \(error)",
                metadata: [
                    "message-id": "\(Event.bug)", "request": "\(number)", "uid": "\(call.peer.uid)",
                    "pid": "\(call.peer.pid)",
                ])
        }
        InferenceService(
            configuration: configuration, catalog: catalog, ledger: ledger, metrics: metrics,
            loop: loop, sessions: sessions, kernels: kernels, logger: logger
        ).register(in: &services)
        SessionService(catalog: catalog, store: sessions).register(in: &services)
        ControlService(
            configuration: configuration, transport: transport, controllers: controllers,
            catalog: catalog, ledger: ledger, metrics: metrics, sessions: sessions,
            threads: workers.count,
            kernels: Kernels.name(of: kernels),
            started: cl_monotonic_nanoseconds(),
            isDraining: { draining.value },
            rescan: { Self.reload(catalog, logger, $0) }
        ).register(in: &services)
        server = RPCServer(
            services: services, configuration: transport, accounts: accounts, logger: logger)
        let sharing = ShareService(catalog: catalog, logger: logger)
        share = ShareServer(logger: logger, handler: sharing.share)
        catalog.keepTime { [weak server] nanoseconds, body in
            server?.after(milliseconds: Int64(clamping: nanoseconds / 1_000_000), body)
        }
    }

    /// Signs of life of the decode thread so far. After `nudge` they must rise, or the thread hangs.
    package var progress: UInt64 { loop.progress }
    /// Makes the decode thread go round once, work or no work.
    package func nudge() { loop.post(.nudge) }

    /// Since when no connection to either socket has been open, on CLOCK_MONOTONIC in nanoseconds; `nil` while one is.
    package var idleSince: UInt64? {
        guard let calls = server.idleSince, let shares = share.idleSince else { return nil }
        return max(calls, shares)
    }

    /// Slots there are.
    package let slots: Int

    /// Calls `handler` each time `load` has changed. On any thread: be quick.
    package func onLoadChange(_ handler: @escaping @Sendable () -> Void) {
        ledger.onChange(handler)
    }

    /// Slots that are taken, and requests that wait for their first one.
    package var load: (active: Int, queued: Int) { ledger.load }

    /// The model of requests that name none, from now on.
    package func setDefaultModel(_ name: String?) { catalog.setDefault(name) }

    /// Users besides root who may change the daemon, from now on.
    package func setControllers(_ users: Set<UInt32>) { controllers.users = users }

    /// Looks for new, replaced and removed models. `nil`: it takes longer than five seconds and goes on.
    @discardableResult
    package func reload() -> ReloadResponse? {
        let answers = Mailbox<ReloadResponse>()
        Self.reload(catalog, logger) { answers.post($0) }
        return answers.drain(until: cl_monotonic_nanoseconds() + 5_000_000_000).first
    }

    private static func reload(
        _ catalog: ModelCatalog, _ logger: Logger,
        _ body: @escaping @Sendable (ReloadResponse) -> Void
    ) {
        catalog.rescan { changes in
            logger.info(
                "reloaded: \(changes.added.count) models added, \(changes.replaced.count) replaced, \(changes.removed.count) removed",
                metadata: ["message-id": "\(Event.reloaded)"])
            body(changes)
        }
    }

    /// Takes no more requests, lets those under way finish, and cuts what is left after `limit`.
    ///
    /// - Parameter pause: lets some milliseconds pass; `false` to cut everything short now.
    package func drain(limit: Duration, pause: () -> Bool = ServingService.sleepBriefly) {
        draining.value = true
        server.beginDrain()
        share.beginDrain()
        catalog.stop()
        wait(for: limit, pause) { server.openCalls == 0 }
        if server.openCalls > 0 { loop.post(.endAll) }
        // The ends of answers, whole ones and those cut short, are still to be written.
        let written = { [server] in server.openCalls == 0 && server.unreadAnswers == 0 }
        wait(for: .seconds(2), { pause() || true }, until: written)
        // The decode thread writes on the server's loops: it ends before they do.
        loop.stop()
        sessions.close()
        share.close()
        server.close()
    }

    private func wait(for limit: Duration, _ pause: () -> Bool, until done: () -> Bool) {
        let began = clock()
        while !done(), .nanoseconds(clock() - began) < limit, pause() {}
    }

    package static func sleepBriefly() -> Bool {
        usleep(10_000)
        return true
    }
}

/// Whether the daemon is on its way out.
final class DrainFlag: Sendable {
    private let flag = Atomic<Bool>(false)

    var value: Bool {
        get { flag.load(ordering: .relaxed) }
        set { flag.store(newValue, ordering: .relaxed) }
    }
}
