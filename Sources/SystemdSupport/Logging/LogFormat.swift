// SPDX-License-Identifier: Apache-2.0

import CSystemd
import Glibc
import Logging

/// A record, ready to be written: a journal's fields, "NAME=value" each, or one line.
package struct LogRecord: Sendable, Equatable {
    let parts: [String]
    let byteCount: Int

    init(_ parts: [String]) {
        self.parts = parts
        byteCount = parts.reduce(0) { $0 + $1.utf8.count }
    }
}

/// Where records go, and how they look there.
package enum LogFormat: Sendable {
    /// The journal, with every piece of metadata as a field of its own, for `journalctl MMF_REQUEST=…`.
    case journal
    /// Lines on standard error.
    case terminal

    /// The journal if standard error leads there (systemd says so in `JOURNAL_STREAM`): a redirected standard error is
    /// respected.
    package static func chosen() -> LogFormat {
        var status = stat()
        guard let stream = getenv("JOURNAL_STREAM"), fstat(2, &status) == 0 else {
            return .terminal
        }
        return matches(
            String(cString: stream), device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
            ? .journal : .terminal
    }

    /// Whether `stream`, "DEVICE:INODE" in decimal, is this file.
    static func matches(_ stream: String, device: UInt64, inode: UInt64) -> Bool {
        let parts = stream.split(separator: ":", omittingEmptySubsequences: false)
        return parts.count == 2 && UInt64(parts[0]) == device && UInt64(parts[1]) == inode
    }

    /// The most bytes of a text in a record; log_text can have prompts of megabytes.
    static let textLimit = 64 << 10

    func record(
        of event: LogEvent, label: String,
        _ metadata: [(key: String, value: Logger.Metadata.Value)]
    ) -> LogRecord {
        switch self {
        case .journal:
            var fields = [
                "MESSAGE=" + text(event.message.description), "PRIORITY=\(event.level.priority)",
                "SYSLOG_IDENTIFIER=" + label, "CODE_FILE=" + event.file,
                "CODE_LINE=\(event.line)", "CODE_FUNC=" + event.function,
            ]
            for (key, value) in metadata {
                fields.append(Self.fieldName(key) + "=" + text(value.description))
            }
            return LogRecord(fields)
        case .terminal:
            var line = label + ": "
            if event.level >= .warning { line += "\(event.level): " }
            line += text(event.message.description)
            for (key, value) in metadata where key != "message-id" {
                line += " \(key)=\(text(value.description))"
            }
            return LogRecord([line + "\n"])
        }
    }

    /// A record of the log itself.
    func notice(_ message: String) -> LogRecord {
        let event = LogEvent(
            level: .warning, message: "\(message)", metadata: nil, source: "SystemdSupport",
            file: #fileID, function: #function, line: #line)
        return record(of: event, label: "mmfreed", [])
    }

    /// A line is a line, whatever was in a message; the journal's fields may have several.
    private func text(_ text: String) -> String {
        var kept = text
        if text.utf8.count > Self.textLimit {
            kept = String(decoding: text.utf8.prefix(Self.textLimit), as: UTF8.self)
            kept += "… (\(text.utf8.count) bytes)"
        }
        switch self {
        case .journal: return kept.harmless(keepingLines: true)
        case .terminal: return kept.harmless()
        }
    }

    /// "message-id" is journald's own MESSAGE_ID; all else is ours, in the letters a field name may have, 64 of them.
    static func fieldName(_ key: String) -> String {
        if key == "message-id" { return "MESSAGE_ID" }
        let letters = key.utf8.prefix(60).map { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"): byte & 0xDF
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): byte
            default: UInt8(ascii: "_")
            }
        }
        return "MMF_" + String(decoding: letters, as: UTF8.self)
    }

    /// Writes a record; waits as long as the reader makes it wait.
    @Sendable func write(_ record: LogRecord) {
        switch self {
        case .journal: Self.send(record)
        case .terminal: for line in record.parts { Self.write(line) }
        }
    }

    private static func send(_ record: LogRecord) {
        var bytes: [UInt8] = []
        var ends: [Int] = []
        for part in record.parts {
            bytes += part.utf8
            ends.append(bytes.count)
        }
        let result = bytes.withUnsafeMutableBytes { buffer in
            var start = 0
            let fields = ends.map { end in
                defer { start = end }
                return iovec(
                    iov_base: buffer.baseAddress.map { $0 + start }, iov_len: end - start)
            }
            return sd_journal_sendv(fields, Int32(fields.count))
        }
        // A journal that does not listen is 0; what is left are records it refuses.
        if result < 0 { write("<3>the journal refused a record: errno \(-result)\n") }
    }

    /// One write a line, so that lines of several programs do not mix.
    private static func write(_ line: String) {
        var line = line
        line.withUTF8 { _ = Glibc.write(2, $0.baseAddress, $0.count) }
    }
}

extension Logger.Level {
    /// syslog's severity.
    var priority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
