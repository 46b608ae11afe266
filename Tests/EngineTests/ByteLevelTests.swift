// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import SystemPackage
import TestSupport
import Testing

@testable import Engine
@testable import Packer

/// Tokenizers of the byte-level kinds, and what PyPI tokenizers 0.23.3 makes of texts with them (lines of random Unicode: what
/// an independent program that equals it makes). `MMFREED_BITNET_GOLDEN` names a directory with more such cases.
@Suite("Byte-level tokenizers equal the tokenizers library's")
struct ByteLevelTests {
    static let root =
        getenv("MMFREED_BITNET_GOLDEN").map { FilePath(String(cString: $0)) }
        ?? fixtures.appending("bitnet")
    static let kinds = ["tokenizer_llama3", "tokenizer_qwen2"]

    static func json(_ kind: String) throws -> JSON {
        try parse(fixtures.appending("bitnet").appending(kind).appending("tokenizer.json"))
    }

    static func vocabulary(_ json: JSON, limit: Int = 2614) throws -> Vocabulary {
        var draft = try TokenizerJSON(json: json, file: "tokenizer.json").draft(limit: limit)
        draft.fill()
        try draft.check()
        return draft.vocabulary
    }

    static func tokenizer(_ kind: String) throws -> Tokenizer {
        try Tokenizer(try vocabulary(try json(kind)))
    }

    private func lines(_ kind: String, _ name: String) throws -> [JSON] {
        try bytes(of: Self.root.appending(kind).appending(name)).split(separator: 0x0A).map {
            try JSON(parsing: Array($0))
        }
    }

    private func ids(_ json: JSON?) -> [UInt32]? {
        json?.array?.compactMap(\.integer).map { UInt32($0) }
    }

    @Test("every text becomes the same tokens, and these the same text", arguments: kinds)
    func strings(_ kind: String) throws {
        let tokenizer = try Self.tokenizer(kind)
        var count = 0
        for line in try lines(kind, "strings.jsonl") {
            let text = try #require(line["text"]?.string)
            let wanted = try #require(ids(line["ids"]))
            let plain = ids(line["ids_without_specials"]) ?? wanted
            #expect(tokenizer.encode(text, addBOS: false, parseSpecial: true) == wanted)
            #expect(tokenizer.encode(text, addBOS: false) == plain, "\(text.debugDescription)")
            let decoded = line["decoded"]?.string ?? text
            #expect(tokenizer.decode(wanted, skipSpecial: false).isSame(as: decoded))
            count += 1
        }
        #expect(count >= 500)
    }

    @Test("any row of tokens becomes the same text, at once and as it comes", arguments: kinds)
    func decoding(_ kind: String) throws {
        let tokenizer = try Self.tokenizer(kind)
        let all = try lines(kind, "decode.jsonl")
        #expect(all.count >= 100)
        for line in all {
            let tokens = try #require(ids(line["ids"]))
            for (name, skips) in [("decoded", false), ("decoded_skipping_specials", true)] {
                let wanted = try #require(line[name]?.string)
                #expect(tokenizer.decode(tokens, skipSpecial: skips).isSame(as: wanted))
                var stream = Detokenizer(tokenizer, continuing: false, skipSpecial: skips)
                var text = ""
                for id in tokens { text += stream.append(id) }
                text += stream.finish()
                #expect(text.isSame(as: wanted))
            }
        }
    }

    @Test("through a packed file it is the same tokenizer", arguments: kinds)
    func packed(_ kind: String) throws {
        let before = try Self.vocabulary(try Self.json(kind))
        var made = MadeFile(seed: 1)
        made.metadata += before.facts()
        let after = try withDirectory { directory in
            let path = directory.appending("t.gguf")
            try made.write(to: path)
            return try #require(
                try Vocabulary(PackedFile(path: path).metadata, size: before.count))
        }
        #expect(after == before)
        #expect(before.byteLevel == (kind == "tokenizer_llama3" ? .llama3 : .qwen2))
        #expect(before.facts().first { $0.key == "tokenizer.ggml.model" }?.value == .string("gpt2"))
    }

    @Test("unpacked, its tokenizer.json says the same", arguments: kinds)
    func unpacked(_ kind: String) throws {
        let before = try Self.vocabulary(try Self.json(kind))
        let after = try Self.vocabulary(
            try JSON(parsing: before.tokenizerJSON.written()), limit: before.count)
        #expect(after == before)
    }

    @Test("a token goes in front in Llama 3, behind in the embedding model's Qwen2")
    func around() throws {
        let llama = try Self.tokenizer("tokenizer_llama3")
        #expect(llama.addsBOS && llama.bos == 2600 && llama.suffix == nil)
        #expect(llama.encode("", addBOS: true) == [2600])
        let qwen = try Self.tokenizer("tokenizer_qwen2")
        #expect(!qwen.addsBOS && qwen.bos == nil && qwen.suffix == 2600)
    }

    @Test("texts of any characters come back, composed where the kind composes", arguments: kinds)
    func roundTrip(_ kind: String) throws {
        let tokenizer = try Self.tokenizer(kind)
        var random = SeededGenerator(3)
        for _ in 0..<300 {
            var text = ""
            for _ in 0..<Int.random(in: 0...20, using: &random) {
                let range: ClosedRange<UInt32> = [
                    0...0x7F, 0x80...0x24F, 0x300...0x10FF, 0...0x10FFFF,
                ]
                .randomElement(using: &random)!
                text.unicodeScalars.append(
                    Unicode.Scalar(UInt32.random(in: range, using: &random)) ?? "\u{FFFD}")
            }
            let found = tokenizer.decode(
                tokenizer.encode(text, addBOS: false), skipSpecial: false)
            var bytes = Array(text.utf8)
            if kind == "tokenizer_qwen2" {
                bytes = bytes.withUnsafeBufferPointer { CanonicalComposition.shared.composed($0) }
            }
            #expect(found.utf8.elementsEqual(bytes))
        }
    }

    @Test("a text that is one long piece takes no more than n log n", arguments: kinds)
    func hostile(_ kind: String) throws {
        let tokenizer = try Self.tokenizer(kind)
        for text in ["a", "e\u{301}", "\u{315}\u{300}", " ", "\u{1100}\u{1161}", "!\n", "  \n  "] {
            let long = String(repeating: text, count: 100_000)
            let time = ContinuousClock().measure {
                let ids = tokenizer.encode(long, addBOS: false)
                #expect(ids.count <= long.utf8.count)
            }
            // Quadratic time would be hours.
            #expect(time < .seconds(120), "\(text.debugDescription)")
        }
    }

    @Test("normalisation is NFC of Unicode 9")
    func composition() {
        func composed(_ text: String) -> String {
            String(
                decoding: Array(text.utf8).withUnsafeBufferPointer {
                    CanonicalComposition.shared.composed($0)
                }, as: UTF8.self)
        }
        for (text, wanted) in [
            ("e\u{301}", "\u{E9}"), ("\u{212B}", "\u{C5}"), ("q\u{307}\u{323}", "q\u{323}\u{307}"),
            ("\u{1E0B}\u{323}", "\u{1E0D}\u{307}"), ("\u{1100}\u{1161}\u{11A8}", "\u{AC01}"),
            ("\u{958}", "\u{915}\u{93C}"), ("\u{9C7}\u{9BE}", "\u{9CB}"),
            // Younger than Unicode 9: neither composed nor reordered.
            ("\u{11935}\u{11930}", "\u{11935}\u{11930}"), ("a\u{1DF6}\u{316}", "a\u{1DF6}\u{316}"),
        ] {
            #expect(Array(composed(text).unicodeScalars) == Array(wanted.unicodeScalars))
        }
    }

    // MARK: - What is refused

    private static func replacing(_ json: JSON, _ path: [String], _ value: JSON?) -> JSON {
        guard let name = path.first else { return value ?? .null }
        var members = json.members ?? []
        if let place = members.firstIndex(where: { $0.name == name }) {
            if path.count == 1, value == nil {
                members.remove(at: place)
            } else {
                members[place] = .init(
                    name, replacing(members[place].value, Array(path.dropFirst()), value))
            }
        } else if let value, path.count == 1 {
            members.append(.init(name, value))
        }
        return .object(members)
    }

    private static func parsed(_ text: String) throws -> JSON {
        try JSON(parsing: Array(text.utf8))
    }

    @Test(
        "another pre-tokenizer, normalizer, decoder, template or model is refused by name",
        arguments: [
            (["normalizer"], #"{"type":"NFKC"}"#, "its normalizer"),
            (["normalizer"], #"{"type":"NFC"}"#, "its normalizer"),
            (["model", "ignore_merges"], "false", "ignore_merges false"),
            (["model", "byte_fallback"], "true", "byte_fallback"),
            (["model", "unk_token"], #""<unk>""#, "unk_token"),
            (["model", "dropout"], "0.1", "dropout"),
            (["model", "cache_capacity_x"], "7", "cache_capacity_x"),
            (["model", "type"], #""WordPiece""#, "WordPiece"),
            (["decoder"], #"{"type":"Metaspace"}"#, "its decoder"),
            (["pre_tokenizer"], #"{"type":"ByteLevel"}"#, "its pre_tokenizer is ByteLevel"),
            (
                ["pre_tokenizer", "pretokenizers"],
                #"[{"type":"Punctuation"},{"type":"Digits"},{"type":"ByteLevel"}]"#,
                "Punctuation, Digits, ByteLevel"
            ),
            (
                ["pre_tokenizer", "pretokenizers"],
                #"[{"type":"Split","pattern":{"Regex":"\\s+"},"behavior":"Isolated"},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]"#,
                "splits by"
            ),
            (["post_processor"], #"{"type":"BertProcessing"}"#, "BertProcessing"),
            (
                ["post_processor"],
                #"{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},{"Sequence":{"id":"A"}}]}"#,
                "puts 0 tokens"
            ),
            (
                ["post_processor"],
                #"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}},{"Sequence":{"id":"A"}}],"special_tokens":{}}"#,
                "puts 0 tokens"
            ),
            (
                ["added_tokens"],
                #"[{"id":2600,"content":"<x>","special":true,"lstrip":true,"normalized":false}]"#,
                "lstrip"
            ),
            (
                ["added_tokens"],
                #"[{"id":2600,"content":"<x>","special":false,"normalized":true}]"#, "normalized"
            ),
            (
                ["added_tokens"],
                #"[{"id":30,"content":"?","special":true,"normalized":false}]"#, "is a piece too"
            ),
        ] as [([String], String, String)])
    func refusals(_ path: [String], _ value: String, _ words: String) throws {
        let json = Self.replacing(
            try Self.json("tokenizer_llama3"), path, try Self.parsed(value))
        do {
            _ = try Self.vocabulary(json)
            Issue.record("accepted: \(path) \(value)")
        } catch let error as PackError {
            #expect(error.description.contains(words), "\(error)")
        }
    }

    @Test("a vocabulary that lacks a byte is refused by packer and reader")
    func missingByte() throws {
        var json = try Self.json("tokenizer_llama3")
        let members = try #require(json["model"]?["vocab"]?.members).map {
            $0.name == "\u{120}" ? JSON.Member("\u{120}\u{120}\u{120}x", $0.value) : $0
        }
        json = Self.replacing(json, ["model", "vocab"], .object(members))
        json = Self.replacing(json, ["model", "merges"], .array([]))
        #expect(throws: PackError.self) { try Self.vocabulary(json) }
        var tables = Vocabulary()
        tables.byteLevel = .qwen2
        tables.append("a".utf8, .normal)
        #expect(throws: ModelError.self) { try Tokenizer(tables) }
    }
}
