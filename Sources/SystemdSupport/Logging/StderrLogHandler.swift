// SPDX-License-Identifier: Apache-2.0

import Glibc
package import Logging

/// Writes lines to standard error: for people at a terminal, or, with "<N>" before them, for a service manager.
package struct StderrLogHandler: LogHandler {
    package var logLevel: Logger.Level = .info
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let label: String
    private let hasPriorities: Bool

    /// - Parameter hasPriorities: whether each line begins with its severity; see sd-daemon(3).
    package init(label: String, hasPriorities: Bool) {
        self.label = label
        self.hasPriorities = hasPriorities
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        StandardError.write(line(of: event))
    }

    func line(of event: LogEvent) -> String {
        var line = hasPriorities ? "<\(event.level.priority)>" : "\(label): "
        if !hasPriorities, event.level >= .warning { line += "\(event.level): " }
        // A record is a line, whatever was in the message.
        line += event.message.description.harmless()
        let all = allMetadata(metadata, metadataProvider, event)
        for (key, value) in all.sorted(by: { $0.key < $1.key }) where key != "message-id" {
            line += " \(key)=\(value.description.harmless())"
        }
        return line + "\n"
    }
}

/// Where log records go.
package enum LogTarget: Sendable {
    case journal
    /// Standard error, read by a service manager.
    case service
    case terminal

    /// The journal if standard error leads there (systemd says so in `JOURNAL_STREAM`), so that a redirected standard error is
    /// respected.
    package static func chosen() -> LogTarget {
        var status = stat()
        guard fstat(2, &status) == 0 else { return .terminal }
        if let stream = getenv("JOURNAL_STREAM").map({ String(cString: $0) }) {
            return matches(stream, device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
                ? .journal : .terminal
        }
        return getenv("INVOCATION_ID") != nil && isatty(2) == 0 ? .service : .terminal
    }

    /// Whether `stream`, "DEVICE:INODE" in decimal, is this file.
    static func matches(_ stream: String, device: UInt64, inode: UInt64) -> Bool {
        let parts = stream.split(separator: ":", omittingEmptySubsequences: false)
        return parts.count == 2 && UInt64(parts[0]) == device && UInt64(parts[1]) == inode
    }

    package func handler(label: String) -> any LogHandler {
        switch self {
        case .journal: JournalLogHandler(label: label)
        case .service: StderrLogHandler(label: label, hasPriorities: true)
        case .terminal: StderrLogHandler(label: label, hasPriorities: false)
        }
    }
}

enum StandardError {
    /// One write a line, so that lines of several threads do not mix.
    static func write(_ line: String) {
        var line = line
        line.withUTF8 { _ = Glibc.write(2, $0.baseAddress, $0.count) }
    }
}
