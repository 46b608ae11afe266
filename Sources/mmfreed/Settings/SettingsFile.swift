// SPDX-License-Identifier: Apache-2.0

import CConfig
import SystemPackage

/// What a settings file says: names and values in the order they stand there. libconfig reads it.
struct SettingsFile {
    struct Entry: Equatable {
        let name: String
        /// As `Setting` takes it; `nil` for groups and lists of other things than texts.
        let text: String?
        let line: Int
    }

    let entries: [Entry]

    /// - Throws: `Settings.Problem` with the line, when it is not a settings file.
    init(_ text: String, path: String) throws(Settings.Problem) {
        // Files have drop-ins, so libconfig's includes are not needed: what they read would count under another's name.
        let lines = text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            if line.contains(0) || line.first(where: { $0 != 0x20 && $0 != 0x09 }) == 0x40 {
                throw Settings.Problem(
                    source: "\(path):\(index + 1)",
                    what: "write NAME = VALUE; there are no includes")
            }
        }
        var config = config_t()
        config_init(&config)
        defer { config_destroy(&config) }
        // A comment must end.
        guard (text + "\n").withCString({ config_read_string(&config, $0) }) != 0 else {
            let what = config.error_text.map { String(cString: $0) } ?? "it cannot be read"
            throw Settings.Problem(source: "\(path):\(config.error_line)", what: what)
        }
        var entries: [Entry] = []
        if let root = config.root {
            for index in 0..<config_setting_length(root) {
                guard let setting = config_setting_get_elem(root, UInt32(index)) else { continue }
                let name = setting.pointee.name.map { String(cString: $0) } ?? ""
                entries.append(
                    Entry(name: name, text: Self.value(setting), line: Int(setting.pointee.line)))
            }
        }
        self.entries = entries.sorted { $0.line < $1.line }
    }

    /// The most a file may hold.
    static let limit = 1 << 20

    static func contents(of path: String) throws(Settings.Problem) -> String {
        let bytes: [UInt8]
        do { bytes = try read(path) } catch { throw .unreadable(path, error) }
        guard bytes.count <= limit else {
            throw Settings.Problem(
                source: path, what: "has more than \(limit) bytes, the most for settings")
        }
        if let text = String(validating: bytes, as: UTF8.self) { return text }
        // A line break is no part of another character.
        let line = bytes.split(separator: 0x0A, omittingEmptySubsequences: false)
            .firstIndex { String(validating: $0, as: UTF8.self) == nil }
        throw Settings.Problem(
            source: "\(path):\((line ?? 0) + 1)",
            what: "is not UTF-8: save the file in that encoding")
    }

    /// All of a file, or its beginning if that is too much already.
    private static func read(_ path: String) throws -> [UInt8] {
        let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
        return try file.closeAfter {
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 65536)
            while bytes.count <= limit {
                let count = try chunk.withUnsafeMutableBytes { try file.read(into: $0) }
                if count == 0 { break }
                bytes += chunk[..<count]
            }
            return bytes
        }
    }

    private static func value(_ setting: UnsafeMutablePointer<config_setting_t>) -> String? {
        switch Int32(setting.pointee.type) {
        case CONFIG_TYPE_STRING: config_setting_get_string(setting).map { String(cString: $0) }
        case CONFIG_TYPE_INT: "\(config_setting_get_int(setting))"
        case CONFIG_TYPE_INT64: "\(config_setting_get_int64(setting))"
        case CONFIG_TYPE_FLOAT: "\(config_setting_get_float(setting))"
        case CONFIG_TYPE_BOOL: config_setting_get_bool(setting) != 0 ? "yes" : "no"
        case CONFIG_TYPE_ARRAY: list(setting)
        default: nil
        }
    }

    private static func list(_ setting: UnsafeMutablePointer<config_setting_t>) -> String? {
        var texts: [String] = []
        for index in 0..<config_setting_length(setting) {
            guard let text = config_setting_get_string_elem(setting, index) else { return nil }
            texts.append(String(cString: text))
        }
        return texts.joined(separator: ":")
    }
}
