// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@Suite("Tokenizers of the Llama kind are imported, others refused by name")
struct TokenizerImportTests {
    /// A vocabulary of the least kind: <unk>, <s>, </s>, 256 bytes, then these.
    private static let words = [
        "\u{2581}", "a", "b", "ab", "\u{2581}a", "\u{2581}ab", "c", "é", "e\u{301}",
    ]
    private static let merges = ["a b", "\u{2581} a", "\u{2581} ab", "\u{2581}a b"]

    static func object(_ members: [(String, JSON)]) -> JSON {
        .object(members.map { JSON.Member($0.0, $0.1) })
    }

    static var vocabulary: [String] {
        let bytes = (0..<256).map { byte in
            let digits = String(byte, radix: 16, uppercase: true)
            return "<0x\(byte < 16 ? "0" : "")\(digits)>"
        }
        return ["<unk>", "<s>", "</s>"] + bytes + words
    }

    private static var model: [(String, JSON)] {
        [
            ("type", .string("BPE")), ("unk_token", .string("<unk>")),
            ("byte_fallback", .bool(true)),
            (
                "vocab",
                .object(vocabulary.enumerated().map { JSON.Member($1, .integer($0)) })
            ),
            ("merges", .array(merges.map { .string($0) })),
        ]
    }

    private static let normalizer = object([
        ("type", .string("Sequence")),
        (
            "normalizers",
            .array([
                object([("type", .string("Prepend")), ("prepend", .string("\u{2581}"))]),
                object([
                    ("type", .string("Replace")), ("content", .string("\u{2581}")),
                    ("pattern", object([("String", .string(" "))])),
                ]),
            ])
        ),
    ])

    private static let decoder = object([
        ("type", .string("Sequence")),
        (
            "decoders",
            .array([
                object([
                    ("type", .string("Replace")), ("content", .string(" ")),
                    ("pattern", object([("String", .string("\u{2581}"))])),
                ]),
                object([("type", .string("ByteFallback"))]), object([("type", .string("Fuse"))]),
                object([
                    ("type", .string("Strip")), ("content", .string(" ")), ("start", .integer(1)),
                    ("stop", .integer(0)),
                ]),
            ])
        ),
    ])

    static func added(_ id: Int, _ text: String, special: Bool) -> JSON {
        object([
            ("id", .integer(id)), ("content", .string(text)), ("special", .bool(special)),
        ])
    }

    static func file(
        model changes: [(String, JSON?)] = [], _ others: [(String, JSON?)] = []
    ) -> JSON {
        func changed(_ list: [(String, JSON)], _ changes: [(String, JSON?)]) -> JSON {
            var list = list
            for (name, value) in changes {
                list.removeAll { $0.0 == name }
                if let value { list.append((name, value)) }
            }
            return object(list)
        }
        let specials = [
            added(0, "<unk>", special: true), added(1, "<s>", special: true),
            added(2, "</s>", special: true),
        ]
        return changed(
            [
                ("added_tokens", .array(specials)), ("normalizer", normalizer),
                ("pre_tokenizer", .null), ("model", changed(model, changes)),
                ("decoder", decoder),
            ], others)
    }

    /// Imports what these files say, for a model of 300 tokens.
    func imported(
        _ files: [(String, JSON)], vocabulary: Int = 300, settings: [JSON.Member] = []
    ) throws -> TokenizerImport? {
        try withDirectory { directory in
            var made = MadeCheckpoint()
            made.vocabulary = vocabulary
            made.settings = settings
            try made.write(to: directory)
            for (name, json) in files { try write(json.written(), to: directory.appending(name)) }
            return try TokenizerImport(Checkpoint(directory: directory))
        }
    }

    func tables(_ files: [(String, JSON)], vocabulary: Int = 300) throws -> Vocabulary? {
        try imported(files, vocabulary: vocabulary)?.vocabulary
    }

    func refusal(_ file: JSON, vocabulary: Int = 300) throws -> String {
        do {
            _ = try tables([("tokenizer.json", file)], vocabulary: vocabulary)
        } catch let error as PackError {
            return error.description
        }
        Issue.record("accepted")
        return ""
    }

    @Test("tokens, kinds, merges and special tokens arrive; missing ids are filled up")
    func whole() throws {
        let tables = try #require(try tables([("tokenizer.json", Self.file())]))
        #expect(tables.tokens.count == 300)
        #expect(
            tables.tokens[259...267].map { Array($0.utf8) } == Self.words.map { Array($0.utf8) })
        #expect(tables.kinds[0...3] == [.unknown, .control, .control, .byte])
        #expect(tables.kinds[258...259] == [.byte, .normal])
        #expect(tables.kinds[268...].allSatisfy { $0 == .unused })
        #expect(Set(tables.tokens.map { Array($0.utf8) }).count == 300)
        #expect(
            tables.merges.map { [$0.left, $0.right, $0.result, $0.rank] } == [
                [260, 261, 262, 0], [259, 260, 263, 1], [259, 262, 264, 2], [263, 261, 264, 3],
            ])
        #expect(tables.scores[262...264] == [-1, -2, -3])
        #expect((tables.bos, tables.eos, tables.unknown, tables.padding) == (1, 2, 0, nil))
        #expect(!tables.addsBOS && tables.addsSpacePrefix && !tables.prefixesOnlyIfMissing)
    }

    @Test("merges written as pairs are the merges written with a space")
    func pairs() throws {
        let list = Self.merges.map { merge in
            JSON.array(merge.split(separator: " ").map { .string(String($0)) })
        }
        let old = try tables([("tokenizer.json", Self.file())])
        let new = try tables([("tokenizer.json", Self.file(model: [("merges", .array(list))]))])
        #expect(old == new)
    }

    @Test("a Metaspace pre-tokenizer is the other spelling")
    func metaspace() throws {
        func metaspace(_ scheme: String) -> [(String, JSON?)] {
            let stage = Self.object([
                ("type", .string("Metaspace")), ("replacement", .string("\u{2581}")),
                ("prepend_scheme", .string(scheme)), ("split", .bool(false)),
            ])
            return [("normalizer", .null), ("pre_tokenizer", stage)]
        }
        let first = try #require(try tables([("tokenizer.json", Self.file(metaspace("first")))]))
        #expect(first.addsSpacePrefix && first.prefixesOnlyIfMissing)
        let exported = first.tokenizerJSON["pre_tokenizer"]
        #expect(exported?["prepend_scheme"]?.string == "first")
        let never = try #require(try tables([("tokenizer.json", Self.file(metaspace("never")))]))
        #expect(!never.addsSpacePrefix && !never.prefixesOnlyIfMissing)
    }

    @Test("special tokens: the tokenizer's settings name BOS, the generation settings EOS")
    func special() throws {
        let list = [
            Self.added(0, "<unk>", special: true), Self.added(1, "<s>", special: true),
            Self.added(2, "</s>", special: true), Self.added(268, "<tool>", special: false),
            Self.added(269, "<end>", special: true),
        ]
        let read = try #require(
            try imported([
                ("tokenizer.json", Self.file([("added_tokens", .array(list))])),
                (
                    "tokenizer_config.json",
                    Self.object([
                        ("bos_token", Self.object([("content", .string("</s>"))])),
                        ("add_bos_token", .bool(false)), ("pad_token", .string("<unk>")),
                    ])
                ),
                (
                    "generation_config.json",
                    Self.object([("eos_token_id", .array([.integer(269), .integer(2)]))])
                ),
            ]))
        let tables = read.vocabulary
        #expect((tables.bos, tables.endTokens, tables.padding) == (2, [269, 2], 0))
        #expect(!tables.addsBOS)
        #expect(tables.kinds[268...270] == [.userDefined, .control, .unused])
        #expect(tables.tokens[268] == "<tool>" && tables.tokens[269] == "<end>")
    }

    @Test("other families are named in the refusal")
    func others() throws {
        let byteLevel = Self.object([("type", .string("ByteLevel"))])
        let cases: [(JSON, String)] = [
            (Self.file(model: [("type", .string("WordPiece"))]), "WordPiece"),
            (Self.file(model: [("type", .string("Unigram"))]), "Unigram"),
            (Self.file([("pre_tokenizer", byteLevel)]), "ByteLevel"),
            (
                Self.file([
                    (
                        "pre_tokenizer",
                        Self.object([
                            ("type", .string("Sequence")), ("pretokenizers", .array([byteLevel])),
                        ])
                    )
                ]), "ByteLevel"
            ),
            (Self.file(model: [("byte_fallback", .bool(false))]), "byte_fallback"),
            (Self.file(model: [("dropout", .number(0.1))]), "dropout"),
            (Self.file(model: [("ignore_merges", .bool(true))]), "ignore_merges"),
            (Self.file([("normalizer", .null)]), "spaces"),
            (Self.file([("normalizer", Self.object([("type", .string("NFKC"))]))]), "NFKC"),
            (
                Self.file([("pre_tokenizer", Self.object([("type", .string("Whitespace"))]))]),
                "Whitespace"
            ),
            (Self.file(model: [("vocab", .object([]))]), "vocab"),
            (
                Self.file(model: [("vocab", Self.object([("a", .integer(1 << 20))]))]),
                "the id of token \"a\" is 1048576"
            ),
            (
                Self.file(model: [("vocab", Self.object([("a", .integer(-1))]))]),
                "the id of token \"a\" is -1"
            ),
            (Self.file(model: [("merges", .array([.string("a z")]))]), "merge 0"),
            (Self.file(model: [("merges", .array([.string("a  b")]))]), "merge 0"),
            (Self.file(model: [("merges", .array([.string("a b"), .string("a b")]))]), "twice"),
            (Self.file([("added_tokens", .array([Self.added(1, "x", special: true)]))]), "token 1"),
        ]
        for (file, mention) in cases {
            let error = try refusal(file)
            #expect(error.contains(mention), "\(error)")
        }
        #expect(try refusal(Self.file(), vocabulary: 200).contains("268 tokens"))
    }

    @Test("a vocabulary that joins spaces is not split at them")
    func split() throws {
        let stage = Self.object([
            ("type", .string("Metaspace")), ("replacement", .string("\u{2581}")),
            ("add_prefix_space", .bool(true)),
        ])
        let stages: [(String, JSON?)] = [("normalizer", .null), ("pre_tokenizer", stage)]
        #expect(try tables([("tokenizer.json", Self.file(stages))]) != nil)
        let vocabulary = Self.vocabulary + ["\u{2581}\u{2581}"]
        let joined = Self.file(
            model: [
                ("vocab", .object(vocabulary.enumerated().map { JSON.Member($1, .integer($0)) })),
                ("merges", .array([.string("\u{2581} \u{2581}")])),
            ], stages)
        #expect(try refusal(joined).contains("splits at spaces"))
    }

    @Test("no tokenizer is no error; another family's files are")
    func none() throws {
        #expect(try tables([]) == nil)
        #expect(throws: PackError.self) { try tables([("vocab.json", .object([]))]) }
    }

    @Test("both files of the demonstration model give one tokenizer")
    func demonstration() throws {
        let demo = Golden.root.removingLastComponent().appending("demo")
        let fromJSON = try tables(at: demo, "tokenizer.json")
        let fromModel = try tables(at: demo, "tokenizer.model")
        #expect(fromJSON.source == .json && fromModel.source == .sentencePiece)
        #expect(fromJSON.tokens == fromModel.tokens && fromJSON.kinds == fromModel.kinds)
        #expect(fromJSON.merges.count == fromModel.merges.count)
        func edges(_ tables: Vocabulary) -> [[UInt32]] {
            tables.merges.map { [$0.result, $0.left, $0.right] }.sorted {
                $0.lexicographicallyPrecedes($1)
            }
        }
        #expect(edges(fromJSON) == edges(fromModel))
        // Ranks order the same results the same way.
        #expect(fromJSON.merges.map(\.result) == fromModel.merges.map(\.result))
        #expect((fromJSON.bos, fromJSON.eos, fromJSON.unknown) == (1, 2, 0))
        #expect((fromModel.bos, fromModel.eos, fromModel.unknown) == (1, 2, 0))
    }

    @Test("of two files that differ, the one that transformers reads is read, and that is said")
    func two() throws {
        let demo = Golden.root.removingLastComponent().appending("demo")
        func read(_ settings: String, changed: Bool) throws -> TokenizerImport {
            try withDirectory { directory in
                var made = MadeCheckpoint()
                made.vocabulary = 4096
                made.hidden = 4
                try made.write(to: directory)
                try write(
                    bytes(of: demo.appending("tokenizer.model")),
                    to: directory.appending("tokenizer.model"))
                var json = try JSON(parsing: bytes(of: demo.appending("tokenizer.json")))
                if changed, let model = json["model"] {
                    let merges = JSON.array(model["merges"]?.array?.dropLast(5).map { $0 } ?? [])
                    json = json.replacing("model", by: model.replacing("merges", by: merges))
                }
                try write(json.written(), to: directory.appending("tokenizer.json"))
                try write(
                    Array(#"{"tokenizer_class": "LlamaTokenizer", \#(settings)}"#.utf8),
                    to: directory.appending("tokenizer_config.json"))
                return try #require(try TokenizerImport(Checkpoint(directory: directory)))
            }
        }
        func says(_ read: TokenizerImport) -> Bool {
            read.warnings.contains { $0.contains("hold different pieces or merges") }
        }
        let plain = #""add_bos_token": true"#
        #expect(try !says(read(plain, changed: false)))
        let changed = try read(plain, changed: true)
        #expect(changed.file == "tokenizer.json" && says(changed))
        for setting in [
            #""add_prefix_space": true"#, #""add_prefix_space": false"#, #""from_slow": true"#,
        ] {
            #expect(try read(setting, changed: true).file == "tokenizer.model", "\(setting)")
        }
    }

    private func tables(at demo: FilePath, _ file: String) throws -> Vocabulary {
        try withDirectory { directory in
            var made = MadeCheckpoint()
            made.vocabulary = 4096
            made.hidden = 4
            try made.write(to: directory)
            try write(bytes(of: demo.appending(file)), to: directory.appending(file))
            return try #require(
                try TokenizerImport(Checkpoint(directory: directory))
            ).vocabulary
        }
    }

    @Test("damaged tokenizer files are refused or give consistent tables")
    func mutations() throws {
        let whole = Self.file().written()
        var random = SeededGenerator(4)
        try withDirectory { directory in
            var made = MadeCheckpoint()
            made.vocabulary = 300
            try made.write(to: directory)
            let checkpoint = try Checkpoint(directory: directory)
            for round in 0..<400 {
                var bytes = whole
                for _ in 0...Int(random.next() % 3) {
                    let place = Int(random.next() % UInt64(bytes.count))
                    bytes[place] = Array("{}[],:\"0918ab ".utf8)[Int(random.next() % 14)]
                }
                if round % 5 == 0 { bytes.removeLast(Int(random.next() % UInt64(bytes.count))) }
                try write(bytes, to: directory.appending("tokenizer.json"))
                check(checkpoint)
            }
        }
    }

    @Test("damaged SentencePiece models are refused or give consistent tables")
    func modelMutations() throws {
        let demo = Golden.root.removingLastComponent().appending("demo")
        // The first 300 pieces and the options behind all of them.
        let all = try bytes(of: demo.appending("tokenizer.model"))
        var random = SeededGenerator(9)
        try withDirectory { directory in
            var made = MadeCheckpoint()
            made.vocabulary = 4096
            made.hidden = 4
            try made.write(to: directory)
            let checkpoint = try Checkpoint(directory: directory)
            for round in 0..<60 {
                var bytes = all
                for _ in 0...Int(random.next() % 4) {
                    // Half of the damage in the options at the end.
                    let reach = round % 2 == 0 ? bytes.count : 120
                    let place = bytes.count - 1 - Int(random.next() % UInt64(reach))
                    bytes[place] = UInt8(truncatingIfNeeded: random.next())
                }
                if round % 7 == 0 { bytes.removeLast(Int(random.next() % UInt64(bytes.count))) }
                try write(bytes, to: directory.appending("tokenizer.model"))
                check(checkpoint)
            }
        }
    }

    private func check(_ checkpoint: Checkpoint) {
        guard let tables = (try? TokenizerImport(checkpoint))?.vocabulary else { return }
        let count = UInt32(checkpoint.config.shape.vocabulary)
        #expect(tables.count == Int(count))
        #expect(tables.kinds.count == Int(count) && tables.scores.count == Int(count))
        let ids = [tables.bos, tables.eos, tables.unknown, tables.padding].compactMap { $0 }
        #expect(ids.allSatisfy { $0 < count })
        #expect(
            tables.merges.allSatisfy { $0.left < count && $0.right < count && $0.result < count })
    }
}

extension JSON {
    fileprivate func replacing(_ name: String, by value: JSON) -> JSON {
        .object((members ?? []).map { $0.name == name ? Member(name, value) : $0 })
    }
}
