// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import mmfreectl

@Suite("Passages of a text")
struct PassageTests {
    private func passages(_ text: String) -> [String] {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)[...]
        return Passage.all(of: "f") { lines.popFirst().map(String.init) }.map {
            "\($0.line) \($0.text)"
        }
    }

    @Test("are its paragraphs, each with the line it begins at")
    func paragraphs() {
        #expect(passages("a\nb\n\n \t\n\nc\nd\n") == ["1 a\nb", "6 c\nd"])
        #expect(passages("") == [] && passages("\n\n") == [])
    }

    @Test("a long paragraph is cut between lines, a long line at a space, a long word anywhere")
    func long() {
        let line = String(repeating: "x", count: 900)
        #expect(
            passages([line, line, line].joined(separator: "\n"))
                == ["1 \(line)\n\(line)", "3 \(line)"])
        let words = String(repeating: "word ", count: 500)
        #expect(passages(words).map(\.utf8.count) == [2002, 502])
        let word = String(repeating: "é", count: 1500)
        #expect(passages(word).map(\.utf8.count) == [2002, 1002])
        #expect(passages(word).joined().filter { $0 == "é" }.count == 1500)
    }
}
