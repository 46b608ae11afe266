// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

extension Settings {
    /// Sets a text from a variable or the command line. One that begins with a bracket is a list, as in a file.
    mutating func set(_ name: String, typed text: String, from source: String) {
        guard text.hasPrefix("[") else { return set(name, .text(text), from: source) }
        let entries = try? SettingsFile("list = \(text)", path: source).entries
        guard let entries, entries.count == 1, let input = entries[0].input else {
            return refuse(source, "\(name) is '\(text)'; write [\"TEXT\", \"TEXT\"]")
        }
        set(name, input, from: source)
    }

    /// - Parameter pair: NAME=VALUE.
    mutating func set(pair: String) {
        let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { return refuse("--set \(pair)", "write NAME=VALUE") }
        set(String(parts[0]), typed: String(parts[1]), from: "--set")
    }

    /// - Parameter variable: the value of an environment variable; an empty one counts as none.
    mutating func read(environment variable: (String) -> String?) {
        for setting in SettingsTable.all {
            guard let text = variable(setting.variable), !text.isEmpty else { continue }
            set(setting.name, typed: text, from: setting.variable)
        }
    }

    // MARK: Files

    /// Reads the main file, if there is one, and its drop-ins.
    mutating func read(main: String, directories: [String]) {
        do throws(Problem) {
            for file in try Self.files(main: main, directories: directories) { read(file: file) }
        } catch { refuse(error) }
    }

    private mutating func read(file path: String) {
        do throws(Problem) { read(try SettingsFile.contents(of: path), path: path) } catch {
            refuse(error)
        }
    }

    mutating func read(_ text: String, path: String) {
        let entries: [SettingsFile.Entry]
        do throws(Problem) { entries = try SettingsFile(text, path: path).entries } catch {
            return refuse(error)
        }
        for entry in entries {
            let source = "\(path):\(entry.line)"
            if let input = entry.input {
                set(entry.name, input, from: source)
            } else {
                refuse(
                    source,
                    "\(entry.name) must be a text, a number, true, false or a list of texts")
            }
        }
    }

    /// The files to read, in order: the main one, then drop-ins by name; a drop-in of a later directory hides its namesake in
    /// an earlier one.
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
}
