// SPDX-License-Identifier: Apache-2.0
//
// The daemon's life: listen, serve, tell the service manager, reload, drain. What cannot be used (settings, kernels) does not
// end it when a socket unit stands behind it, for the next client would only start it again: it stays and answers every call
// with what is wrong.
//
// The main thread waits for signals and for the time of the next duty, and for nothing else. There is no Swift task in the
// daemon and no dispatch source: either would bring a runtime thread that wakes up every second for ever.

import CLinux
import Engine
import Glibc
import Logging
import ModelStore
import RPC
import Serving
import SystemPackage
import SystemdSupport

final class Daemon {
    /// What is in force.
    private var settings: Settings
    private let inherited: [InheritedSocket]
    /// The memory of an earlier process's sessions.
    private let kept: Int32?
    /// Reads the settings again.
    private let reread: () -> Settings
    private let logger: Logger
    private let log: LogQueue
    private let notifier = Notifier()
    private let signals: Signals

    /// - Parameter signals: taken before any other thread was started.
    init(
        settings: Settings, inherited: [InheritedSocket], kept: Int32?, signals: Signals,
        logger: Logger,
        log: LogQueue, reread: @escaping () -> Settings
    ) {
        self.settings = settings
        self.inherited = inherited
        self.kept = kept
        self.signals = signals
        self.logger = logger
        self.log = log
        self.reread = reread
    }

    /// Serves until a signal or an idle time ends it.
    func run() throws {
        let service: ServingService
        do {
            try settings.check()
            service = try makeService()
        } catch {
            return try refuse(error)
        }
        if !service.sessions.isAdopted, notifier.isActive,
            !notifier.keep(service.sessions.descriptor, name: InheritedSocket.memoryName)
        {
            logger.warning("the service manager does not keep sessions: they end with the daemon")
        }
        guard prepareModels(service) else { return }
        try listen(service)
        logger.info(
            "serving \(service.catalog.names.count) models with \(service.threads) threads and \(service.kernelsName) kernels",
            metadata: ["message-id": "\(Event.started)", "version": "\(Version.string)"])
        let status = StatusText(service, notifier)
        service.onLoadChange { status.changed() }
        notifier.ready(status: status.take())
        if service.catalog.names.isEmpty {
            logger.warning(
                "there are no models in \(settings.models.joined(separator: ", ")); requests will be told so"
            )
        }
        var duties: [any Duty] = []
        if let interval = SystemdSupport.Watchdog.interval() {
            duties.append(DecodeWatchdog(service, notifier, interval: interval, logger))
        }
        var idleExit: IdleExit?
        if !inherited.isEmpty {
            let duty = IdleExit(
                limit: settings.idleExit, logger,
                // The service manager keeps no descriptors of a service that has stopped.
                idleSince: { service.sessions.isEmpty ? service.idleSince : nil },
                stopAccepting: {
                    guard service.share.stopAcceptingIfIdle() else { return false }
                    if service.server.stopAcceptingIfIdle() { return true }
                    service.share.resumeAccepting()
                    return false
                })
            duties.append(duty)
            idleExit = duty
        }
        attend(to: duties) {
            reload(service, status)
            idleExit?.limit = settings.idleExit
            return true
        }
        drain(service, duties)
        logger.info("stopped", metadata: ["message-id": "\(Event.stopped)"])
    }

    private func makeService() throws -> ServingService {
        try ServingService(
            settings.serving, transport: settings.transport,
            directory: ModelDirectory(settings.models.map { FilePath($0) }), logger: logger,
            keptSessions: kept)
    }

    /// Brings models into memory before there are requests, if the settings want that.
    ///
    /// - Returns: false if a signal ends the daemon meanwhile.
    private func prepareModels(_ service: ServingService) -> Bool {
        var goesOn = true
        service.catalog.prepareAll { name, done, all in
            notifier.status("Reading \(name) into memory: \(done * 100 / max(1, all)) %")
            // As long as it gets on it may take its time.
            notifier.extendTimeout(by: .seconds(60))
            if let signal = signals.wait(until: 0), signal != SIGHUP { goesOn = false }
            return goesOn
        }
        return goesOn
    }

    private func listen(_ service: ServingService) throws {
        if inherited.isEmpty {
            // This one first: who finds the daemon finds its models.
            try share(service.share)
            do {
                try service.server.listen(on: .path(settings.socket, mode: settings.socketMode))
            } catch {
                service.share.close()
                throw error
            }
            logger.info("listening on \(settings.socket)")
        } else if let source = settings.source(of: \.socket) {
            logger.notice(
                "\(source): socket is not used, for the service manager has handed over one: set ListenStream= of the socket unit instead"
            )
        }
        for socket in inherited {
            switch socket.use {
            case .api: try service.server.listen(on: .descriptor(socket.descriptor))
            case .share: try service.share.listen(on: .descriptor(socket.descriptor))
            }
        }
    }

    private func share(_ server: ShareServer) throws {
        guard let path = settings.sharePath else { return }
        do throws(ListenError) {
            try server.listen(on: .path(path, mode: settings.socketMode))
            logger.info("sharing models on \(path)")
        } catch {
            guard settings.shareSocket == nil else { throw error }
            logger.warning("\(error): models are not shared, ignoring")
        }
    }

    /// Answers every call with what is wrong, until the settings are sound; ends at once when nobody would start it again.
    private func refuse(_ error: any Error) throws {
        guard !inherited.isEmpty else {
            logger.error("\(error)", metadata: ["message-id": "\(Event.badConfiguration)"])
            throw BadConfiguration()
        }
        let refusal = Refusal(inherited, logger, notifier)
        try refusal.begin(error)
        let interval = SystemdSupport.Watchdog.interval()
        let duties = interval.map { [Heartbeat(notifier, interval: $0)] } ?? []
        try attend(to: duties) { try refusal.reload(reread()) }
        refusal.end()
    }

    // MARK: The main thread

    /// Does what is due, and `reload` on SIGHUP, until a signal, a duty or a reload's `false` ends it.
    private func attend(to duties: [any Duty], reload: () throws -> Bool) rethrows {
        while true {
            switch signals.wait(until: duties.compactMap(\.due).min()) {
            case SIGHUP: if try !reload() { return }
            case .some: return
            case nil: if !performDue(duties) { return }
            }
        }
    }

    private func performDue(_ duties: [any Duty]) -> Bool {
        let now = cl_monotonic_nanoseconds()
        return duties.filter { $0.due.map { $0 <= now } ?? false }.allSatisfy { $0.perform() }
    }

    /// Looks for models again, and takes over what a running daemon can change of its settings.
    private func reload(_ service: ServingService, _ status: StatusText) {
        notifier.reloading()
        do {
            let fresh = reread()
            try fresh.check()
            let (changed, waiting) = settings.adopt(fresh)
            log.level = settings.logLevel
            service.setDefaultModel(settings.defaultModel)
            service.setControllers(settings.controllers)
            if !changed.isEmpty {
                logger.notice("settings changed: \(changed.joined(separator: ", "))")
            }
            if !waiting.isEmpty {
                logger.notice(
                    "settings that change with a restart: \(waiting.joined(separator: ", "))")
            }
        } catch {
            logger.error(
                "\(error), ignoring", metadata: ["message-id": "\(Event.badConfiguration)"])
        }
        service.reload()
        notifier.ready(status: status.take())
    }

    /// Finishes what was begun. Another signal to stop cuts it short.
    private func drain(_ service: ServingService, _ duties: [any Duty]) {
        let limit = settings.drainTimeout
        notifier.stopping(status: "Finishing what was begun")
        notifier.extendTimeout(by: limit + .seconds(5))
        logger.info(
            "stopping: \(service.load.active) slots in use",
            metadata: ["message-id": "\(Event.draining)"])
        service.drain(limit: limit) {
            let signal = signals.wait(until: cl_monotonic_nanoseconds() + 10_000_000)
            _ = performDue(duties)
            return signal == nil || signal == SIGHUP
        }
    }
}

/// The daemon cannot do its work and has said why.
struct BadConfiguration: Error {}
