// SPDX-License-Identifier: Apache-2.0
//
// The daemon's life: listen, serve, tell the service manager, reload, drain. What cannot be used (settings, kernels) does not
// end it when a socket unit stands behind it, for the next client would only start it again: it stays and answers every call
// with what is wrong.

import CLinux
import Engine
import Glibc
import Logging
import ModelStore
import RPC
import ServiceLifecycle
import Serving
import Synchronization
import SystemPackage
import SystemdSupport
import UnixSignals

struct Daemon: Sendable {
    let settings: Settings
    let problem: Settings.Problem?
    let inherited: [InheritedSocket]
    /// Reads the settings again.
    let reread: @Sendable () throws -> Settings
    private let logger = Logger(label: "mmfreed")
    private let notifier = Notifier()

    init(
        settings: Settings, problem: Settings.Problem?, inherited: [InheritedSocket],
        reread: @escaping @Sendable () throws -> Settings
    ) {
        self.settings = settings
        self.problem = problem
        self.inherited = inherited
        self.reread = reread
    }

    func run() async throws {
        let service: ServingService
        do {
            if let problem { throw problem }
            service = try makeService()
        } catch {
            return try await refuse(error)
        }
        try await listen(service.server)
        logger.info(
            "serving \(service.roster.names.count) models with \(service.threads) threads and \(service.kernelsName) kernels",
            metadata: ["message-id": "\(Event.started)", "version": "\(Version.string)"])
        let status = StatusText(service, notifier)
        service.server.onActivity { _ in status.changed() }
        notifier.ready(status: status.text)
        if service.roster.names.isEmpty {
            logger.warning(
                "there are no models in \(settings.text("models")); requests will be told so")
        }
        var services: [any Service] = [Drain(daemon: self, service: service)]
        services.append(Reloads(daemon: self, service: service, status: status))
        if let interval = SystemdSupport.Watchdog.interval() {
            services.append(
                DecodeWatchdog(
                    service: service, notifier: notifier, interval: interval, logger: logger))
        }
        let idle = settings.duration("idle_exit")
        if idle > .zero, !inherited.isEmpty {
            services.append(IdleExit(service: service, limit: idle, logger: logger))
        }
        try await group(services).run()
        logger.info("stopped", metadata: ["message-id": "\(Event.stopped)"])
    }

    private func makeService() throws -> ServingService {
        try ServingService(
            settings.serving, transport: settings.transport,
            directory: ModelDirectory(settings.list("models").map { FilePath($0) }), logger: logger)
    }

    private func group(_ services: [any Service]) -> ServiceGroup {
        ServiceGroup(
            configuration: .init(
                services: services.map {
                    .init(service: $0, successTerminationBehavior: .gracefullyShutdownGroup)
                }, gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet))
    }

    /// The lifecycle package's own messages are for its developers.
    private var quiet: Logger {
        var logger = logger
        logger.logLevel = .error
        return logger
    }

    private func listen(_ server: RPCServer) async throws {
        if inherited.isEmpty {
            try await server.listen(on: .path(settings.text("socket"), mode: settings.mode))
        }
        for socket in inherited { try await server.listen(on: .descriptor(socket.descriptor)) }
    }

    /// Answers every call with what is wrong; ends at once when nobody would start it again.
    private func refuse(_ error: any Error) async throws {
        logger.error(
            "\(error)", metadata: ["message-id": "\(Event.badConfiguration)"])
        guard !inherited.isEmpty else { throw BadConfiguration() }
        var transport = RPCServer.Configuration()
        transport.refusal = RPCError(
            .failedPrecondition,
            "the daemon's configuration cannot be used: \(error). Mend it and run `systemctl restart mmfreed.service`",
            reason: "BAD_CONFIGURATION")
        let server = RPCServer(services: Services(), configuration: transport, logger: logger)
        try await listen(server)
        notifier.ready(status: "Refusing all requests: \(error)")
        var services: [any Service] = [Hold(server: server)]
        if let interval = SystemdSupport.Watchdog.interval() {
            services.append(Heartbeat(notifier: notifier, interval: interval))
        }
        try await group(services).run()
    }

    // MARK: What runs beside the server

    /// Waits for the signal to stop, and then for what was begun.
    struct Drain: Service {
        let daemon: Daemon
        let service: ServingService

        func run() async throws {
            try await gracefulShutdown()
            let limit = daemon.settings.duration("drain_timeout")
            daemon.notifier.stopping(status: "Finishing what was begun")
            daemon.notifier.extendTimeout(by: limit + .seconds(5))
            daemon.logger.info(
                "stopping: \(service.load.active) requests under way",
                metadata: ["message-id": "\(Event.draining)"])
            await service.drain(limit: limit)
        }
    }

    /// SIGHUP: the models are looked for again; of the settings only the log's text says what needs a restart.
    struct Reloads: Service {
        let daemon: Daemon
        let service: ServingService
        let status: StatusText

        func run() async throws {
            let signals = await UnixSignalsSequence(trapping: .sighup)
            for await _ in signals.cancelOnGracefulShutdown() {
                daemon.notifier.reloading()
                service.reload()
                do {
                    let fresh = try daemon.reread()
                    let changed = Setting.all.map(\.name).filter {
                        fresh.text($0) != daemon.settings.text($0)
                    }
                    if !changed.isEmpty {
                        daemon.logger.notice(
                            "changed settings take effect after a restart: \(changed.joined(separator: ", "))"
                        )
                    }
                } catch {
                    daemon.logger.error(
                        "\(error), ignoring", metadata: ["message-id": "\(Event.badConfiguration)"])
                }
                daemon.notifier.ready(status: status.text)
            }
        }
    }

    /// Keeps a refusing server open until the end.
    struct Hold: Service {
        let server: RPCServer

        func run() async throws {
            try await gracefulShutdown()
            await server.close()
        }
    }
}

/// The daemon cannot do its work and has said why.
struct BadConfiguration: Error {}

/// Feeds the watchdog while the decode thread goes round: every turn of it, asked for twice an interval, proves that it does.
struct DecodeWatchdog: Service {
    let service: ServingService
    let notifier: Notifier
    let interval: Duration
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var last = service.progress
            service.nudge()
            while !Task.isCancelled {
                try? await Task.sleep(for: interval / 2)
                let now = service.progress
                if now != last {
                    notifier.watchdog()
                } else {
                    logger.warning(
                        "the decode thread has not gone round for \(interval / 2)",
                        metadata: ["message-id": "\(Event.stalled)"])
                }
                last = now
                service.nudge()
            }
        }
    }
}

/// Feeds the watchdog of a daemon that only refuses.
struct Heartbeat: Service {
    let notifier: Notifier
    let interval: Duration

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                notifier.watchdog()
                try? await Task.sleep(for: interval / 2)
            }
        }
    }
}

/// Ends the daemon when nobody has asked it anything for long; the socket unit starts it again.
struct IdleExit: Service {
    let service: ServingService
    let limit: Duration
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var finished = UInt64.max
            while !Task.isCancelled {
                try? await Task.sleep(for: limit)
                let now = service.server.callsBegun
                if now == finished, service.server.openCalls == 0, !Task.isCancelled {
                    logger.info("nobody has asked for anything for \(limit): ending")
                    return
                }
                finished = now
            }
        }
    }
}

/// What `systemctl status` shows; told when it has changed, at most a few times a second.
final class StatusText: Sendable {
    private let service: ServingService
    private let notifier: Notifier
    private struct State {
        var shown = ""
        var last: UInt64 = 0
    }
    private let state = Mutex(State())

    init(_ service: ServingService, _ notifier: Notifier) {
        self.service = service
        self.notifier = notifier
    }

    var text: String {
        let names = service.roster.names
        let models =
            names.isEmpty
            ? "no models"
            : names.count <= 3 ? names.joined(separator: ", ") : "\(names.count) models"
        let (active, queued) = service.load
        let work = active + queued == 0 ? "idle" : "\(active) answering, \(queued) waiting"
        return "Serving \(models): \(work)"
    }

    func changed() {
        guard notifier.isActive else { return }
        let text = text
        let isNew = state.withLock { state in
            let now = cl_monotonic_nanoseconds()
            let isIdle = text.hasSuffix("idle")
            guard text != state.shown, isIdle || now &- state.last > 250_000_000 else {
                return false
            }
            state.shown = text
            state.last = now
            return true
        }
        if isNew { notifier.status(text) }
    }
}
