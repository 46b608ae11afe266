// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import TestSupport
import Testing

@testable import MMFree
@testable import mmfreectl

@Suite("watching the daemon")
struct WatchTests {
    private func status(
        uptime: Duration = .seconds(10), finished tokens: UInt64 = 0,
        _ requests: [DaemonStatus.Request]
    ) -> DaemonStatus {
        DaemonStatus(
            version: "0.1.0", state: "serving", uptime: uptime, slots: 8, active: requests.count,
            queued: 0, requests: requests, finishedRequests: 0, refusedRequests: 0,
            promptTokens: 0, completionTokens: tokens, residentBytes: 600_000_000, models: 1,
            privateBytes: 12_000_000, descriptors: 14, cachedTokens: 0, preemptions: 0)
    }

    private func request(
        _ id: String, phase: String = "decode", prompt: Int = 10, read: Int = 10, written: Int,
        decoding: Duration = .zero
    ) -> DaemonStatus.Request {
        DaemonStatus.Request(
            requestID: id, method: "Generate", model: "m", uid: 1000, pid: 7, phase: phase,
            promptTokens: prompt, completionTokens: written, age: .seconds(3), cachedTokens: 4,
            readTokens: read, decoding: decoding, preemptions: 0)
    }

    private func activity(
        _ status: DaemonStatus, at time: ContinuousClock.Instant = .now, since: Activity? = nil
    ) -> Activity {
        Activity(status, at: time, since: since) { uid, _ in ("user\(uid)", "app.service") }
    }

    @Test("a request's speed is its mean at first, then what came since the last look")
    func speed() {
        let start = ContinuousClock.now
        let first = activity(
            status([request("r1", written: 41, decoding: .seconds(4))]), at: start)
        #expect(first.rows[0].tokensPerS == 10)
        #expect(first.writing == nil)
        let second = activity(
            status([
                request("r1", written: 101, decoding: .seconds(6)),
                request("r2", phase: "prefill", prompt: 900, read: 300, written: 0),
            ]), at: start + .seconds(2), since: first)
        #expect(second.rows[0].tokensPerS == 30)
        #expect(second.rows[1].tokensPerS == nil)
        #expect(second.writing == 30 && second.reading == 150)
        #expect(second.rows[1].user == "user1000" && second.rows[1].unit == "app.service")
        // r1 has finished: its tokens are in the total now.
        let third = activity(
            status(
                finished: 105, [request("r2", phase: "prefill", prompt: 900, read: 500, written: 0)]
            ), at: start + .seconds(4), since: second)
        #expect(third.rows[0].tokensPerS == 100)
        #expect(third.writing == 2)
    }

    @Test("the table has an account, a name, a process, its unit, and how far the request is")
    func table() {
        let table = activity(
            status([
                request("r1", phase: "prefill", prompt: 900, read: 300, written: 0),
                request("r2", written: 3, decoding: .seconds(1)),
            ])
        ).table
        #expect(
            table.rows[1] == [
                "1000", "user1000", "7", "app.service", "r1", "Generate", "m", "prefill",
                "300/900", "4", "0", "-", "3.0 s",
            ])
        #expect(table.rows[2][8...11] == ["10", "4", "3", "2.0"])
    }

    @Test(
        "the unit of a control group",
        arguments: [
            ("/system.slice/nginx.service", "nginx.service"),
            ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
            ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope",
                "vte-spawn-1.scope"
            ),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", "init.scope"),
            ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service"),
            ("/system.slice/docker.service/abc/def", "docker.service"),
            ("/system.slice/_cpu.service", "cpu.service"), ("/init.scope", "init.scope"),
            ("/", nil), ("/docker/0123", nil), ("/system.slice", nil), ("", nil),
        ] as [(String, String?)])
    func unit(_ group: String, _ unit: String?) {
        #expect(ProcessOwner.unit(inGroup: group[...]) == unit)
    }

    @Test(
        "no line is wider, and no screen higher, than the terminal",
        arguments: [
            (24, 80), (6, 20), (1, 1), (3, 200),
        ])
    func screen(_ rows: Int, _ columns: Int) {
        var screen = TopScreen()
        screen.activity = activity(status((0..<50).map { request("r\($0)\u{1B}[2J", written: 1) }))
        screen.problem = "the daemon\nis gone"
        let lines = screen.lines(rows: rows, columns: columns)
        #expect(lines.count <= rows)
        #expect(lines.allSatisfy { $0.count <= columns && !$0.contains("\u{1B}") })
        #expect(lines.last.map { "q quits".hasPrefix($0) } == true)
    }

    @Test(
        "times as people say them",
        arguments: [
            (59.9, "59 s"), (60, "1 min"), (11100, "3 h 5 min"), (187_200, "2 d 4 h"),
        ] as [(Double, String)])
    func time(_ seconds: Double, _ text: String) { #expect(TopScreen.time(seconds) == text) }

    @Test("ps, status and metrics tell of a request while it is answered")
    func verbs() throws {
        try Program.withDaemon { environment in
            let busy = try PseudoTerminal(
                ["generate", "-n", "4000", "--logit-bias", "2=-1000", "Once"],
                environment: environment)
            try busy.wait(for: " ")
            struct Row: Decodable {
                let account: UInt32
                let pid: Int32
                let user, phase, model: String
            }
            var rows: [Row] = []
            for _ in 0..<100 where rows.first?.phase != "decode" {
                let result = try Program.run(["ps", "--json"], environment: environment)
                #expect(result.status == 0)
                rows = try result.lines.map {
                    try JSONDecoder().decode(Row.self, from: Data($0.utf8))
                }
            }
            let row = try #require(rows.first)
            #expect(row.account == getuid() && row.pid == busy.pid && row.model == "demo")
            let table = try Program.run(["ps"], environment: environment)
            #expect(table.lines.count == 2)
            #expect(table.lines[0].hasPrefix("ACCOUNT  USER"))
            #expect(
                try Program.run(["status"], environment: environment).output
                    .contains("of them cached"))
            busy.signal(SIGINT)
            _ = try busy.end()
            let text = try Program.run(["metrics"], environment: environment)
            #expect(try Exposition(text.output).value("mmfreed_slots") == 8)
        }
    }

    @Test("a textfile is readable by all, replaced as a whole, and named as node_exporter wants")
    func textfile() throws {
        try Program.withDaemon { environment in
            try Program.withDirectory { directory in
                let path = directory + "/mmfreed.prom"
                try Data("old".utf8).write(to: URL(fileURLWithPath: path))
                let result = try Program.run(
                    ["metrics", "--textfile", path], environment: environment,
                    shell: #"umask 022; exec "$0" "$@""#)
                #expect(result.status == 0 && result.output.isEmpty, "\(result.errors)")
                let text = try String(contentsOfFile: path, encoding: .utf8)
                #expect(try Exposition(text).value("mmfreed_models") == 1)
                let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions]
                #expect(mode as? Int == 0o644)
                #expect(try FileManager.default.contentsOfDirectory(atPath: directory).count == 1)
            }
            let wrong = try Program.run(
                ["metrics", "--textfile", "/tmp/x.txt"], environment: environment)
            #expect(wrong.status == 64 && wrong.errors.contains(".prom"))
        }
        let none = try Program.run(
            ["metrics", "--textfile", "/proc/x.prom"], environment: ["MMFREED_SOCKET": "/proc/s"])
        #expect(none.status != 0)
    }

    @Test(
        "top shows the load, follows the terminal's size, and leaves it as it was, however it ends")
    func top() throws {
        try Program.withDaemon { environment in
            for way in ["q", "\u{3}", "TERM", "HUP", "INT"] {
                let top = try PseudoTerminal(["top", "-d", "0.1"], environment: environment)
                try top.wait(for: "\u{1B}[?1049h")
                try top.wait(for: "mmfreed ")
                try top.wait(for: "q quits")
                #expect(top.settings != top.before)
                top.resize(5, 12)
                // A frame that was begun before may still come.
                try top.wait(for: "\u{1B}[J")
                try top.wait(for: "\u{1B}[J")
                let frame = try top.wait(for: "\u{1B}[J")
                let lines = frame.replacing("\u{1B}[H", with: "").replacing("\u{1B}[J", with: "")
                    .replacing("\u{1B}[K", with: "").split(
                        separator: "\r\n", omittingEmptySubsequences: false)
                #expect(lines.count == 5 && lines.allSatisfy { $0.count <= 12 }, "\(lines)")
                let number = ["TERM": SIGTERM, "HUP": SIGHUP, "INT": SIGINT][way]
                if let number { top.signal(number) } else { top.send(way) }
                #expect(try top.end() == number.map { 128 + $0 } ?? 0, "\(way)")
                #expect(top.output.hasSuffix("\u{1B}[?25h\u{1B}[?1049l"), "\(way)")
                #expect(top.settings == top.before, "\(way)")
            }
        }
    }

    @Test("a stopped top gives the terminal back, and takes it again when it goes on")
    func stopped() throws {
        try Program.withDaemon { environment in
            let top = try PseudoTerminal(["top", "-d", "0.1"], environment: environment)
            try top.wait(for: "q quits")
            top.send("\u{1A}")
            try top.wait(for: "\u{1B}[?1049l")
            try waitUntil { top.isStopped }
            #expect(top.settings == top.before)
            top.signal(SIGCONT)
            try top.wait(for: "\u{1B}[?1049h")
            try top.wait(for: "q quits")
            top.send("q")
            #expect(try top.end() == 0)
            #expect(top.settings == top.before)
        }
    }

    @Test("top goes on when the daemon is away, and wants a terminal")
    func away() throws {
        var top: PseudoTerminal?
        try Program.withDaemon { environment in
            top = try PseudoTerminal(["top", "-d", "0.1"], environment: environment)
            try top?.wait(for: "q quits")
            let piped = try Program.run(["top"], environment: environment)
            #expect(piped.status == 64 && piped.errors.contains("terminal"))
        }
        try top?.wait(for: "no answer: ")
        top?.send("q")
        #expect(try top?.end() == 0)
    }
}
