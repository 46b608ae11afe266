// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import MMFree
import Testing

/// mmfreectl chat with a daemon, on a terminal and in a pipe.
@Suite("mmfreectl chat")
struct ChatProgramTests {
    private let greedy = ["chat", "--temperature", "0", "-n", "12", "--plain"]

    private func generate(_ text: String, _ environment: [String: String]) throws -> String {
        try Program.run(
            ["generate", "--temperature", "0", "-n", "12", text], environment: environment
        ).output
    }

    private func sessions(_ environment: [String: String]) throws -> [Substring] {
        try Program.run(["session", "list", "--json"], environment: environment).lines
    }

    @Test("in a pipe every line is a turn, the first as generate has it, and no session is left")
    func pipe() throws {
        try Program.withDaemon { environment in
            let result = try Program.run(
                greedy, input: Array("Once upon a time\nand then\n".utf8), environment: environment)
            #expect(result.status == 0, "\(result.errors)")
            let first = try generate("Once upon a time", environment)
            #expect(result.output.hasPrefix(first) && result.output.utf8.count > first.utf8.count)
            #expect(try sessions(environment).isEmpty)
            // The same conversation gives the same answer; one that begins with the second turn another.
            let again = try Program.run(
                greedy, input: Array("Once upon a time\nand then\n".utf8), environment: environment)
            #expect(again.output == result.output)
            let other = try Program.run(
                greedy, input: Array("and then\n".utf8), environment: environment)
            #expect(!result.output.hasSuffix(other.output))
        }
    }

    @Test("undo is exact: the turn that is said again has the same answer, and redo has the rest")
    func undo() throws {
        try Program.withDaemon { environment in
            func answers(_ lines: String) throws -> String {
                let result = try Program.run(
                    greedy, input: Array(lines.utf8), environment: environment)
                #expect(result.status == 0, "\(result.errors)")
                return result.output
            }
            let straight = try answers("Once\nthere was\nand\n")
            let second = try answers("Once\nthere was\n")
            let third = straight.dropFirst(second.count)
            #expect(
                try answers("Once\nsomething else\n/undo\nthere was\nand\n").hasSuffix(
                    straight.dropFirst(try answers("Once\n").count)))
            #expect(try answers("Once\nthere was\n/undo\n/redo\nand\n") == straight)
            #expect(
                try answers("Once\nthere was\n/undo\n/undo\n/redo\n/redo\nand\n").hasSuffix(third))
        }
    }

    @Test("a conversation is saved, and goes on from the file with the same bits")
    func save() throws {
        try Program.withDaemon { environment in
            try Program.withDirectory { directory in
                let file = directory + "/story.state"
                let whole = try Program.run(
                    greedy, input: Array("Once\n/save \(file)\nthere was\n".utf8),
                    environment: environment)
                #expect(whole.status == 0, "\(whole.errors)")
                let rest = try Program.run(
                    greedy + ["--restore", file], input: Array("there was\n".utf8),
                    environment: environment)
                #expect(rest.status == 0, "\(rest.errors)")
                #expect(!rest.output.isEmpty && whole.output.hasSuffix(rest.output))
                let command = try Program.run(
                    greedy, input: Array("/restore \(file)\nthere was\n".utf8),
                    environment: environment)
                #expect(command.output == rest.output)
                let taken = try Program.run(
                    greedy, input: Array("/save \(file)\n".utf8), environment: environment)
                #expect(taken.status == 73)
            }
        }
    }

    @Test("on a terminal Ctrl-C stops the answer and not the program; what was answered is kept")
    func interrupt() throws {
        try Program.withDaemon(["--set", "max_tokens=60000"]) { environment in
            let chat = try PseudoTerminal(
                [
                    "chat", "--plain", "--temperature", "0", "-n", "50000", "--logit-bias",
                    "2=-1000",
                ],
                environment: environment)
            try chat.wait(for: "> ")
            chat.send("Once upon\u{1B}[D\u{1B}[Dx\u{7F}\u{5} a time\r")
            try chat.wait(for: "there")
            chat.send("\u{3}")
            try chat.wait(for: "(stopped; ")
            try chat.wait(for: "> ")
            chat.send("/tokens 5\r")
            try chat.wait(for: "> ")
            chat.send("and\r")
            try chat.wait(for: "(cut at its limit; ")
            try chat.wait(for: "> ")
            chat.send("/undo\r")
            try chat.wait(for: "(back: ")
            try chat.wait(for: "> ")
            // The history, and an end.
            chat.send("\u{10}")
            try chat.wait(for: "/undo")
            chat.send("\u{3}")
            // The line is drawn empty before it is given up; what is typed meanwhile belongs to no line.
            try chat.wait(for: "\u{1B}[?2004h")
            try chat.wait(for: "> ")
            chat.send("\u{4}")
            let status = try chat.end()
            #expect(status == 0, "\(chat.output.suffix(400).debugDescription)")
            #expect(chat.settings == chat.before)
            #expect(try sessions(environment).isEmpty)
        }
    }

    @Test("mistakes are named and the chat goes on; in a pipe it ends")
    func mistakes() throws {
        try Program.withDaemon { environment in
            let chat = try PseudoTerminal(["chat"], environment: environment)
            for (line, answer) in [
                ("/nosuch", "there is no /nosuch"), ("/undo", "no turn to take back"),
                ("/restore /nonexistent", "/nonexistent"), ("/help", "/save FILE"),
            ] {
                try chat.wait(for: "> ")
                chat.send(line + "\r")
                try chat.wait(for: answer)
            }
            chat.send("/quit\r")
            #expect(try chat.end() == 0)
            let piped = try Program.run(
                ["chat"], input: Array("/nosuch\n".utf8), environment: environment)
            #expect(piped.status == 64 && piped.errors.contains("/nosuch"))
            #expect(try sessions(environment).isEmpty)
        }
    }

    @Test("a template beside the model is used, another one by its flag")
    func template() throws {
        try Program.withDirectory { directory in
            try FileManager.default.copyItem(
                atPath: Program.demo, toPath: directory + "/tale.gguf")
            try Data("--- turn\nOnce upon a {prompt}\n".utf8).write(
                to: URL(fileURLWithPath: directory + "/tale.chat"))
            try Program.withDaemon(models: directory) { environment in
                let expected = try generate("Once upon a time", environment)
                let line = ["chat", "--temperature", "0", "-n", "12"]
                let beside = try Program.run(
                    line, input: Array("time\n".utf8), environment: environment)
                #expect(beside.output == expected, "\(beside.errors)")
                try Data("--- turn\nOnce {prompt} a time\n".utf8).write(
                    to: URL(fileURLWithPath: directory + "/my.template"))
                let given = try Program.run(
                    line + ["--template", directory + "/my.template"], input: Array("upon\n".utf8),
                    environment: environment)
                #expect(given.output == expected)
                try Data("--- turn\nnothing\n".utf8).write(
                    to: URL(fileURLWithPath: directory + "/tale.chat"))
                let wrong = try Program.run(
                    line, input: Array("x\n".utf8), environment: environment)
                #expect(wrong.status == 65 && wrong.errors.contains("tale.chat"))
            }
        }
    }
}
