// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging
import RPC
import Serving
import SystemPackage

/// What is set, and where: flags over the environment over the files over the defaults.
struct Settings: Sendable {
    struct Value: Sendable, Equatable {
        var text: String
        /// "default", "MMFREED_SLOTS", "/etc/mmfreed/mmfreed.conf:3", "--slots".
        var source: String
    }

    private(set) var values: [String: Value] = [:]
    /// Everything that was wrong in what was read; what was right counts nevertheless.
    private(set) var problems: [Problem] = []

    /// Something that cannot be used, and where it stands.
    struct Problem: Error, Equatable, CustomStringConvertible {
        let source: String
        let what: String
        var description: String { "\(source): \(what)" }

        static func unreadable(_ path: String, _ reason: any Error) -> Problem {
            Problem(source: path, what: "cannot be read: \(reason)")
        }
    }

    /// All problems of one reading.
    struct Problems: Error, CustomStringConvertible {
        let all: [Problem]
        var description: String { all.map(\.description).joined(separator: "; ") }
    }

    func check() throws(Problems) {
        if !problems.isEmpty { throw Problems(all: problems) }
    }

    init() {
        for setting in Setting.all {
            values[setting.name] = Value(text: setting.standard, source: "default")
        }
    }

    mutating func set(_ name: String, _ text: String, from source: String) {
        guard let setting = Setting.named(name) else {
            let hint = Setting.nearest(to: name).map { "; did you mean '\($0)'?" } ?? ""
            return refuse(source, "there is no setting '\(name)'\(hint)")
        }
        guard setting.accepts(text) else { return refuse(source, setting.refusal(of: text)) }
        values[name] = Value(text: text, source: source)
    }

    /// - Parameter pair: NAME=VALUE.
    mutating func set(pair: String) {
        let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { return refuse("--set \(pair)", "write NAME=VALUE") }
        set(String(parts[0]), String(parts[1]), from: "--set")
    }

    mutating func refuse(_ source: String, _ what: String) {
        problems.append(Problem(source: source, what: what))
    }

    mutating func read(environment: [String: String]) {
        for setting in Setting.all {
            guard let text = environment[setting.variable], !text.isEmpty else { continue }
            set(setting.name, text, from: setting.variable)
        }
    }

    // MARK: Files

    /// The files to read, in order: the main one, then drop-ins by name; a drop-in in /etc hides its namesake in /usr/lib.
    ///
    /// - Throws: if it cannot be said what is there. Only what does not exist is absent.
    static func files(main: String, directories: [String]) throws(Problem) -> [String] {
        var dropIns: [String: String] = [:]
        for directory in directories {
            for name in try names(in: directory) where name.hasSuffix(".conf") {
                dropIns[name] = directory + "/" + name
            }
        }
        let main = try exists(main) ? [main] : []
        return main + dropIns.sorted { $0.key < $1.key }.map(\.value)
    }

    private static func exists(_ path: String) throws(Problem) -> Bool {
        var status = stat()
        if stat(path, &status) == 0 { return true }
        if errno == ENOENT { return false }
        throw .unreadable(path, Errno(rawValue: errno))
    }

    private static func names(in directory: String) throws(Problem) -> [String] {
        guard let handle = opendir(directory) else {
            if errno == ENOENT { return [] }
            throw .unreadable(directory, Errno(rawValue: errno))
        }
        defer { closedir(handle) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(handle) else {
                if errno != 0 { throw .unreadable(directory, Errno(rawValue: errno)) }
                return names
            }
            names.append(
                withUnsafeBytes(of: entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                })
        }
    }

    /// Reads the main file, if there is one, and its drop-ins.
    mutating func read(main: String, directories: [String]) {
        do throws(Problem) {
            for file in try Self.files(main: main, directories: directories) { read(file: file) }
        } catch { problems.append(error) }
    }

    private mutating func read(file path: String) {
        do throws(Problem) { read(try SettingsFile.contents(of: path), path: path) } catch {
            problems.append(error)
        }
    }

    mutating func read(_ text: String, path: String) {
        let entries: [SettingsFile.Entry]
        do throws(Problem) { entries = try SettingsFile(text, path: path).entries } catch {
            return problems.append(error)
        }
        for entry in entries {
            let source = "\(path):\(entry.line)"
            if let value = entry.text {
                set(entry.name, value, from: source)
            } else {
                refuse(
                    source,
                    "\(entry.name) must be a text, a number, true, false or a list of texts")
            }
        }
    }

    // MARK: Values

    func text(_ name: String) -> String { values[name]?.text ?? "" }
    func list(_ name: String) -> [String] { text(name).split(separator: ":").map(String.init) }
    func whole(_ name: String) -> Int { Int(text(name)) ?? 0 }
    func flag(_ name: String) -> Bool { Setting.flag(text(name)) ?? false }
    func nanoseconds(_ name: String) -> UInt64 { UInt64((Double(text(name)) ?? 0) * 1e9) }
    func duration(_ name: String) -> Duration { .nanoseconds(Int64(nanoseconds(name))) }
    var mode: UInt16 { UInt16(text("socket_mode"), radix: 8) ?? 0o660 }
    var logLevel: Logger.Level { Logger.Level(rawValue: text("log_level")) ?? .info }

    var serving: ServingConfiguration {
        var configuration = ServingConfiguration()
        configuration.slots = whole("slots")
        configuration.queue = whole("queue")
        configuration.queuePerUser = whole("queue_per_user")
        configuration.maxPromptTokens = whole("max_prompt_tokens")
        configuration.defaultTokens = whole("default_tokens")
        configuration.maxTokens = whole("max_tokens")
        configuration.prefillChunk = whole("prefill_chunk")
        configuration.sharedPrefillChunk = min(
            configuration.sharedPrefillChunk, whole("prefill_chunk"))
        configuration.slowReaderTimeout = nanoseconds("slow_reader_timeout")
        configuration.defaultModel = text("default_model").isEmpty ? nil : text("default_model")
        configuration.threads = whole("threads") == 0 ? nil : whole("threads")
        configuration.pinsThreads = flag("pin_threads")
        configuration.kernels = text("kernels").isEmpty ? nil : text("kernels")
        configuration.prefault = flag("prefault")
        configuration.lockMemory = flag("lock_memory")
        configuration.logsText = flag("log_text")
        return configuration
    }

    var transport: RPCServer.Configuration {
        var configuration = RPCServer.Configuration()
        configuration.connections = whole("max_connections")
        configuration.connectionsPerUser = whole("max_connections_per_user")
        configuration.defaultTimeout = nanoseconds("default_timeout")
        configuration.maximumTimeout = nanoseconds("max_timeout")
        configuration.slowReaderTimeout = nanoseconds("slow_reader_timeout")
        return configuration
    }

    /// Every setting, its value and where it comes from, as a file the daemon could read.
    var listing: String {
        Setting.all.map { setting in
            let value = values[setting.name] ?? Value(text: "", source: "")
            let quoted =
                switch setting.kind {
                case .whole, .seconds: value.text
                case .flag: flag(setting.name) ? "true" : "false"
                default: "\"\(value.text)\""
                }
            return "\(setting.name) = \(quoted)  # \(value.source)"
        }.joined(separator: "\n")
    }
}
