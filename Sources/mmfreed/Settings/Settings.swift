// SPDX-License-Identifier: Apache-2.0

import Glibc
import RPC
import Serving

/// What is set, and where: flags over the environment over the files over the defaults. `settings.slots` is the value.
@dynamicMemberLookup
struct Settings: Sendable {
    struct Entry: Sendable {
        let value: any Sendable
        /// As a settings file has it.
        let text: String
        /// "default", "MMFREED_SLOTS", "/etc/mmfreed/mmfreed.conf:3", "--slots".
        let source: String
    }

    /// By name; what is not in it has its default.
    private(set) var entries: [String: Entry] = [:]
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

    /// - Parameter own: the places of a user's own daemon, which replace the system's.
    init(own: DefaultPlaces.Own? = nil) {
        guard let own else { return }
        set("socket", .text(own.socket), from: Self.byDefault)
        set("models", .list([own.models] + self.models), from: Self.byDefault)
    }

    private static let byDefault = "default"

    /// sysexits(3): EX_USAGE where the command line is wrong, else EX_CONFIG.
    var exitStatus: Int32 {
        problems.contains { $0.source.hasPrefix("--") } ? 64 : 78
    }

    // MARK: Values

    subscript<Value>(dynamicMember key: KeyPath<SettingsTable, Setting<Value>>) -> Value {
        let setting = SettingsTable.shared[keyPath: key]
        return entries[setting.name]?.value as? Value ?? setting.standard
    }

    func text(_ setting: any AnySetting) -> String {
        entries[setting.name]?.text ?? setting.standardText
    }

    /// Where a setting was set; `nil` for a default.
    func source<Value>(of key: KeyPath<SettingsTable, Setting<Value>>) -> String? {
        let source = entries[SettingsTable.shared[keyPath: key].name]?.source
        return source == Self.byDefault ? nil : source
    }

    mutating func set(_ name: String, _ input: SettingInput, from source: String) {
        guard let setting = SettingsTable.named(name) else {
            let hint = SettingsTable.nearest(to: name).map { "; did you mean '\($0)'?" } ?? ""
            return refuse(source, "there is no setting '\(name)'\(hint)")
        }
        do throws(SettingRefusal) {
            let (value, text) = try setting.read(input)
            entries[name] = Entry(value: value, text: text, source: source)
        } catch { refuse(source, error.why ?? name) }
    }

    mutating func refuse(_ source: String, _ what: String) {
        refuse(Problem(source: source, what: what))
    }

    mutating func refuse(_ problem: Problem) { problems.append(problem) }

    /// Takes over from `fresh` what a reload changes.
    ///
    /// - Returns: what is changed now, as "name = value", and the names of what waits for a restart.
    mutating func adopt(_ fresh: Settings) -> (changed: [String], waiting: [String]) {
        let differing = SettingsTable.all.filter { fresh.text($0) != text($0) }
        let live = differing.filter(\.isLive)
        for setting in live { entries[setting.name] = fresh.entries[setting.name] }
        return (
            live.map { "\($0.name) = \(fresh.text($0))" },
            differing.filter { !$0.isLive }.map(\.name)
        )
    }

    /// Every setting, its value and where it comes from, as a file the daemon could read.
    var listing: String {
        SettingsTable.all
            .map { "\($0.name) = \(text($0))  # \(entries[$0.name]?.source ?? Self.byDefault)" }
            .joined(separator: "\n")
    }

    // MARK: What they are for

    var serving: ServingConfiguration {
        var configuration = ServingConfiguration()
        configuration.slots = self.slots
        configuration.queue = self.queue
        configuration.queuePerUser = self.queuePerUser
        configuration.requestsPerUser = self.requestsPerUser
        configuration.openPromptTokens = self.openPromptTokens
        configuration.openPromptTokensPerUser = self.openPromptTokensPerUser
        configuration.tokensPerMinute = self.tokensPerMinutePerUser
        configuration.slotTime = self.slotTime.nanoseconds
        configuration.maxPromptTokens = self.maxPromptTokens
        configuration.defaultTokens = self.defaultTokens
        configuration.maxTokens = self.maxTokens
        configuration.prefillChunk = self.prefillChunk
        configuration.turnTime = UInt64(self.turnTimeMs) * 1_000_000
        configuration.slowReaderTimeout = self.slowReaderTimeout.nanoseconds
        configuration.prefixBytes = self.prefixCache << 20
        configuration.keyValueBytes = self.keyValueMemory << 20
        configuration.keyValueType = self.keyValueType
        configuration.prefixInterval = self.prefixInterval
        configuration.sharesPrefixes = self.prefixSharing
        configuration.sessionTime = self.sessionTime.nanoseconds
        configuration.sessionDirectory = self.sessionDirectory
        configuration.defaultModel = self.defaultModel
        configuration.threads = self.threads == 0 ? nil : self.threads
        configuration.pinsThreads = self.pinThreads
        configuration.kernels = self.kernels
        configuration.prefault = self.prefault
        configuration.lockMemory = self.lockMemory
        configuration.idleMemory = self.idleMemory
        configuration.idleMemoryAfter = self.idleMemoryAfter.nanoseconds
        configuration.verification = self.verify
        configuration.untrustedFiles = self.untrustedModels
        configuration.logsText = self.logText
        configuration.controllers = self.controllers
        return configuration
    }

    /// Where the daemon makes a share socket itself; `nil` for nowhere.
    var sharePath: String? {
        if let path = self.shareSocket { return path }
        guard source(of: \.socket) == nil, let slash = self.socket.lastIndex(of: "/") else {
            return nil
        }
        return String(self.socket[...slash]) + "share.sock"
    }

    /// Who may speak for others; nobody where there is no such user.
    var gatewayID: UInt32? {
        self.gatewayUser.flatMap { UInt32($0) ?? getpwnam($0)?.pointee.pw_uid }
    }

    var transport: RPCServer.Configuration {
        var configuration = RPCServer.Configuration()
        configuration.connections = self.maxConnections
        configuration.gateway = gatewayID
        configuration.connectionsPerUser = self.maxConnectionsPerUser
        configuration.bytes.sessions = self.sessions
        configuration.bytes.sessionsPerAccount = self.sessionsPerUser
        configuration.bytes.stateBytes = self.sessionMemory << 20
        configuration.bytes.stateBytesPerAccount = self.sessionMemoryPerUser << 20
        configuration.bytes.requestBytes = self.requestMemory << 20
        configuration.bytes.requestBytesPerAccount = self.requestMemoryPerUser << 20
        configuration.bytes.answerBytes = self.answerMemory << 20
        configuration.bytes.answerBytesPerAccount = self.answerMemoryPerUser << 20
        configuration.defaultTimeout = self.defaultTimeout.nanoseconds
        configuration.maximumTimeout = self.maxTimeout.nanoseconds
        configuration.slowReaderTimeout = self.slowReaderTimeout.nanoseconds
        return configuration
    }
}
