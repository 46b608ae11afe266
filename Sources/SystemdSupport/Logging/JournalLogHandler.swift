// SPDX-License-Identifier: Apache-2.0

import CSystemd
import Glibc
package import Logging

/// Writes to the journal with every piece of metadata as a field of its own, for `journalctl MMF_REQUEST=…`.
package struct JournalLogHandler: LogHandler {
    package var logLevel: Logger.Level = .info
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let label: String

    package init(label: String) { self.label = label }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        Self.send(fields(of: event))
    }

    func fields(of event: LogEvent) -> [(name: String, value: String)] {
        var fields: [(name: String, value: String)] = [
            ("MESSAGE", event.message.description.harmless(keepingLines: true)),
            ("PRIORITY", "\(event.level.priority)"),
            ("SYSLOG_IDENTIFIER", label), ("CODE_FILE", event.file),
            ("CODE_LINE", "\(event.line)"), ("CODE_FUNC", event.function),
        ]
        let all = allMetadata(metadata, metadataProvider, event)
        for (key, value) in all.sorted(by: { $0.key < $1.key }) {
            fields.append((Self.fieldName(key), value.description.harmless(keepingLines: true)))
        }
        return fields
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

    private static func send(_ fields: [(name: String, value: String)]) {
        var bytes: [UInt8] = []
        var ends: [Int] = []
        for field in fields {
            bytes += field.name.utf8
            bytes.append(UInt8(ascii: "="))
            bytes += field.value.utf8
            ends.append(bytes.count)
        }
        let result = bytes.withUnsafeMutableBytes { buffer in
            var start = 0
            let parts = ends.map { end in
                defer { start = end }
                return iovec(
                    iov_base: buffer.baseAddress.map { $0 + start }, iov_len: end - start)
            }
            return sd_journal_sendv(parts, Int32(parts.count))
        }
        // A journal that does not listen is 0; what is left are records it refuses.
        if result < 0 { StandardError.write("<3>the journal refused a record: errno \(-result)\n") }
    }
}

/// What a record says of itself goes before what the provider says, and that before what the logger says.
func allMetadata(
    _ own: Logger.Metadata, _ provider: Logger.MetadataProvider?, _ event: LogEvent
) -> Logger.Metadata {
    var all = own
    if let provider { all.merge(provider.get()) { $1 } }
    if let metadata = event.metadata { all.merge(metadata) { $1 } }
    return all
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
