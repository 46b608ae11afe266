// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

/// What the files beside a vocabulary say. The expected values are those of transformers 4.57 and tokenizers 0.22.
extension TokenizerImportTests {
    private func json(_ text: String) throws -> JSON { try JSON(parsing: Array(text.utf8)) }

    /// A tokenizer.json, these other files, and config.json's members.
    private func read(
        _ base: JSON = file(), _ files: [String: String] = [:], config: String = "{}",
        vocabulary: Int = 300
    ) throws -> TokenizerImport {
        let others = try files.map { ($0.key, try json($0.value)) }
        return try #require(
            try imported(
                [("tokenizer.json", base)] + others, vocabulary: vocabulary,
                settings: try json(config).members ?? []))
    }

    private func why(_ body: () throws -> TokenizerImport) throws -> String {
        do { _ = try body() } catch let error as PackError { return error.description }
        Issue.record("accepted")
        return ""
    }

    private static func template(_ parts: String, _ ids: String = "[1]") -> (String, JSON?) {
        let text = """
            {"type": "TemplateProcessing", "single": \(parts), "pair": [],
             "special_tokens": {"<s>": {"id": "<s>", "ids": \(ids), "tokens": ["<s>"]}}}
            """
        return ("post_processor", try? JSON(parsing: Array(text.utf8)))
    }

    private static let text = #"{"Sequence": {"id": "A", "type_id": 0}}"#
    private static let start = #"{"SpecialToken": {"id": "<s>", "type_id": 0}}"#

    // MARK: The beginning of a text

    @Test("whose flags and whose template decide on <s>: the class's")
    func beginnings() throws {
        let plain = Self.file()
        let templated = Self.file([Self.template("[\(Self.start), \(Self.text)]")])
        func adds(_ base: JSON, _ config: String?) throws -> Bool {
            try read(base, config.map { ["tokenizer_config.json": $0] } ?? [:]).vocabulary.addsBOS
        }
        let fast = #""tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>""#
        let llama = #""tokenizer_class": "LlamaTokenizer", "bos_token": "<s>""#
        #expect(try !adds(plain, nil) && adds(templated, nil))
        #expect(try !adds(plain, "{\(fast)}") && adds(templated, "{\(fast)}"))
        #expect(try adds(plain, "{\(llama)}") && adds(templated, "{\(llama)}"))
        #expect(try !adds(plain, "{\(fast), \"add_bos_token\": true}"))
        #expect(try adds(templated, "{\(fast), \"add_bos_token\": false}"))
        #expect(try !adds(templated, "{\(llama), \"add_bos_token\": false}"))
        #expect(try adds(plain, #"{"tokenizer_class": "LlamaTokenizerFast"}"#))
        let said = try read(
            plain, ["tokenizer_config.json": "{\(fast), \"add_bos_token\": true}"]
        ).warnings
        #expect(said.contains { $0.contains("add_bos_token is true") })
    }

    @Test("the token that a template puts in front is the one that is kept")
    func templateToken() throws {
        let base = Self.file([Self.template("[\(Self.start), \(Self.text)]", "[262]")])
        let read = try read(base, ["tokenizer_config.json": #"{"bos_token": "<s>"}"#])
        #expect(read.vocabulary.addsBOS && read.vocabulary.bos == 262)
    }

    @Test(
        "templates that do more than put one token in front are refused",
        arguments: [
            ("[\(start), \(text), \(start)]", "[1]"), ("[\(text), \(start)]", "[1]"),
            ("[\(start), \(start), \(text)]", "[1]"), ("[\(start), \(text)]", "[1, 2]"),
            ("[]", "[1]"),
        ])
    func templates(_ parts: String, _ ids: String) throws {
        let error = try why { try read(Self.file([Self.template(parts, ids)])) }
        #expect(error.contains("post_processor"), "\(error)")
    }

    @Test("an end token behind every prompt is not done, and refused")
    func appended() throws {
        let error = try why {
            try read(
                Self.file(),
                [
                    "tokenizer_config.json":
                        #"{"tokenizer_class": "LlamaTokenizer", "add_eos_token": true}"#
                ])
        }
        #expect(error.contains("add_eos_token"))
        let bert = try why {
            try read(Self.file([("post_processor", try json(#"{"type": "BertProcessing"}"#))]))
        }
        #expect(bert.contains("BertProcessing"))
    }

    // MARK: Added tokens

    @Test(
        "added_tokens.json beside a tokenizer.json counts, unless tokenizer_config.json lists tokens itself"
    )
    func addedBeside() throws {
        let added = ["added_tokens.json": #"{"<x>": 268, "<y>": 269}"#]
        let read = try read(
            Self.file(),
            added.merging(["special_tokens_map.json": #"{"eos_token": {"content": "<y>"}}"#]) { $1 }
        )
        #expect(read.vocabulary.tokens[268...269] == ["<x>", "<y>"])
        #expect(read.vocabulary.kinds[268...269] == [.userDefined, .control])
        // transformers looks for it in changed text.
        #expect(read.vocabulary.normalized == [268])
        #expect(read.vocabulary.endTokens == [269, 2])
        let error = try why {
            try self.read(
                Self.file(),
                added.merging([
                    "tokenizer_config.json":
                        #"{"added_tokens_decoder": {"268": {"content": "<z>"}}}"#
                ]) { $1 })
        }
        #expect(error.contains("added_tokens.json") && error.contains("<x>"))
    }

    @Test(
        "files that disagree on an added token's id are refused by both",
        arguments: [
            (#"{"<x>": 268}"#, "token 268 is \"<tool>\""), (#"{"<tool>": 300}"#, "gives it 268"),
            (#"{"<x>": 280}"#, "gives it 269"), (#"{"a": 268}"#, "token 268 is \"<tool>\""),
        ])
    func disagreeing(_ added: String, _ said: String) throws {
        let base = Self.file([("added_tokens", .array([Self.added(268, "<tool>", special: false)]))]
        )
        let error = try why { try read(base, ["added_tokens.json": added]) }
        #expect(error.contains(said), "\(error)")
    }

    @Test("a special token that is only named is appended, if the model has a row for it")
    func named() throws {
        let config = #"{"pad_token": "[PAD]", "additional_special_tokens": ["<|a|>"]}"#
        let whole = try read(Self.file(), ["tokenizer_config.json": config])
        #expect(whole.vocabulary.tokens[268...269] == ["[PAD]", "<|a|>"])
        #expect(whole.vocabulary.kinds[268...269] == [.control, .control])
        #expect(whole.vocabulary.padding == 268)
        let full = try read(Self.file(), ["tokenizer_config.json": config], vocabulary: 268)
        #expect(full.vocabulary.count == 268 && full.vocabulary.padding == nil)
        #expect(full.warnings.contains { $0.contains("\"[PAD]\" is token 268, the model has 268") })
        let error = try why {
            try read(
                Self.file(),
                [
                    "tokenizer_config.json":
                        #"{"tokenizer_class": "LlamaTokenizer", "bos_token": "<bos>"}"#
                ], vocabulary: 268)
        }
        #expect(error.contains("<bos>"))
    }

    @Test(
        "special_tokens_map.json goes before tokenizer_config.json, unless that lists the added tokens"
    )
    func precedence() throws {
        let map = ["special_tokens_map.json": #"{"eos_token": {"content": "ab"}}"#]
        func ends(_ config: String) throws -> [UInt32] {
            try read(Self.file(), map.merging(["tokenizer_config.json": config]) { $1 }).vocabulary
                .endTokens
        }
        #expect(try ends(#"{"eos_token": "</s>"}"#) == [262, 2])
        #expect(try ends(#"{"eos_token": "</s>", "added_tokens_decoder": {}}"#) == [2])
    }

    // MARK: Where answers end

    @Test("every end token is kept, whichever file names it")
    func ends() throws {
        func ends(_ files: [String: String], _ config: String = "{}") throws -> [UInt32] {
            try read(Self.file(), files, config: config).vocabulary.endTokens
        }
        #expect(try ends([:]) == [2])
        #expect(try ends([:], #"{"eos_token_id": [2, 280]}"#) == [2, 280])
        #expect(
            try ends(["generation_config.json": #"{"eos_token_id": [270, 2, 270]}"#]) == [270, 2])
        #expect(
            try ends(["generation_config.json": #"{"eos_token_id": 270}"#], #"{"eos_token_id": 2}"#)
                == [270])
        #expect(try ends(["tokenizer_config.json": #"{"eos_token": "ab"}"#]) == [262, 2])
        #expect(try ends([:], #"{"eos_token_id": -1}"#) == [])
        let beyond = try read(
            Self.file(), ["generation_config.json": #"{"eos_token_id": [2, 300]}"#])
        #expect(beyond.vocabulary.endTokens == [2])
        #expect(beyond.warnings.contains { $0.contains("not all among the model's 300 tokens") })
        let two = try read(
            Self.file(),
            [
                "generation_config.json": #"{"eos_token_id": 2}"#,
                "tokenizer_config.json": #"{"eos_token": "ab"}"#,
            ])
        #expect(two.vocabulary.endTokens == [2, 262])
        #expect(two.warnings.contains { $0.contains("answers end at either") })
    }

    @Test(
        "a file with several end tokens says a version that older readers refuse, and unpacks to a list"
    )
    func endsWritten() throws {
        var made = MadeCheckpoint()
        made.vocabulary = 300
        made.settings = try json(#"{"eos_token_id": [2, 280]}"#).members ?? []
        try withDirectory { directory in
            try made.write(to: directory)
            try write(Self.file().written(), to: directory.appending("tokenizer.json"))
            let path = directory.appending("m.gguf")
            _ = try PackJob(Checkpoint(directory: directory), to: path).run()
            let file = try PackedFile(path: path)
            #expect(try file.metadata.uint32(forKey: FormatKeys.hgrnbit.formatVersion) == 2)
            #expect(try file.metadata.uint32(forKey: FormatKeys.eosToken) == 2)
            #expect(try file.metadata.uint32s(forKey: FormatKeys.hgrnbit.endTokens) == [2, 280])
            #expect(file.metadata.describe(FormatKeys.hgrnbit.endTokens) == "[2, 280]")
            let out = directory.appending("out")
            try UnpackJob(file, to: out).run()
            let again = try Checkpoint(directory: out)
            #expect(again.config.ends == [2, 280])
            #expect(try TokenizerImport(again)?.vocabulary.endTokens == [2, 280])
        }
    }

    // MARK: Vocabularies with holes

    @Test("an id that no token has is unused, and survives packing and unpacking")
    func holes() throws {
        let words = Self.vocabulary.enumerated().map { id, word in
            JSON.Member(word, .integer(id == 267 ? 270 : id))
        }
        let read = try read(Self.file(model: [("vocab", .object(words))]))
        #expect(
            read.vocabulary.kinds[266...271] == [
                .normal, .unused, .unused, .unused, .normal, .unused,
            ])
        #expect(
            read.warnings.contains { $0.contains("no token has the id 267, nor have 2 others") })
        let again = try self.read(read.vocabulary.tokenizerJSON)
        #expect(again.vocabulary.tokens == read.vocabulary.tokens)
        #expect(again.vocabulary.kinds == read.vocabulary.kinds)
        // The library would give a new token an id that is taken.
        let error = try why {
            try self.read(
                Self.file(
                    model: [("vocab", .object(words))],
                    [("added_tokens", .array([Self.added(271, "<x>", special: true)]))]))
        }
        #expect(error.contains("<x>"))
    }

    // MARK: What changes the text of answers

    @Test("habits of decoding that are not done are named")
    func decoding() throws {
        let clean = try read(
            Self.file(), ["tokenizer_config.json": #"{"clean_up_tokenization_spaces": true}"#])
        #expect(clean.warnings.contains { $0.contains("clean_up_tokenization_spaces") })
        let other = try read(Self.file([("decoder", try json(#"{"type": "WordPiece"}"#))]))
        #expect(other.warnings.contains { $0.contains(#"its decoder is {"type":"WordPiece"}"#) })
        let asked = try read(
            Self.file(),
            ["generation_config.json": #"{"temperature": 0.7, "suppress_tokens": [5]}"#])
        #expect(asked.warnings.contains { $0.contains("temperature 0.7, suppress_tokens [5]") })
        let foreign = try read(
            Self.file(),
            ["tokenizer_config.json": #"{"do_lower_case": true, "tokenizer_class": "X"}"#])
        #expect(foreign.warnings.contains { $0.contains("do_lower_case true") })
        #expect(foreign.warnings.contains { $0.contains("tokenizer_class X is not known") })
    }

    // MARK: Values of another type

    @Test(
        "a member of another type than transformers reads is refused by name",
        arguments: [
            #""add_bos_token": 0"#, #""add_bos_token": "true""#, #""add_eos_token": 1"#,
            #""add_eos_token": "true""#, #""tokenizer_class": 5"#, #""from_slow": 1"#,
            #""added_tokens_decoder": []"#, #""added_tokens_decoder": null"#,
            #""additional_special_tokens": "<x>""#, #""additional_special_tokens": [5]"#,
            #""clean_up_tokenization_spaces": "true""#, #""add_prefix_space": "false""#,
            #""legacy": "false""#,
        ])
    func types(_ member: String) throws {
        let name = try #require(member.split(separator: "\"").first)
        let error = try why {
            try read(
                Self.file(),
                [
                    "tokenizer_config.json":
                        #"{\#(member.contains("_class") ? "" : #""tokenizer_class": "LlamaTokenizer", "#)\#(member)}"#
                ])
        }
        #expect(error.contains("\(name) is "), "\(error)")
    }

    @Test("null for add_bos_token is false; for bos_token where it is put in front, refused")
    func nulls() throws {
        let llama = #""tokenizer_class": "LlamaTokenizer""#
        let none = #"{\#(llama), "add_bos_token": null, "bos_token": null}"#
        #expect(try !read(Self.file(), ["tokenizer_config.json": none]).vocabulary.addsBOS)
        let error = try why {
            try read(Self.file(), ["tokenizer_config.json": #"{\#(llama), "bos_token": null}"#])
        }
        #expect(error.contains("bos_token is null and add_bos_token true"))
    }

    @Test("Gemma's special tokens are its own, not Llama's")
    func gemma() throws {
        let gemma = try read(
            Self.file(), ["tokenizer_config.json": #"{"tokenizer_class": "GemmaTokenizer"}"#]
        ).vocabulary
        #expect(gemma.text(Int(try #require(gemma.bos))) == "<bos>")
        #expect(gemma.text(Int(try #require(gemma.eos))) == "<eos>")
    }

    @Test("an added token's flags have types and the library's defaults")
    func flags() throws {
        func added(_ flags: String) throws -> TokenizerImport {
            try read(
                Self.file(),
                [
                    "tokenizer_config.json":
                        #"{"added_tokens_decoder": {"268": {"content": "<q>"\#(flags)}}}"#
                ])
        }
        #expect(try added("").vocabulary.normalized == [268])
        #expect(try added(#", "normalized": false"#).vocabulary.normalized == [])
        #expect(try added(#", "special": true"#).vocabulary.kinds[268] == .control)
        #expect(try why { try added(#", "special": 1"#) }.contains("special is 1"))
        let byte = try read(
            Self.file([("added_tokens", .array([Self.added(13, "<0x0A>", special: false)]))]))
        #expect(byte.vocabulary.kinds[13] == .byte)
        #expect(byte.warnings.contains { $0.contains("\"<0x0A>\" is the token of a byte") })
    }

    // MARK: Stages

    @Test("a decoder is compared whole; another one than is done is named")
    func decoders() throws {
        let usual = try #require(try read().vocabulary.tokenizerJSON["decoder"])
        func warns(_ decoder: JSON) throws -> Bool {
            try read(Self.file([("decoder", decoder)])).warnings.contains {
                $0.contains("its decoder is")
            }
        }
        #expect(try !warns(usual))
        let text = String(decoding: usual.written(), as: UTF8.self)
        for (old, new) in [
            ("\" \"", "\"_\""), ("\"start\": 1", "\"start\": 2"), ("\"stop\": 0", "\"stop\": 1"),
        ] {
            let changed = text.replacing(old, with: new, maxReplacements: 1)
            try #require(changed != text)
            #expect(try warns(json(changed)), "\(old)")
        }
        #expect(try warns(.null))
        func meta(_ scheme: String) -> String {
            #"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "\#(scheme)", "split": true}"#
        }
        func both(_ scheme: String) -> String {
            #"{"type": "Sequence", "decoders": [{"type": "ByteFallback"}, \#(meta(scheme))]}"#
        }
        #expect(try !warns(json(both("first"))) && !warns(json(both("always"))))
        #expect(try warns(json(both("never"))) && warns(json(meta("first"))))
    }

    @Test("what the tokenizers library refuses is refused")
    func contradictions() throws {
        #expect(try why { try read(Self.file([("version", .string("2.0"))])) }.contains("version"))
        let prepend = #"{"type": "Prepend", "prepend": "▁"}"#
        let replace = #"{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}"#
        let twice = try json(
            #"{"type": "Sequence", "normalizers": [\#(prepend), \#(prepend), \#(replace)]}"#)
        #expect(try why { try read(Self.file([("normalizer", twice)])) }.contains("one Prepend"))
        func metaspace(_ members: String) throws -> JSON {
            Self.file([
                ("normalizer", .null),
                (
                    "pre_tokenizer",
                    try json(
                        #"{"type": "Metaspace", "replacement": "▁", "split": false, \#(members)}"#)
                ),
            ])
        }
        let error = try why {
            try read(metaspace(#""add_prefix_space": false, "prepend_scheme": "always""#))
        }
        #expect(error.contains("contradict"))
        for members in [#""prepend_scheme": "always""#, #""add_prefix_space": true"#] {
            #expect(try read(metaspace(members)).warnings.contains { $0.contains("\"always\"") })
        }
        #expect(
            try !read(metaspace(#""prepend_scheme": "first""#)).warnings.contains {
                $0.contains("\"always\"")
            })
    }

    // MARK: Which file

    @Test(
        "settings without a tokenizer are one that was not downloaded whole",
        arguments: [
            "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
            "tokenizer.json.gz", "tokenizer.json.incomplete", "tokenizer.model.part",
        ])
    func left(_ name: String) throws {
        do {
            _ = try imported([(name, json("{}"))])
            Issue.record("accepted")
        } catch let error as PackError {
            #expect(
                error.description.contains("\(name): neither tokenizer.json nor tokenizer.model"))
        }
        #expect(try imported([]) == nil)
    }
}
