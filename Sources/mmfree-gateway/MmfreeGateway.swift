// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Gateway
import Glibc
import Logging
import ModelStore
import NIOCore
import RPC
import ServiceLifecycle
import Synchronization
import SystemdSupport

@main
struct MmfreeGateway: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mmfree-gateway",
        abstract: "Speaks OpenAI's HTTP to clients, and mmfreed's protocol to the daemon.",
        discussion: """
            Every option is also an environment variable: MMFREE_GATEWAY_LISTEN for --listen. Several values are \
            separated by spaces there. mmfree-gateway(8) lists them.
            """,
        version: "mmfree-gateway \(Version.string)")

    @Option(help: "ADDRESS:PORT of loopback, or unix:PATH; may be given more than once.")
    var listen: [String] = []
    @Option(help: "The daemon's socket.", completion: .file()) var daemon: String?
    @Option(help: "A further name of this machine in Host headers; may be given more than once.")
    var hosts: [String] = []
    @Option(help: "A web page that may make requests; may be given more than once.")
    var origins: [String] = []
    @Option(help: "A file of keys, of which a request must have one.", completion: .file())
    var keyFile: String?
    @Option(help: "Any other setting: NAME=VALUE; may be given more than once.")
    var set: [String] = []
    @Flag(help: "Show all settings, and end.") var listSettings = false

    func run() throws {
        if listSettings {
            for entry in GatewaySettings.all {
                print("\(entry.name)\t\(entry.standard)\t\(entry.help)")
            }
            return
        }
        let settings: GatewaySettings
        do throws(GatewaySettings.Problem) {
            settings = try GatewaySettings(flags: try flags(), environment: Self.environment())
        } catch {
            Self.complain("\(error)")
            throw ExitCode(error.source.hasPrefix("--") ? 64 : 78)
        }
        try serve(settings)
    }

    private func flags() throws(GatewaySettings.Problem) -> [String: [String]] {
        var flags: [String: [String]] = [
            "listen": listen, "hosts": hosts, "origins": origins,
            "daemon": daemon.map { [$0] } ?? [], "key-file": keyFile.map { [$0] } ?? [],
        ]
        let names = GatewaySettings.all.map(\.name)
        for pair in set {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, names.contains(String(parts[0])) else {
                throw GatewaySettings.Problem(
                    source: "--set",
                    what:
                        "'\(pair)'; write NAME=VALUE, NAME one of \(names.joined(separator: ", "))")
            }
            flags[String(parts[0]), default: []].append(String(parts[1]))
        }
        return flags
    }

    private func serve(_ settings: GatewaySettings) throws {
        signal(SIGPIPE, SIG_IGN)
        // Before the first thread, which has its signals from this one.
        let signals = Signals([SIGTERM, SIGINT, Self.ended])
        // One loop for clients and daemon: a token is handed on without a change of threads.
        NIOSingletons.groupLoopCountSuggestion = 1
        let log = LogQueue(.chosen(), level: settings.logLevel)
        LoggingSystem.bootstrap { log.handler(label: $0) }
        defer { log.flush(within: .seconds(2)) }
        let logger = Logger(label: "mmfree-gateway")
        let notifier = Notifier()
        do {
            let inherited = try InheritedSocket.takeStreams()
            if !inherited.isEmpty, !settings.listen.isEmpty {
                logger.notice(
                    "listen is not used, for the service manager has handed over sockets")
            }
            let addresses =
                inherited.isEmpty
                ? settings.listen.isEmpty ? [GatewaySettings.standardAddress] : settings.listen
                : inherited.map { .descriptor($0) }
            let listener = Listener(
                addresses, Gateway(settings.gateway), limits: settings.limits,
                mostConnections: settings.maxConnections, drainTime: settings.drainTime,
                logger: logger
            ) { _ in notifier.ready(status: "Serving") }
            try Self.run(listener, logger, until: signals)
        } catch let error as InheritedSocketError {
            logger.error("\(error)")
            throw ExitCode(78)
        } catch let error as ListenError {
            logger.error("\(error)")
            throw ExitCode(69)
        }
    }

    /// Tells the main thread that all is done.
    private static let ended = SIGUSR1

    /// Serves until a signal comes, and drains. Swift's own pool of threads, and signals by libdispatch, would leave a thread behind that
    /// wakes up every second: tasks run on the loop, or on threads that just sleep, and this thread waits for signals.
    private static func run(
        _ listener: Listener, _ logger: Logger, until signals: Signals
    ) throws {
        let group = ServiceGroup(configuration: .init(services: [listener], logger: logger))
        let executor = LoopExecutor.any()
        let end = Mutex<Result<Void, any Error>?>(nil)
        Task(executorPreference: executor) {
            let result: Result<Void, any Error>
            do { result = .success(try await group.run()) } catch { result = .failure(error) }
            end.withLock { $0 = result }
            kill(getpid(), Self.ended)
        }
        while true {
            let signal = signals.wait(until: nil)
            if let end = end.withLock({ $0 }) { return try end.get() }
            guard signal != Self.ended else { continue }
            Task(executorPreference: executor) { await group.triggerGracefulShutdown() }
        }
    }

    private static func environment() -> [String: String] {
        var variables: [String: String] = [:]
        var next = environ
        while let entry = next.pointee {
            let pair = String(cString: entry).split(separator: "=", maxSplits: 1)
            if pair.count == 2 { variables[String(pair[0])] = String(pair[1]) }
            next += 1
        }
        return variables
    }

    private static func complain(_ message: String) {
        var line = "mmfree-gateway: \(message)\n"
        line.withUTF8 { _ = write(2, $0.baseAddress, $0.count) }
    }
}
