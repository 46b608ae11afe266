// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import Logging
import ModelStore
import RPC
import Serving
import SystemdSupport

@main
struct Mmfreed: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mmfreed",
        abstract: "Serves packed ternary language models on a Unix socket.",
        discussion: """
            Settings come from flags, then MMFREED_* variables, then /etc/mmfreed/mmfreed.conf and \
            /etc/mmfreed/mmfreed.conf.d/*.conf, then the defaults. mmfreed.conf(5) lists them; so does --check-config.
            """,
        version: "mmfreed \(Version.string)")

    @Option(help: "Where to listen.") var socket: String?
    @Option(help: "A directory of packed models; may be given more than once.") var models:
        [String] = []
    @Option(help: "Worker threads; 0 takes one for each processor.") var threads: Int?
    @Option(help: "Any setting: NAME=VALUE; may be given more than once.") var set: [String] = []
    @Option(help: "The configuration file.") var config = "/etc/mmfreed/mmfreed.conf"
    @Flag(help: "Show all settings and where they come from, and end.") var checkConfig = false
    @Flag(help: .hidden) var listSettings = false

    func run() throws {
        if listSettings { return Self.list() }
        var problem: Settings.Problem?
        var settings = Settings()
        do throws(Settings.Problem) { settings = try resolve() } catch { problem = error }
        if checkConfig {
            guard let problem else { return Swift.print(settings.listing) }
            Self.complain("\(problem)")
            throw ExitCode(78)
        }
        let level = settings.logLevel
        let target = LogTarget.chosen()
        LoggingSystem.bootstrap { label in
            var handler = target.handler(label: label)
            handler.logLevel = level
            return handler
        }
        let logger = Logger(label: "mmfreed")
        do {
            let handover = try InheritedSocket.takeAll()
            for complaint in handover.complaints { logger.warning("\(complaint), ignoring") }
            let daemon = Daemon(
                settings: settings, problem: problem, inherited: handover.sockets,
                signals: Signals([SIGTERM, SIGINT, SIGHUP]), logger: logger,
                reread: { try resolve() })
            try daemon.run()
        } catch let error as InheritedSocketError {
            logger.error("\(error)", metadata: ["message-id": "\(Event.badConfiguration)"])
            throw ExitCode(78)
        } catch is BadConfiguration {
            throw ExitCode(78)
        } catch let error as ListenError {
            Self.complain("\(error)")
            throw ExitCode(69)
        }
    }

    private static func complain(_ message: String) {
        var line = "mmfreed: \(message)\n"
        line.withUTF8 { _ = write(2, $0.baseAddress, $0.count) }
    }

    /// All settings, from everywhere.
    private func resolve() throws(Settings.Problem) -> Settings {
        var settings = Settings()
        if config != "/etc/mmfreed/mmfreed.conf", try !Settings.exists(config) {
            throw Settings.Problem(source: config, what: "there is no such file")
        }
        let directories = ["/usr/lib/mmfreed/mmfreed.conf.d", config + ".d"]
        for file in try Settings.files(main: config, directories: directories) {
            try settings.read(file: file)
        }
        try settings.read(environment: Self.environment)
        if let socket { try settings.set("socket", socket, from: "--socket") }
        if !models.isEmpty {
            try settings.set("models", models.joined(separator: ":"), from: "--models")
        }
        if let threads { try settings.set("threads", "\(threads)", from: "--threads") }
        for pair in set {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else {
                throw Settings.Problem(source: "--set \(pair)", what: "write NAME=VALUE")
            }
            try settings.set(String(parts[0]), String(parts[1]), from: "--set")
        }
        return settings
    }

    private static var environment: [String: String] {
        var variables: [String: String] = [:]
        for setting in Setting.all {
            if let value = getenv(setting.variable) {
                variables[setting.variable] = String(cString: value)
            }
        }
        return variables
    }

    /// The table of settings, tab-separated: what the manual page is made of.
    private static func list() {
        for setting in Setting.all {
            Swift.print("\(setting.name)\t\(setting.allowed)\t\(setting.standard)\t\(setting.help)")
        }
    }
}
