// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import TestSupport
import Testing

@Suite("The tokenizer")
struct TokenizerTests {
    @Test("an empty text is no tokens, and only the beginning when asked for")
    func empty() throws {
        let tokenizer = try TokenizerCaseFile.tokenizer()
        #expect(tokenizer.encode("", addBOS: false) == [])
        #expect(tokenizer.encode("", addBOS: true) == [1])
        #expect(tokenizer.encode("", addBOS: true, parseSpecial: true) == [1])
    }

    @Test("special tokens in a text are characters unless the caller says otherwise")
    func specials() throws {
        let tokenizer = try TokenizerCaseFile.tokenizer()
        let plain = tokenizer.encode("<s>a</s>", addBOS: true)
        #expect(!plain.dropFirst().contains { tokenizer.isSpecial($0) })
        #expect(tokenizer.decode(plain) == "<s>a</s>")
        let parsed = tokenizer.encode("<s>a</s>", addBOS: false, parseSpecial: true)
        #expect(parsed == [1, 261, 2])
        #expect(tokenizer.decode(parsed) == "a")
        #expect(tokenizer.decode(parsed, skipSpecial: false) == "<s> a</s>")
    }

    @Test("bytes that are not UTF-8 are refused with their place")
    func invalid() throws {
        let tokenizer = try TokenizerCaseFile.tokenizer()
        #expect(throws: InvalidUTF8(offset: 2)) {
            try tokenizer.encode(utf8: [0x61, 0x62, 0xFF], addBOS: false)
        }
        #expect(throws: InvalidUTF8(offset: 1)) {
            try tokenizer.encode(utf8: [0x61, 0xED, 0xA0, 0x80], addBOS: false)
        }
        let text = "Grüße, 世界 🙂"
        #expect(
            try tokenizer.encode(utf8: Array(text.utf8), addBOS: true)
                == tokenizer.encode(text, addBOS: true))
    }

    @Test("texts that are canonically equivalent are different texts")
    func equivalence() throws {
        let tokenizer = try TokenizerCaseFile.tokenizer()
        for text in ["\u{E9}", "e\u{301}", "\u{212B}", "\u{C5}", "A\u{30A}"] {
            let back = tokenizer.decode(tokenizer.encode(text, addBOS: false))
            #expect(Array(back.utf8) == Array(text.utf8))
        }
    }

    @Test("a word of 100,000 characters takes n log n steps")
    func longWord() throws {
        let tokenizer = try TokenizerCaseFile.tokenizer()
        let letters = Array("etaoinshrdlu")
        var random = Randomness(seed: 5)
        let text = String((0..<100_000).map { _ in letters[Int(random.next() % 12)] })
        let clock = ContinuousClock()
        let begin = clock.now
        let ids = tokenizer.encode(text, addBOS: false)
        // Quadratic would be minutes.
        #expect(clock.now - begin < .seconds(60))
        #expect(tokenizer.decode(ids) == text)
    }

    /// The definition, taken literally: over and over, the best pair of the whole text.
    private func naive(_ text: String, _ tables: Vocabulary) -> [UInt32] {
        func piece(_ id: Int) -> [UInt8] {
            Array(tables.bytes[(id == 0 ? 0 : tables.ends[id - 1])..<tables.ends[id]])
        }
        var ids = ("\u{2581}" + text).unicodeScalars.map { scalar -> UInt32 in
            let scalar = scalar == " " ? "\u{2581}" : scalar
            return UInt32((0..<tables.count).first { piece($0) == Array(String(scalar).utf8) }!)
        }
        while true {
            var best: (rank: UInt32, at: Int, result: UInt32)?
            for at in ids.indices.dropLast() {
                for merge in tables.merges
                where merge.left == ids[at] && merge.right == ids[at + 1] {
                    if best == nil || merge.rank < best!.rank {
                        best = (merge.rank, at, merge.result)
                    }
                }
            }
            guard let best else { return ids }
            ids[best.at] = best.result
            ids.remove(at: best.at + 1)
        }
    }

    /// Letters a, b and "▁", and merges drawn at random: ranks tie, and pieces may join words.
    private func randomTables(_ random: inout Randomness) -> Vocabulary {
        var tables = Vocabulary()
        var pieces = ["\u{2581}", "a", "b"]
        for rank in 0..<UInt32(12) {
            let left = Int(random.next() % UInt64(pieces.count))
            let right = Int(random.next() % UInt64(pieces.count))
            let result = pieces[left] + pieces[right]
            if !pieces.contains(result) { pieces.append(result) }
            if tables.merges.contains(where: { $0.left == left && $0.right == right }) { continue }
            tables.merges.append(
                .init(
                    left: UInt32(left), right: UInt32(right),
                    result: UInt32(pieces.firstIndex(of: result)!), rank: rank / 3))
        }
        for piece in pieces { tables.append(piece.utf8, .normal) }
        return tables
    }

    @Test("the heap gives what the definition gives, whatever the merges", arguments: 0..<60)
    func definition(_ seed: UInt64) throws {
        var random = Randomness(seed: seed)
        let tables = randomTables(&random)
        let tokenizer = try Tokenizer(tables)
        for _ in 0..<15 {
            let text = String(
                (0..<Int(random.next() % 24)).map { _ in "ab ".randomElement(&random) })
            guard !text.isEmpty else { continue }
            #expect(tokenizer.encode(text, addBOS: false) == naive(text, tables), "\(text)")
        }
    }

    @Test("without byte tokens a run of unknown characters is one unknown token, or none")
    func unknown() throws {
        var tables = Vocabulary()
        for piece in ["\u{2581}", "a"] { tables.append(piece.utf8, .normal) }
        #expect(try Tokenizer(tables).encode("a中国a", addBOS: false) == [0, 1, 1])
        tables.append("<unk>".utf8, .unknown)
        tables.unknown = 2
        #expect(try Tokenizer(tables).encode("a中国a中", addBOS: true) == [0, 1, 2, 1, 2])
    }

    @Test("ids that are no token stand for nothing")
    func outside() throws {
        let tokenizer = try TokenizerCaseFile.tokenizer()
        #expect(tokenizer.decode([262, 4096, .max]) == "the")
        #expect(tokenizer.bytes(of: 4096) == [])
        #expect(tokenizer.piece(.max) == "")
        #expect(tokenizer.isSpecial(4096))
        #expect(tokenizer.bytes(of: 262) == Array(" the".utf8))
        #expect(tokenizer.piece(262) == "\u{2581}the")
    }

    @Test("added tokens that are looked for in changed text take the space before them")
    func normalizedTokens() throws {
        var tables = Vocabulary()
        for byte in UInt8.min...UInt8.max { tables.append(Vocabulary.byteToken(byte).utf8, .byte) }
        for piece in ["\u{2581}", "a", "\u{2581}a"] { tables.append(piece.utf8, .normal) }
        tables.merges = [.init(left: 256, right: 257, result: 258, rank: 0)]
        tables.append("<x>".utf8, .userDefined)
        tables.append("<y>".utf8, .userDefined)
        tables.normalized = [259]
        let tokenizer = try Tokenizer(tables)
        func ids(_ text: String) -> [UInt32] { tokenizer.encode(text, addBOS: false) }
        // As transformers has it for a token with normalized: true; the text behind gets no space of its own.
        #expect(ids("<x>a") == [259, 257])
        #expect(ids("a <x>a") == [258, 259, 257])
        #expect(ids("a<x>") == [258] + "<x>".utf8.map { UInt32($0) })
        // One with normalized: false is found anywhere, and what follows is a text of its own.
        #expect(ids("a<y>a") == [258, 260, 258])
        #expect(tokenizer.decode([258, 259, 257]) == "a<x>a")
    }

    @Test("tables that cannot be worked with are refused")
    func refusals() {
        func refusal(_ change: (inout Vocabulary) -> Void) -> String? {
            var tables = Vocabulary()
            for piece in ["\u{2581}", "a", "\u{2581}a"] { tables.append(piece.utf8, .normal) }
            tables.merges = [.init(left: 0, right: 1, result: 2, rank: 0)]
            change(&tables)
            do {
                _ = try Tokenizer(tables)
                return nil
            } catch {
                return "\(error)".replacing("the tokenizer in the file is unusable: ", with: "")
            }
        }
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0 = Vocabulary() } == "it has 0 pieces; it must have 1 to 1048576")
        #expect(
            refusal { $0.merges[0].right = 3 }
                == "merge 0 (0 and 3 to 2) names a token that is not there; there are 3")
        #expect(refusal { $0.eos = 3 } == "its eos token is 3; there are 3")
        #expect(refusal { $0.append([0xC3], .normal) } == "token 3 is not UTF-8")
        #expect(
            refusal {
                $0.append([0xC3], .normal)
                $0.append([0xA9], .normal)
            } == "token 4 begins inside a character")
        #expect(
            refusal { $0.append("<0xZZ>".utf8, .byte) }
                == "byte token 3 is not called <0x00> to <0xFF>")
    }
}

extension String {
    fileprivate func randomElement(_ random: inout Randomness) -> Character {
        Array(self)[Int(random.next() % UInt64(count))]
    }
}
