// SPDX-License-Identifier: Apache-2.0

import Engine
import Testing

@Suite("Text as it comes")
struct DetokenizerTests {
    private let tokenizer: Tokenizer

    init() throws { tokenizer = try TokenizerCaseFile.tokenizer() }

    /// The token of a byte, in the demo's vocabulary.
    private func byte(_ byte: UInt8) -> UInt32 { UInt32(byte) + 3 }

    private func stream(_ ids: [UInt32], continuing: Bool = false) -> [String] {
        var stream = Detokenizer(tokenizer, continuing: continuing)
        return ids.map { stream.append($0) } + [stream.finish()]
    }

    @Test("a character in several byte tokens comes whole, with the last of them")
    func whole() {
        let ids = Array("é🙂".utf8).map(byte)
        #expect(stream(ids) == ["", "é", "", "", "", "🙂", ""])
    }

    @Test("a character cut short is one U+FFFD at the end")
    func cutShort() {
        #expect(stream([0xF0, 0x9F, 0x99].map(byte)) == ["", "", "", "\u{FFFD}"])
        #expect(stream([0x41, 0xE2].map(byte)) == ["A", "", "\u{FFFD}"])
    }

    @Test("what cannot be completed is not held back")
    func notHeld() {
        // Overlong, surrogate, beyond U+10FFFF, never a lead byte, a lone continuation.
        #expect(stream([0xE0, 0x80].map(byte)) == ["", "\u{FFFD}\u{FFFD}", ""])
        #expect(stream([0xED, 0xA0].map(byte)) == ["", "\u{FFFD}\u{FFFD}", ""])
        #expect(stream([0xF4, 0x90].map(byte)) == ["", "\u{FFFD}\u{FFFD}", ""])
        #expect(stream([0xC0, 0xFF].map(byte)) == ["\u{FFFD}", "\u{FFFD}", ""])
        #expect(stream([0x80, 0x41].map(byte)) == ["\u{FFFD}", "A", ""])
        #expect(stream([0xE2, 0x82].map(byte) + [262]) == ["", "", "\u{FFFD} the", ""])
    }

    @Test("the first space of a text is dropped, of a text's continuation it is kept")
    func leadingSpace() {
        #expect(stream([1, 262, 262]) == ["", "the", " the", ""])
        #expect(stream([1, 262, 262], continuing: true) == ["", " the", " the", ""])
        #expect(tokenizer.decode([262], continuing: true) == " the")
        #expect(tokenizer.decode([262, 262]) == "the the")
    }

    @Test("all pieces together are the whole's text, whatever the bytes", arguments: 0..<20)
    func together(_ seed: UInt64) {
        var random = Randomness(seed: seed)
        let telling: [UInt8] = [
            0x20, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0, 0xE1,
            0xED,
            0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF,
        ]
        for _ in 0..<200 {
            let ids = (0..<Int(random.next() % 12)).map { _ in
                random.next() % 8 == 0
                    ? UInt32(random.next() % 4096)
                    : byte(telling[Int(random.next() % UInt64(telling.count))])
            }
            for continuing in [false, true] {
                let pieces = stream(ids, continuing: continuing)
                let whole = tokenizer.decode(ids, continuing: continuing)
                #expect(pieces.flatMap { Array($0.utf8) } == Array(whole.utf8), "\(ids)")
            }
        }
    }
}
