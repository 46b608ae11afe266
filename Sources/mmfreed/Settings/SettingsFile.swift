// SPDX-License-Identifier: Apache-2.0

import CConfig
import SystemPackage

/// What a settings file says: names and values in the order they stand there. libconfig reads it.
struct SettingsFile {
    struct Entry: Equatable {
        let name: String
        /// `nil` for groups and lists of other things than texts.
        let input: SettingInput?
        let line: Int
    }

    let entries: [Entry]

    /// - Throws: `Settings.Problem` with the line, when it is not a settings file.
    init(_ text: String, path: String) throws(Settings.Problem) {
        // Files have drop-ins, so libconfig's includes are not needed: what they read would count under another's name.
        let lines = text.split(
            omittingEmptySubsequences: false, whereSeparator: { $0 == "\n" || $0 == "\r\n" })
        for (index, line) in lines.enumerated() {
            let source = "\(path):\(index + 1)"
            if line.contains("\0") || line.drop(while: { " \t".contains($0) }).first == "@" {
                throw Settings.Problem(
                    source: source, what: "write NAME = VALUE; there are no includes")
            }
            // libconfig would end the text there without a word.
            if line.contains("\\x00") {
                throw Settings.Problem(source: source, what: "a text cannot hold \\x00")
            }
        }
        var config = config_t()
        config_init(&config)
        defer { config_destroy(&config) }
        // A comment must end.
        guard (text + "\n").withCString({ config_read_string(&config, $0) }) != 0 else {
            let line = Int(config.error_line)
            let what = config.error_text.map { String(cString: $0) } ?? "it cannot be read"
            throw Settings.Problem(
                source: "\(path):\(line)", what: what + Self.detail(lines, line, what))
        }
        var entries: [Entry] = []
        if let root = config.root {
            for index in 0..<config_setting_length(root) {
                guard let setting = config_setting_get_elem(root, UInt32(index)) else { continue }
                let name = setting.pointee.name.map { String(cString: $0) } ?? ""
                entries.append(
                    Entry(name: name, input: Self.input(setting), line: Int(setting.pointee.line)))
            }
        }
        self.entries = entries.sorted { $0.line < $1.line }
    }

    /// What libconfig does not tell: the line's text, and where a name stands that is there twice.
    private static func detail(_ lines: [Substring], _ line: Int, _ what: String) -> String {
        guard lines.indices.contains(line - 1) else { return "" }
        func nameOf(_ line: Substring) -> Substring {
            line.drop(while: \.isWhitespace).prefix { !" \t=:".contains($0) }
        }
        let name = nameOf(lines[line - 1])
        var detail = ", at '\(lines[line - 1].drop(while: \.isWhitespace).prefix(80))'"
        if what.hasPrefix("duplicate"),
            let first = lines[..<(line - 1)].firstIndex(where: { nameOf($0) == name })
        {
            detail += "; line \(first + 1) sets '\(name)' already"
        }
        return detail
    }

    /// The most bytes a file may have. libconfig's time grows with the square of the names: this many take 0.2 s.
    static let limit = 1 << 16

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

    private static func input(
        _ setting: UnsafeMutablePointer<config_setting_t>
    ) -> SettingInput? {
        switch Int32(setting.pointee.type) {
        case CONFIG_TYPE_STRING:
            config_setting_get_string(setting).map { .text(String(cString: $0)) }
        case CONFIG_TYPE_INT: .text("\(config_setting_get_int(setting))")
        case CONFIG_TYPE_INT64: .text("\(config_setting_get_int64(setting))")
        case CONFIG_TYPE_FLOAT: .text("\(config_setting_get_float(setting))")
        case CONFIG_TYPE_BOOL: .text(config_setting_get_bool(setting) != 0 ? "yes" : "no")
        case CONFIG_TYPE_ARRAY, CONFIG_TYPE_LIST: list(setting)
        default: nil
        }
    }

    private static func list(_ setting: UnsafeMutablePointer<config_setting_t>) -> SettingInput? {
        var texts: [String] = []
        for index in 0..<config_setting_length(setting) {
            guard let text = config_setting_get_string_elem(setting, index) else { return nil }
            texts.append(String(cString: text))
        }
        return .list(texts)
    }

    /// A text as a file has it.
    static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": quoted += "\\\(scalar)"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                let digits = String(scalar.value, radix: 16)
                quoted += "\\x" + (digits.count < 2 ? "0" : "") + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
