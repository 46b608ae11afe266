// SPDX-License-Identifier: Apache-2.0

import Engine

/// What can be set, in one table: it makes the help, the manual page's list, the checks and the defaults.
struct Setting: Sendable {
    enum Kind: Sendable {
        case text
        /// Several, separated by colons.
        case list
        case flag
        case whole(ClosedRange<Int>)
        case seconds(ClosedRange<Double>)
        case choice([String])
        /// Permission bits, octal.
        case mode
        /// The name of a kernel table this processor can run; "" takes the fastest.
        case kernels
    }

    let name: String
    let kind: Kind
    /// "" stands for none.
    let standard: String
    let help: String

    /// The environment variable.
    var variable: String { "MMFREED_" + name.uppercased() }

    static let all: [Setting] = [
        .init(
            name: "socket", kind: .text, standard: "/run/mmfreed/mmfreed.sock",
            help: "Where to listen, unless the service manager hands over a socket."),
        .init(
            name: "socket_mode", kind: .mode, standard: "0660",
            help: "Permissions of a socket the daemon makes itself."),
        .init(
            name: "models", kind: .list,
            standard: "/var/lib/mmfreed/models:/usr/share/mmfreed/models",
            help:
                "Directories of packed models, NAME.gguf each; an earlier directory's name hides a later one's."
        ),
        .init(
            name: "default_model", kind: .text, standard: "",
            help: "The model of requests that name none. Not needed while there is one."),
        .init(
            name: "threads", kind: .whole(0...1024), standard: "0",
            help: "Worker threads; 0 takes one for each processor the daemon may use."),
        .init(
            name: "pin_threads", kind: .flag, standard: "no",
            help:
                "Keep each worker thread to a processor of its own. The service needs SystemCallFilter=sched_setaffinity for it."
        ),
        .init(
            name: "kernels", kind: .kernels, standard: "",
            help:
                "Force a kernel table: scalar, avx2, avxvnni, avx512vnni, avx512vbmi, avx512gfni, neon. All give the same results."
        ),
        .init(
            name: "slots", kind: .whole(1...4096), standard: "8",
            help: "Sequences computed at once."),
        .init(
            name: "queue", kind: .whole(0...100_000), standard: "64",
            help: "Requests that may wait for a slot."),
        .init(
            name: "queue_per_user", kind: .whole(0...100_000), standard: "32",
            help: "Requests of one user that may wait for a slot."),
        .init(
            name: "default_timeout", kind: .seconds(0.001...1e6), standard: "300",
            help: "A request's time when it asks for none, waiting included."),
        .init(
            name: "max_timeout", kind: .seconds(0.001...1e6), standard: "3600",
            help: "The most time a request may ask for."),
        .init(
            name: "max_prompt_tokens", kind: .whole(1...(1 << 30)), standard: "1048576",
            help: "The longest prompt."),
        .init(
            name: "default_tokens", kind: .whole(1...(1 << 30)), standard: "256",
            help: "An answer's length when the request asks for none."),
        .init(
            name: "max_tokens", kind: .whole(1...(1 << 30)), standard: "65536",
            help: "The longest answer."),
        .init(
            name: "prefill_chunk", kind: .whole(1...4096), standard: "256",
            help: "Prompt tokens computed in one go."),
        .init(
            name: "prefault", kind: .flag, standard: "no",
            help:
                "Read models into memory: all there are before the first request, those that come later when they are first used."
        ),
        .init(
            name: "lock_memory", kind: .flag, standard: "no",
            help: "Keep models in memory; needs LimitMEMLOCK=."),
        .init(
            name: "slow_reader_timeout", kind: .seconds(0.001...1e6), standard: "30",
            help:
                "How long an answer waits for a reader that does not read; then it ends, and its connection is closed."
        ),
        .init(
            name: "max_connections", kind: .whole(1...65536), standard: "256",
            help:
                "Connections that are served at once; those beyond are told so and closed. Root is never told that there are too many."
        ),
        .init(
            name: "max_connections_per_user", kind: .whole(1...65536), standard: "64",
            help: "Connections of one user that are served at once."),
        .init(
            name: "idle_exit", kind: .seconds(0...1e9), standard: "0",
            help:
                "End after this long without a request when a socket unit can start the daemon again; 0 never. Less than 5 counts as 5: systemd gives up on a service that starts too often."
        ),
        .init(
            name: "drain_timeout", kind: .seconds(0...3600), standard: "20",
            help: "How long requests may go on when the daemon is stopped."),
        .init(
            name: "log_level",
            kind: .choice(["trace", "debug", "info", "notice", "warning", "error", "critical"]),
            standard: "info", help: "The least important messages to log."),
        .init(
            name: "log_text", kind: .flag, standard: "no",
            help: "Write prompts and answers to the log."),
    ]

    static func named(_ name: String) -> Setting? { all.first { $0.name == name } }

    /// What values it takes, for messages and manuals.
    var allowed: String {
        switch kind {
        case .text: "text"
        case .list: "texts separated by colons"
        case .flag: "yes or no"
        case .whole(let range): "a whole number, \(range.lowerBound) to \(range.upperBound)"
        case .seconds(let range): "seconds, \(range.lowerBound) to \(Int(range.upperBound))"
        case .choice(let names): names.joined(separator: ", ")
        case .mode: "permission bits in octal, 0600 to 0777"
        // What manuals say must not depend on where they were made.
        case .kernels: "a kernel table the processor can run"
        }
    }

    /// Whether a value is one of these.
    func accepts(_ value: String) -> Bool {
        switch kind {
        case .text, .list: !value.utf8.contains(0)
        case .flag: Self.flag(value) != nil
        case .whole(let range): Int(value).map(range.contains) ?? false
        case .seconds(let range): Double(value).map(range.contains) ?? false
        case .choice(let names): names.contains(value)
        case .mode: UInt16(value, radix: 8).map { (0o600...0o777).contains($0) } ?? false
        case .kernels: value.isEmpty || Kernels.runnable.contains(value)
        }
    }

    /// What is wrong with a value, if `accepts` says so.
    func refusal(of value: String) -> String {
        switch kind {
        case .kernels:
            "\(name) is '\(value)'; this processor can run \(Kernels.runnable.joined(separator: ", "))"
        default: "\(name) is '\(value)'; it must be \(allowed)"
        }
    }

    static func flag(_ value: String) -> Bool? {
        switch value.lowercased() {
        case "yes", "true", "on", "1": true
        case "no", "false", "off", "0": false
        default: nil
        }
    }

    /// The setting that was most likely meant by a name that is none.
    static func nearest(to name: String) -> String? {
        let best = all.map { ($0.name, distance(name, $0.name)) }.min { $0.1 < $1.1 }
        guard let best, best.1 <= max(2, name.count / 3) else { return nil }
        return best.0
    }

    /// Levenshtein's.
    private static func distance(_ a: String, _ b: String) -> Int {
        let (a, b) = (Array(a.utf8.prefix(64)), Array(b.utf8))
        var row = Array(0...b.count)
        for i in a.indices {
            var diagonal = row[0]
            row[0] = i + 1
            for j in b.indices {
                let above = row[j + 1]
                row[j + 1] = min(above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1))
                diagonal = above
            }
        }
        return row[b.count]
    }
}
