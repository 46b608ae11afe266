// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import TestSupport
import Testing

@testable import mmfreectl

@Suite("chat")
struct ChatTests {
    @Test(
        "lines are commands, turns, or parts of one",
        arguments: [
            ("/undo", .command(.undo)), ("/save a b.state", .command(.save("a b.state"))),
            ("/seed 7", .command(.seed(7))), ("/seed", .command(.seed(nil))),
            ("/temperature 0.5", .command(.temperature(0.5))), ("/tokens 9", .command(.tokens(9))),
            ("/fork", .command(.fork(""))), ("/fork tale", .command(.fork("tale"))),
            ("/restore", .command(.wrong("/restore needs a file"))),
            ("/tokens 0", .command(.wrong("/tokens needs a number above 0"))),
            ("/temperature x", .command(.wrong("/temperature needs a number from 0 to 100"))),
            ("/undo now", .command(.wrong("/undo takes nothing behind it"))),
            ("/nosuch", .command(.wrong("there is no /nosuch; /help shows what there is"))),
            ("//bin is a directory", .turn("/bin is a directory")), ("hello", .turn("hello")),
            ("", .nothing), ("  ", .nothing),
        ] as [(String, ChatInput.Result)])
    func lines(_ line: String, _ result: ChatInput.Result) {
        var input = ChatInput()
        #expect(input.take(line) == result)
        #expect(!input.isOpen)
    }

    @Test("a backslash and three quotes make turns of several lines")
    func several() {
        var input = ChatInput()
        #expect(input.take("one\\") == .more)
        #expect(input.isOpen)
        #expect(input.take("/two\\") == .more)
        #expect(input.take("three") == .turn("one\n/two\nthree"))
        #expect(input.take("\"\"\"") == .more)
        #expect(input.take("/undo is text here") == .more)
        #expect(input.take("") == .more)
        #expect(input.take("\"\"\"") == .turn("/undo is text here\n"))
        #expect(input.take("begun\\") == .more)
        #expect(input.end() == .turn("begun"))
        _ = input.take("dropped\\")
        input.drop()
        #expect(!input.isOpen)
        #expect(input.end() == .nothing)
    }

    @Test("a template puts turns before the model, and refuses what it does not know")
    func template() throws {
        let template = try TurnTemplate(
            "\n--- first\nYou are kind.\n\n--- turn\nUser: {prompt}\nBot:\n--- stop\nUser:\n--- stop\n###\n"
        )
        #expect(template.text("hi", isFirst: true) == "You are kind.\nUser: hi\nBot:")
        #expect(template.text("{prompt}", isFirst: false) == "User: {prompt}\nBot:")
        #expect(template.stops == ["User:", "###"])
        #expect(TurnTemplate.plain.text("hi", isFirst: true) == "hi")
        for (wrong, why) in [
            ("--- turn\nno place", "0 times"), ("--- turn\n{prompt}{prompt}", "2 times"),
            ("--- first\nx", "no section `--- turn`"),
            ("--- trun\n{prompt}", "'trun' is no section"),
            ("--- turn\n{prompt}\n--- turn\n{prompt}", "a second time"),
            ("x\n--- turn\n{prompt}", "line 1"),
            ("--- turn\n{prompt}\n--- stop\n", "empty stop"),
        ] {
            let error = #expect(throws: Failure.self) { try TurnTemplate(wrong) }
            #expect(error?.message.contains(why) == true, "\(wrong)")
        }
    }

    @Test("taking back and again goes through the sessions, and drops what nobody can reach")
    func history() {
        var history = ChatHistory("now", depth: 2)
        #expect(history.undo() == false)
        #expect(history.redo() == false)
        #expect(history.beginTurn(copy: "a") == [])
        #expect(history.beginTurn(copy: "b") == [])
        #expect(history.beginTurn(copy: "c") == ["a"])
        #expect(history.undo() == true)
        #expect(history.current == "c")
        #expect(history.undo() == true)
        #expect(history.current == "b")
        #expect(history.undo() == false)
        #expect(history.redo() == true)
        #expect(history.current == "c")
        #expect(Set(history.all) == ["now", "b", "c"])
        // A turn after going back: what was taken back is gone.
        #expect(history.beginTurn(copy: "d") == ["now"])
        #expect(history.redo() == false)
        #expect(history.replace(with: "restored") == ["b"])
        #expect(history.undo() == true)
        #expect(history.current == "c")
    }

    /// What a line is after keys, with | at the cursor; and what came of them.
    private func edit(_ keys: String) -> String {
        var editor = LineEditor()
        // Byte by byte, as slow terminals send them.
        for byte in keys.utf8 { _ = editor.take([byte]) }
        return String(editor.text[..<editor.cursor]) + "|" + String(editor.text[editor.cursor...])
    }

    @Test(
        "keys edit the line, by whole characters",
        arguments: [
            ("abc", "abc|"), ("ab\u{1}x", "x|ab"), ("ab\u{1B}[Dx", "ax|b"), ("abc\u{7F}", "ab|"),
            ("é€😀\u{7F}\u{7F}", "é|"), ("abc\u{1B}[D\u{1B}[D\u{B}", "a|"),
            ("one two\u{17}", "one |"),
            ("one two\u{15}", "|"), ("one\u{15}\u{19}\u{19}", "oneone|"),
            ("abc\u{1B}[H\u{1B}[3~", "|bc"),
            ("abc\u{1}\u{4}", "|bc"), ("one two\u{1B}[1;5D\u{1B}[1;5D", "|one two"),
            ("a\u{1B}[9999Zb", "ab|"), ("\u{1B}[200~a\rb\u{1B}[201~c", "a\nbc|"),
            ("a\u{0}\u{1F}b", "ab|"),
            ("e\u{301}\u{7F}", "|"), ("\u{1B}OHx", "x|"),
        ])
    func keys(_ keys: String, _ line: String) { #expect(edit(keys) == line) }

    @Test(
        "lines end with Enter, in an interrupt, or the end; the history holds them, and the draft")
    func ends() {
        var editor = LineEditor()
        var bytes = Array("one\rtwo\r".utf8)
        let (taken, first) = editor.take(bytes)
        #expect(taken == 4 && first == .line("one"))
        bytes.removeFirst(taken)
        #expect(editor.take(bytes).result == .line("two"))
        _ = editor.take(Array("dra\u{1B}[A".utf8))
        #expect(String(editor.text) == "two")
        _ = editor.take(Array("\u{1B}[A\u{1B}[A".utf8))
        #expect(String(editor.text) == "one")
        _ = editor.take(Array("\u{1B}[B\u{1B}[B".utf8))
        #expect(String(editor.text) == "dra")
        #expect(editor.take([3]).result == .interrupted)
        #expect(editor.text.isEmpty)
        #expect(editor.take([4]).result == .ended)
        #expect(editor.take([26]).result == .suspended)
    }

    @Test("bytes that are no text do no harm")
    func garbage() {
        var random = SeededGenerator(5)
        for _ in 0..<500 {
            var editor = LineEditor()
            for _ in 0..<50 {
                let bytes = (0..<Int.random(in: 1...8, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
                _ = editor.take(bytes)
                #expect((0...editor.text.count).contains(editor.cursor))
                _ = editor.drawing(prompt: "> ", columns: 20)
            }
        }
    }

    @Test("what is drawn fits the terminal, wide characters counted twice")
    func drawing() {
        var editor = LineEditor()
        _ = editor.take(Array("0123456789".utf8))
        #expect(editor.drawing(prompt: "> ", columns: 40) == "\r\u{1B}[K> 0123456789\r\u{1B}[12C")
        // Seven of ten fit beside the prompt and the cursor.
        #expect(editor.drawing(prompt: "> ", columns: 10) == "\r\u{1B}[K> 3456789\r\u{1B}[9C")
        editor.clear()
        _ = editor.take(Array("日本語".utf8))
        #expect(editor.drawing(prompt: "> ", columns: 40) == "\r\u{1B}[K> 日本語\r\u{1B}[8C")
        #expect(editor.drawing(prompt: "> ", columns: 7) == "\r\u{1B}[K> 本語\r\u{1B}[6C")
    }
}
