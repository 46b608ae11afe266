// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import Logging
import ModelStore
import RPC
import Serving

/// What a setting takes: from what is written to a value, and back to what a settings file has.
struct SettingKind<Value: Sendable>: Sendable {
    /// For messages and the manual; the same on every machine.
    let allowed: String
    let read: @Sendable (SettingInput) throws(SettingRefusal) -> Value
    let text: @Sendable (Value) -> String

    init(
        _ allowed: String, text: @escaping @Sendable (Value) -> String,
        read: @escaping @Sendable (SettingInput) throws(SettingRefusal) -> Value
    ) {
        self.allowed = allowed
        self.read = read
        self.text = text
    }

    /// A kind that takes one text, and refuses those of which `parse` makes nothing.
    init(
        word allowed: String, text: @escaping @Sendable (Value) -> String,
        parse: @escaping @Sendable (String) -> Value?
    ) {
        self.init(allowed, text: text) { input throws(SettingRefusal) in
            guard case .text(let word) = input, !word.utf8.contains(0), let value = parse(word)
            else { throw SettingRefusal() }
            return value
        }
    }
}

extension SettingKind where Value == String {
    static let path = SettingKind(word: "a path", text: SettingsFile.quoted) {
        $0.isEmpty ? nil : $0
    }

    /// As clients read it.
    static let socket = SettingKind(
        "a path", text: SettingsFile.quoted,
        read: { input throws(SettingRefusal) in
            let text = try path.read(input)
            do { return try SocketSpelling.path(text) } catch {
                throw SettingRefusal("\(error)")
            }
        })
}

extension SettingKind where Value == String? {
    /// "" is none.
    static let optionalText = SettingKind(
        word: "text", text: { SettingsFile.quoted($0 ?? "") },
        parse: { .some($0.isEmpty ? nil : $0) })

    /// The name of a kernel table this processor can run; "" takes the fastest.
    static let kernels = SettingKind(
        "a kernel table the processor can run", text: { SettingsFile.quoted($0 ?? "") },
        read: { input throws(SettingRefusal) in
            let name = try optionalText.read(input)
            if let name, (try? Kernels.select(name)) == nil {
                throw SettingRefusal(
                    "this processor can run \(Kernels.runnable.joined(separator: ", "))")
            }
            return name
        })
}

extension SettingKind where Value == [String] {
    /// Paths. A list is taken as it is. A text is one path; or several, where a colon stands before a slash.
    static let paths = SettingKind(
        "a list of paths", text: { SettingInput.list($0).description },
        read: { input throws(SettingRefusal) in
            let paths =
                switch input {
                case .list(let paths): paths
                case .text(let text): split(text)
                }
            guard !paths.isEmpty, !paths.contains(where: { $0.isEmpty || $0.utf8.contains(0) })
            else {
                throw SettingRefusal("it must have a path at least, and none that is empty")
            }
            return paths
        })

    /// "/a:/b" is two paths, "/a:b" is one.
    private static func split(_ text: String) -> [String] {
        var paths: [String] = []
        for part in text.split(separator: ":", omittingEmptySubsequences: false) {
            if part.hasPrefix("/") || paths.isEmpty {
                paths.append(String(part))
            } else {
                paths[paths.count - 1] += ":" + part
            }
        }
        return paths
    }
}

extension SettingKind where Value == Set<UInt32> {
    /// Users by name or number.
    static let users = SettingKind(
        "a list of users",
        text: { SettingInput.list($0.sorted().map(String.init)).description },
        read: { input throws(SettingRefusal) in
            let names =
                switch input {
                case .list(let names): names
                case .text(let text): text.isEmpty ? [] : [text]
                }
            var users: Set<UInt32> = []
            for name in names {
                guard let user = UInt32(name) ?? getpwnam(name)?.pointee.pw_uid else {
                    throw SettingRefusal("there is no user '\(name)'")
                }
                users.insert(user)
            }
            return users
        })
}

extension SettingKind where Value == Bool {
    static let flag = SettingKind(
        word: "yes or no", text: { $0 ? "true" : "false" }, parse: isYes)

    static func isYes(_ text: String) -> Bool? {
        switch text.lowercased() {
        case "yes", "true", "on", "1": true
        case "no", "false", "off", "0": false
        default: nil
        }
    }
}

extension SettingKind where Value: RawRepresentable & CaseIterable, Value.RawValue == String {
    /// One of an enum's words.
    static func word(also other: @escaping @Sendable (String) -> Value? = { _ in nil })
        -> SettingKind
    {
        let words = Value.allCases.map(\.rawValue)
        return SettingKind(
            word: words.dropLast().joined(separator: ", ") + " or " + (words.last ?? ""),
            text: { SettingsFile.quoted($0.rawValue) },
            parse: { Value(rawValue: $0.lowercased()) ?? other($0) })
    }
}

extension SettingKind where Value == Verification {
    /// It was a flag once.
    static let verification = word {
        SettingKind<Bool>.isYes($0).map { $0 ? .background : .skip }
    }
}

extension SettingKind where Value == UntrustedFiles {
    static let untrustedFiles = word()
}

extension SettingKind where Value == Int {
    static func whole(_ range: ClosedRange<Int>) -> SettingKind {
        SettingKind(
            word: "a whole number, \(range.lowerBound) to \(range.upperBound)", text: { "\($0)" },
            parse: { Int($0).flatMap { range.contains($0) ? $0 : nil } })
    }
}

extension SettingKind where Value == Duration {
    static func seconds(_ range: ClosedRange<Double>) -> SettingKind {
        SettingKind(
            word: "seconds, \(range.lowerBound) to \(Int(range.upperBound))",
            text: {
                let seconds = $0 / .seconds(1)
                return seconds == seconds.rounded() ? "\(Int(seconds))" : "\(seconds)"
            },
            parse: {
                Double($0).flatMap { range.contains($0) ? .nanoseconds(Int64($0 * 1e9)) : nil }
            })
    }
}

extension SettingKind where Value == MappedFile.Advice {
    static let advice = SettingKind(
        word: Value.allCases.map(\.rawValue).joined(separator: ", "),
        text: { SettingsFile.quoted($0.rawValue) }, parse: { Value(rawValue: $0) })
}

extension SettingKind where Value == Logger.Level {
    static let level = SettingKind(
        word: Logger.Level.allCases.map(\.rawValue).joined(separator: ", "),
        text: { SettingsFile.quoted($0.rawValue) },
        parse: { Logger.Level(rawValue: $0) })
}

extension SettingKind where Value == UInt16 {
    /// Permission bits.
    static let mode = SettingKind(
        word: "permission bits in octal, 0600 to 0777",
        text: { SettingsFile.quoted("0" + String($0, radix: 8)) },
        parse: { UInt16($0, radix: 8).flatMap { (0o600...0o777).contains($0) ? $0 : nil } })
}
