// SPDX-License-Identifier: Apache-2.0

/// A setting: its name, what it takes, what it is when nothing sets it.
struct Setting<Value: Sendable>: Sendable {
    let name: String
    let kind: SettingKind<Value>
    let standard: Value
    /// Whether a reload changes it in a daemon that runs.
    let isLive: Bool
    let help: String

    init(
        _ name: String, _ kind: SettingKind<Value>, _ standard: Value, live: Bool = false,
        _ help: String
    ) {
        self.name = name
        self.kind = kind
        self.standard = standard
        self.isLive = live
        self.help = help
    }
}

/// A setting of any type, for what treats all of them alike.
protocol AnySetting: Sendable {
    var name: String { get }
    var isLive: Bool { get }
    var help: String { get }
    /// What values it takes, for messages and the manual.
    var allowed: String { get }
    /// The default, as a settings file has it.
    var standardText: String { get }
    /// The value, and how a settings file has it.
    func read(_ input: SettingInput) throws(SettingRefusal) -> (value: any Sendable, text: String)
}

extension Setting: AnySetting {
    var allowed: String { kind.allowed }
    var standardText: String { kind.text(standard) }

    func read(_ input: SettingInput) throws(SettingRefusal) -> (value: any Sendable, text: String) {
        do throws(SettingRefusal) {
            let value = try kind.read(input)
            return (value, kind.text(value))
        } catch {
            throw SettingRefusal("\(name) is \(input); \(error.why ?? "it must be \(allowed)")")
        }
    }
}

extension AnySetting {
    /// The environment variable.
    var variable: String { "MMFREED_" + name.uppercased() }
}

/// What a source gives for a setting.
enum SettingInput: Sendable, Equatable, CustomStringConvertible {
    case text(String)
    case list([String])

    var description: String {
        switch self {
        case .text(let text): "'\(text)'"
        case .list(let texts): "[\(texts.map(SettingsFile.quoted).joined(separator: ", "))]"
        }
    }
}

/// Why a value cannot be used.
struct SettingRefusal: Error {
    /// `nil` when what the setting takes says it all.
    let why: String?

    init(_ why: String? = nil) { self.why = why }
}
