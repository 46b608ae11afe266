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

    @Test func metadataBecomesFieldsOfTheJournal() {
        var handler = JournalLogHandler(label: "mmfreed")
        handler[metadataKey: "uid"] = "1000"
        let fields = handler.fields(
            of: event(
                "two\nlines", .warning, ["message-id": "abc", "queue_ms": "3", "uid": "1001"]))
        let all = Dictionary(uniqueKeysWithValues: fields.map { ($0.name, $0.value) })
        #expect(
            all == [
                "MESSAGE": "two\nlines", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "mmfreed",
                "CODE_FILE": "Tests/A.swift", "CODE_LINE": "7", "CODE_FUNC": "f(_:)",
                "MESSAGE_ID": "abc", "MMF_QUEUE_MS": "3", "MMF_UID": "1001",
            ])
    }

    @Test(
        "field names hold only what a journal takes",
        arguments: [
            ("request", "MMF_REQUEST"), ("a-b.c", "MMF_A_B_C"), ("é", "MMF___"), ("", "MMF_"),
            (String(repeating: "x", count: 99), "MMF_" + String(repeating: "X", count: 60)),
        ])
    func fieldNames(key: String, name: String) {
        #expect(JournalLogHandler.fieldName(key) == name)
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
        let line = StderrLogHandler(label: "l", hasPriorities: false).line(of: event)
        #expect(line == "l: \(shown) k=\(shown)\n")
        let fields = JournalLogHandler(label: "l").fields(of: event)
        let inJournal = shown.replacing(" b", with: "\nb")
        #expect(
            fields.filter { ["MESSAGE", "MMF_K"].contains($0.name) }.map(\.value) == [
                inJournal, inJournal,
            ])
        #expect(Notifier.message(nil, text) == "STATUS=\(shown)")
    }

    @Test func aRecordIsALine() {
        let service = StderrLogHandler(label: "mmfreed", hasPriorities: true)
        #expect(
            service.line(of: event("a\n<0>b", .error, ["k": "v\nw", "message-id": "x"]))
                == "<3>a <0>b k=v w\n")
        let terminal = StderrLogHandler(label: "mmfreed", hasPriorities: false)
        #expect(terminal.line(of: event("a", .info)) == "mmfreed: a\n")
        #expect(terminal.line(of: event("a", .warning)) == "mmfreed: warning: a\n")
    }

    @Test(
        "the journal is taken only when standard error is that very stream",
        arguments: [
            ("8:1234", true), ("8:1235", false), ("9:1234", false), ("8", false), ("", false),
            ("8:1234:1", false), ("x:y", false),
        ])
    func journalStream(stream: String, isIt: Bool) {
        #expect(LogTarget.matches(stream, device: 8, inode: 1234) == isIt)
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
