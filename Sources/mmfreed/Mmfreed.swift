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

    @Option(help: "Where to listen.", completion: .file()) var socket: String?
    @Option(
        help: "A directory of packed models; may be given more than once.", completion: .directory)
    var models: [String] = []
    @Option(help: "Worker threads; 0 takes one for each processor.") var threads: Int?
    @Option(help: "Any setting: NAME=VALUE; may be given more than once.") var set: [String] = []
    @Option(help: "The configuration file.", completion: .file()) var config = Self.usualConfig
    @Flag(help: "Show all settings and where they come from, and end.") var checkConfig = false
    @Flag(help: .hidden) var listSettings = false

    func run() throws {
        if listSettings { return Self.list() }
        let settings = resolve()
        if !checkConfig { return try serve(settings) }
        for problem in settings.problems { Self.complain("\(problem)") }
        guard settings.problems.isEmpty else { throw ExitCode(78) }
        Swift.print(settings.listing)
    }

    private func serve(_ settings: Settings) throws {
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
                settings: settings, inherited: handover.sockets,
                signals: Signals([SIGTERM, SIGINT, SIGHUP]), logger: logger, reread: resolve)
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
    private func resolve() -> Settings {
        var settings = Settings()
        // The usual file may be missing; one that was asked for may not.
        if config != Self.usualConfig, access(config, F_OK) != 0, errno == ENOENT {
            settings.refuse(config, "there is no such file")
        }
        settings.read(
            main: config, directories: ["/usr/lib/mmfreed/mmfreed.conf.d", config + ".d"])
        settings.read(environment: Self.environment)
        if let socket { settings.set("socket", socket, from: "--socket") }
        if !models.isEmpty {
            settings.set("models", models.joined(separator: ":"), from: "--models")
        }
        if let threads { settings.set("threads", "\(threads)", from: "--threads") }
        for pair in set { settings.set(pair: pair) }
        return settings
    }

    private static let usualConfig = "/etc/mmfreed/mmfreed.conf"

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
