// SPDX-License-Identifier: Apache-2.0

import Glibc
package import Logging
import SystemPackage

/// What can be set, by flags and by environment variables; a flag comes first.
package struct GatewaySettings: Sendable {
    /// Something that cannot be used, and where it stands.
    package struct Problem: Error, Equatable, CustomStringConvertible {
        package let source: String
        package let what: String
        package var description: String { "\(source): \(what)" }

        package init(source: String, what: String) {
            self.source = source
            self.what = what
        }
    }

    /// A setting: its name in flags ("max-body"; MMFREE_GATEWAY_MAX_BODY), and what it is.
    package struct Entry: Sendable {
        package let name: String
        package let standard: String
        package let help: String
        let apply: @Sendable (inout GatewaySettings, [String]) throws(Refusal) -> Void

        package var variable: String {
            "MMFREE_GATEWAY_" + name.uppercased().split(separator: "-").joined(separator: "_")
        }
    }

    struct Refusal: Error {
        let what: String
        init(_ what: String) { self.what = what }
    }

    package var listen: [Listener.Address] = []
    package var gateway = GatewayConfiguration()
    package var limits = ConnectionLimits()
    package var maxConnections = 256
    package var drainTime = Duration.seconds(20)
    package var logLevel = Logger.Level.info

    /// - Parameters:
    ///   - flags: what the command line gives, by name.
    ///   - environment: all variables.
    package init(
        flags: [String: [String]], environment: [String: String]
    ) throws(Problem) {
        for entry in Self.all {
            if let values = flags[entry.name], !values.isEmpty {
                try apply(entry, values, "--\(entry.name)")
            } else if let text = environment[entry.variable], !text.isEmpty {
                let values = text.split(separator: " ").map(String.init)
                try apply(entry, values, entry.variable)
            }
        }
        let known = Set(Self.all.map(\.variable))
        if let stranger = environment.keys.sorted().first(where: {
            $0.hasPrefix("MMFREE_GATEWAY_") && !known.contains($0)
        }) {
            throw Problem(
                source: stranger,
                what:
                    "there is no such setting; there are \(known.sorted().joined(separator: ", "))"
            )
        }
    }

    private mutating func apply(
        _ entry: Entry, _ values: [String], _ source: String
    ) throws(Problem) {
        do throws(Refusal) { try entry.apply(&self, values) } catch {
            throw Problem(source: source, what: error.what)
        }
    }

    /// Where to listen when nothing says it and the service manager hands over no socket.
    package static let standardAddress = Listener.Address.tcp(host: "127.0.0.1", port: 8434)

    package static let all: [Entry] = [
        Entry(
            name: "listen", standard: "127.0.0.1:8434",
            help:
                "Where to listen, unless the service manager hands over sockets: ADDRESS:PORT of this machine's loopback, or unix:PATH. Several may be given."
        ) { settings, values throws(Refusal) in
            settings.listen = []
            for value in values { settings.listen.append(try address(value)) }
        },
        Entry(
            name: "daemon", standard: "/run/mmfreed/mmfreed.sock",
            help: "The daemon's socket. Without it, the places in which mmfreectl looks."
        ) { settings, values throws(Refusal) in settings.gateway.daemon = try one(values) },
        Entry(
            name: "hosts", standard: "",
            help:
                "Names by which HTTP clients may address this machine, besides localhost and loopback addresses: of a reverse proxy, of a container's host."
        ) { settings, values throws(Refusal) in settings.gateway.hosts = HostList(values) },
        Entry(
            name: "origins", standard: "",
            help:
                "Web pages that may make requests, as browsers send them in Origin: http://localhost:3000, app://obsidian.md; * for all."
        ) { settings, values throws(Refusal) in settings.gateway.origins = OriginList(values) },
        Entry(
            name: "key-file", standard: "",
            help:
                "A file of keys, one a line, of which a request must have one (Authorization: Bearer KEY)."
        ) { settings, values throws(Refusal) in
            let path = try one(values)
            do { settings.gateway.keys = try KeyList(file: FilePath(path)) } catch {
                throw Refusal("\(path): \(error)")
            }
        },
        Entry(
            name: "accounts", standard: "callers",
            help:
                "Whose accounts requests are charged to in the daemon: each caller's own, for which the daemon's gateway_user must be the gateway's user (callers); or the gateway's, for all alike (gateway)."
        ) { settings, values throws(Refusal) in
            switch try one(values) {
            case "callers": settings.gateway.speaksForCallers = true
            case "gateway": settings.gateway.speaksForCallers = false
            default: throw Refusal("'\(values[0])'; callers or gateway is wanted")
            }
        },
        Entry(
            name: "embedding-tokens", standard: "no",
            help: "Take token numbers for embeddings, besides text."
        ) { settings, values throws(Refusal) in
            settings.gateway.takesEmbeddingTokens = try flag(values)
        },
        Entry(name: "max-body", standard: "4194304", help: "The most bytes of a request's body.") {
            settings, values throws(Refusal) in
            settings.gateway.bodyBytes = try whole(values, 1024...(64 << 20))
            settings.gateway.allBodyBytes = max(32 << 20, settings.gateway.bodyBytes)
        },
        Entry(
            name: "max-connections", standard: "256",
            help: "Connections that are open at once; those beyond wait to be accepted."
        ) { settings, values throws(Refusal) in
            settings.maxConnections = try whole(values, 1...65536)
        },
        Entry(
            name: "timeout", standard: "the daemon's",
            help: "Seconds that an answer may take, waiting included."
        ) { settings, values throws(Refusal) in
            settings.gateway.timeout = .seconds(try whole(values, 1...86400))
        },
        Entry(
            name: "drain-timeout", standard: "20",
            help: "Seconds that requests may go on when the gateway is stopped."
        ) { settings, values throws(Refusal) in
            settings.drainTime = .seconds(try whole(values, 0...3600))
        },
        Entry(
            name: "log-level", standard: "info",
            help: "The least important messages to log: \(levels)."
        ) { settings, values throws(Refusal) in
            guard let level = Logger.Level(rawValue: try one(values)) else {
                throw Refusal("'\(values[0])'; allowed: \(levels)")
            }
            settings.logLevel = level
        },
    ]

    private static let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")

    // MARK: Values

    private static func one(_ values: [String]) throws(Refusal) -> String {
        guard values.count == 1 else { throw Refusal("\(values.count) values where one belongs") }
        return values[0]
    }

    private static func whole(
        _ values: [String], _ range: ClosedRange<Int>
    ) throws(Refusal) -> Int {
        let text = try one(values)
        guard let number = Int(text), range.contains(number) else {
            throw Refusal(
                "'\(text)'; a whole number is wanted, \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    private static func flag(_ values: [String]) throws(Refusal) -> Bool {
        switch try one(values) {
        case "yes", "true", "on", "1": return true
        case "no", "false", "off", "0": return false
        default: throw Refusal("'\(values[0])'; yes or no is wanted")
        }
    }

    static func address(_ text: String) throws(Refusal) -> Listener.Address {
        if text.hasPrefix("unix:") || text.hasPrefix("/") {
            let path = text.hasPrefix("unix:") ? String(text.dropFirst(5)) : text
            guard path.hasPrefix("/") else { throw Refusal("'\(text)': the path must be absolute") }
            return .path(path, mode: 0o660)
        }
        guard let colon = text.lastIndex(of: ":"),
            let port = UInt16(text[text.index(after: colon)...])
        else { throw Refusal("'\(text)'; write ADDRESS:PORT or unix:PATH") }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        if host == "localhost" { host = "127.0.0.1" }
        guard isLoopback(host) else {
            throw Refusal(
                "'\(text)' is no loopback address: the gateway speaks without encryption. Let a reverse proxy speak to the network, and put its name into hosts"
            )
        }
        return .tcp(host: host, port: Int(port))
    }

    private static func isLoopback(_ host: String) -> Bool {
        var four = in_addr()
        var six = in6_addr()
        if inet_pton(AF_INET, host, &four) == 1 { return four.s_addr.bigEndian >> 24 == 127 }
        guard inet_pton(AF_INET6, host, &six) == 1 else { return false }
        return withUnsafeBytes(of: &six) { $0.dropLast().allSatisfy { $0 == 0 } && $0.last == 1 }
    }
}
