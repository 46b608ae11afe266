// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CLinux
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
            Settings come from flags, then MMFREED_* variables, then the configuration file and the directory of \
            that name with .d behind it, then the defaults. mmfreed.conf(5) lists them; so does --check-config.
            """,
        version: "mmfreed \(Version.string)")

    @Option(help: "Where to listen.", completion: .file()) var socket: String?
    @Option(help: "Where to hand out descriptors of models.", completion: .file())
    var shareSocket: String?
    @Option(
        help: "A directory of packed models, or one such file; may be given more than once.",
        completion: .file())
    var models: [String] = []
    @Option(help: "Worker threads; 0 takes one for each processor.") var threads: Int?
    @Option(help: "Any setting: NAME=VALUE; may be given more than once.") var set: [String] = []
    @Option(
        help:
            "The configuration file. Default: /etc/mmfreed/mmfreed.conf; for a user's own daemon ~/.config/mmfreed/mmfreed.conf.",
        completion: .file())
    var config: String?
    @Flag(help: "Show all settings and where they come from, and end.") var checkConfig = false
    @Flag(help: .hidden) var listSettings = false

    func run() throws {
        if listSettings { return Self.list() }
        let settings = resolve()
        if !checkConfig { return try serve(settings) }
        for problem in settings.problems { Self.complain("\(problem)") }
        guard settings.problems.isEmpty else { throw ExitCode(settings.exitStatus) }
        for warning in settings.warnings { Self.complain("warning: \(warning)") }
        Swift.print(settings.listing)
    }

    private func serve(_ settings: Settings) throws {
        cl_spare_memory()
        // Before any other thread is started.
        let signals = Signals([SIGTERM, SIGINT, SIGHUP])
        let log = LogQueue(.chosen(), level: settings.logLevel)
        LoggingSystem.bootstrap { log.handler(label: $0) }
        // Whatever ends the daemon, the last word is the reason.
        defer { log.flush(within: .seconds(2)) }
        let logger = Logger(label: "mmfreed")
        do {
            let handover = try InheritedSocket.takeAll()
            for complaint in handover.complaints { logger.warning("\(complaint), ignoring") }
            if settings.source(of: \.models) == nil { DefaultPlaces.current().makeModels() }
            let daemon = Daemon(
                settings: settings, inherited: handover.sockets, kept: handover.memory,
                signals: signals, logger: logger,
                log: log, reread: resolve)
            try daemon.run()
        } catch let error as InheritedSocketError {
            logger.error("\(error)", metadata: ["message-id": "\(Event.badConfiguration)"])
            throw ExitCode(78)
        } catch is BadConfiguration {
            throw ExitCode(settings.exitStatus)
        } catch let error as ListenError {
            logger.error("\(error)")
            throw ExitCode(69)
        }
    }

    private static func complain(_ message: String) {
        var line = "mmfreed: \(message)\n"
        line.withUTF8 { _ = write(2, $0.baseAddress, $0.count) }
    }

    /// All settings, from everywhere.
    private func resolve() -> Settings {
        let places = DefaultPlaces.current()
        var settings = Settings(own: places.own)
        // The usual file may be missing; one that was asked for may not.
        if let config, access(config, F_OK) != 0, errno == ENOENT {
            settings.refuse(config, "there is no such file")
        }
        let main = config ?? places.config
        settings.read(main: main, directories: places.packaged + [main + ".d"])
        settings.read { getenv($0).map { String(cString: $0) } }
        if let socket { settings.set("socket", .text(socket), from: "--socket") }
        if let shareSocket {
            settings.set("share_socket", .text(shareSocket), from: "--share-socket")
        }
        if !models.isEmpty { settings.set("models", .list(models), from: "--models") }
        if let threads { settings.set("threads", .text("\(threads)"), from: "--threads") }
        for pair in set { settings.set(pair: pair) }
        return settings
    }

    /// The table of settings, tab-separated: what the manual page is made of.
    private static func list() {
        for setting in SettingsTable.all {
            let help = setting.help + (setting.isLive ? " A reload changes it." : "")
            Swift.print("\(setting.name)\t\(setting.allowed)\t\(setting.standardText)\t\(help)")
        }
    }
}
