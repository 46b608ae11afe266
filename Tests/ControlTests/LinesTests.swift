// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import mmfreectl

@Suite("lines of text")
struct LinesTests {
    /// - Parameter step: bytes that come at a time.
    private func lines(_ text: [UInt8], step: Int = 1000, limit: Int = 1000) throws -> [String] {
        var rest = text[...]
        var lines = Lines("in", limit: limit) { buffer in
            let part = rest.prefix(step)
            buffer.copyBytes(from: part)
            rest = rest.dropFirst(step)
            return part.count
        }
        var result: [String] = []
        while let line = try lines.next() { result.append(line) }
        return result
    }

    @Test(
        "LF and CR LF end a line; blank lines count; the last line needs no end",
        arguments: [
            ("", []), ("a", ["a"]), ("a\n", ["a"]), ("a\nb\n", ["a", "b"]),
            ("a\r\nb\r\n", ["a", "b"]), ("x\r\ny\r\nz", ["x", "y", "z"]),
            ("a\n\nb\n", ["a", "", "b"]), ("a\r\n\r\nb", ["a", "", "b"]), ("\n", [""]),
            ("\n\na", ["", "", "a"]), ("a\n\n", ["a", ""]), ("a\r\nb\nc\r\n", ["a", "b", "c"]),
            (" a \n\tb\n", [" a ", "\tb"]), ("\u{FEFF}a\nb", ["a", "b"]),
            ("a\n\u{FEFF}b", ["a", "\u{FEFF}b"]),
            ("e\u{301}\nü\u{2028}x\n", ["e\u{301}", "ü\u{2028}x"]),
        ])
    func split(_ text: String, _ expected: [String]) throws {
        for step in [1, 2, 3, 1000] {
            #expect(try lines(Array(text.utf8), step: step) == expected, "\(step) bytes at a time")
        }
    }

    @Test(
        "what is no line of UTF-8 text is refused by its number",
        arguments: [
            (Array("a\nb\0c\n".utf8), "in: line 2 holds a NUL byte"),
            (Array("a\nb\rc\n".utf8), "in: line 2 holds a carriage return that ends no line"),
            (Array("a\rb\r".utf8), "in: line 1 holds a carriage return"),
            (Array("a\nb\r".utf8), "in: line 2 holds a carriage return"),
            (Array("a\n".utf8) + [0xFF, 0x0A], "in: line 2 is not UTF-8 text"),
            ([0xFF, 0xFE, 0x61, 0x00], "in: line 1 holds a NUL byte"),
            ([0xC3, 0x0A], "in: line 1 is not UTF-8 text"),
            (Array("12345678901\n".utf8), "in: line 1 has more than 10 bytes"),
            (Array("1\n2\n12345678901".utf8), "in: line 3 has more than 10 bytes"),
            (Array(repeating: 0x61, count: 200), "in: line 1 has more than 10 bytes"),
        ])
    func refused(_ text: [UInt8], _ message: String) {
        for step in [1, 7, 1000] {
            do {
                _ = try lines(text, step: step, limit: 10)
                Issue.record("accepted")
            } catch {
                let failure = error as? Failure
                #expect(failure?.status == .data)
                #expect(failure?.message.hasPrefix(message) == true, "\(error)")
            }
        }
    }

    @Test("a daemon's complaint about an input names the line")
    func placed() {
        #expect(
            Embed.placed("input[3]: the text is empty", after: 64, "line")
                == "line 68: the text is empty")
        #expect(Embed.placed("model: say which", after: 64, "line") == "model: say which")
        #expect(Embed.placed("input[x]: y", after: 0, "line") == "input[x]: y")
    }
}
