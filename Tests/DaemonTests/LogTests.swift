// SPDX-License-Identifier: Apache-2.0

import Logging
import Testing

@testable import SystemdSupport

@Suite struct LogTests {
    private func event(
        _ message: Logger.Message, _ level: Logger.Level = .info, _ metadata: Logger.Metadata? = nil
    ) -> LogEvent {
        LogEvent(
            level: level, message: message, metadata: metadata, source: "Tests",
            file: "Tests/A.swift",
            function: "f(_:)", line: 7)
    }

    private func parts(_ format: LogFormat, _ event: LogEvent) -> [String] {
        let metadata = event.metadata ?? [:]
        return format.record(of: event, label: "mmfreed", metadata.sorted { $0.key < $1.key }).parts
    }

    @Test func metadataBecomesFieldsOfTheJournal() {
        let all = parts(
            .journal,
            event("two\nlines", .warning, ["message-id": "abc", "queue_ms": "3", "uid": "1001"]))
        #expect(
            all == [
                "MESSAGE=two\nlines", "PRIORITY=4", "SYSLOG_IDENTIFIER=mmfreed",
                "CODE_FILE=Tests/A.swift", "CODE_LINE=7", "CODE_FUNC=f(_:)",
                "MESSAGE_ID=abc", "MMF_QUEUE_MS=3", "MMF_UID=1001",
            ])
    }

    @Test("a prompt of any length is at most 64 KiB of the log")
    func longTexts() {
        let text = String(repeating: "é", count: 100_000)
        let fields = parts(.journal, event("\(text)", .info, ["k": "\(text)"]))
        for field in fields where field.hasPrefix("MESSAGE=") || field.hasPrefix("MMF_K=") {
            #expect(field.hasSuffix("é… (200000 bytes)"))
            #expect(field.utf8.count < LogFormat.textLimit + 64)
        }
    }

    @Test(
        "field names hold only what a journal takes",
        arguments: [
            ("request", "MMF_REQUEST"), ("a-b.c", "MMF_A_B_C"), ("é", "MMF___"), ("", "MMF_"),
            (String(repeating: "x", count: 99), "MMF_" + String(repeating: "X", count: 60)),
        ])
    func fieldNames(key: String, name: String) {
        #expect(LogFormat.fieldName(key) == name)
        #expect(name.utf8.count <= 64)
    }

    @Test(
        "a text from outside cannot act on a terminal",
        arguments: [
            ("\u{1B}[2J\u{7}", "\\u{1B}[2J\\u{7}"), ("a\rb\0c\u{7F}", "a\\u{D}b\\u{0}c\\u{7F}"),
            ("\u{9B}31m", "\\u{9B}31m"), ("a\u{2028}b\u{202E}c", "a\\u{2028}b\\u{202E}c"),
            ("é 漢字 👩‍💻 \\u", "é 漢字 👩‍💻 \\u"), ("a\r\nb", "a\\u{D} b"), ("", ""),
        ])
    func controls(text: String, shown: String) {
        let event = event("\(text)", .info, ["k": "\(text)"])
        #expect(parts(.terminal, event) == ["mmfreed: \(shown) k=\(shown)\n"])
        let inJournal = shown.replacing(" b", with: "\nb")
        let fields = parts(.journal, event)
        #expect(fields.contains("MESSAGE=" + inJournal) && fields.contains("MMF_K=" + inJournal))
        #expect(Notifier.message(nil, text) == "STATUS=\(shown)")
    }

    @Test func aRecordIsALine() {
        let event = event("a\n<0>b", .error, ["k": "v\nw", "message-id": "x"])
        #expect(parts(.terminal, event) == ["mmfreed: error: a <0>b k=v w\n"])
        #expect(parts(.terminal, self.event("a", .info)) == ["mmfreed: a\n"])
    }

    @Test(
        "the journal is taken only when standard error is that very stream",
        arguments: [
            ("8:1234", true), ("8:1235", false), ("9:1234", false), ("8", false), ("", false),
            ("8:1234:1", false), ("x:y", false),
        ])
    func journalStream(stream: String, isIt: Bool) {
        #expect(LogFormat.matches(stream, device: 8, inode: 1234) == isIt)
    }

    @Test func aStatusCannotSayMoreThanAStatus() {
        #expect(Notifier.message("READY=1", "a\nSTOPPING=1") == "READY=1\nSTATUS=a STOPPING=1")
        #expect(Notifier.message(nil, nil) == nil)
    }

    @Test func microsecondsDoNotOverflow() {
        #expect(Duration.seconds(3).microseconds == 3_000_000)
        #expect(Duration.milliseconds(1500).microseconds == 1_500_000)
        #expect(Duration.seconds(Int64.max).microseconds == .max)
    }

    @Test func prioritiesAreSyslogs() {
        #expect(Logger.Level.allCases.map(\.priority) == [7, 7, 6, 5, 4, 3, 2])
    }
}
