// SPDX-License-Identifier: Apache-2.0

import CConfig

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
