// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@Suite("Chat templates are found where transformers 4.57 finds them")
struct TemplateImportTests {
    /// A checkpoint with a tokenizer and these files beside it.
    private func withFiles<R>(
        _ files: [String: String], _ body: (FilePath) throws -> R
    ) throws -> R {
        try withDirectory { directory in
            var made = MadeCheckpoint()
            made.vocabulary = 300
            try made.write(to: directory)
            try write(
                TokenizerImportTests.file().written(), to: directory.appending("tokenizer.json"))
            for (name, text) in files {
                try write(Array(text.utf8), to: directory.appending(name))
            }
            return try body(directory)
        }
    }

    /// What is said of templates; the tokenizer has fewer tokens than the model.
    private func warnings(_ found: TokenizerImport) -> [String] {
        found.warnings.filter { !$0.hasPrefix("the tokenizer has 268 tokens") }
    }

    private func read(_ files: [String: String]) throws -> TokenizerImport {
        try withFiles(files) { directory in
            try #require(try TokenizerImport(Checkpoint(directory: directory)))
        }
    }

    private static let config =
        #"{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "chat_template": "#

    @Test("a text in tokenizer_config.json is the template, with the settings' own special tokens")
    func text() throws {
        let found = try read(["tokenizer_config.json": Self.config + #""{{ 1 }}"}"#])
        #expect(found.templates.standard == "{{ 1 }}")
        #expect(found.templates.named.isEmpty && warnings(found).isEmpty)
        #expect(found.templates.bosToken == "<s>" && found.templates.eosToken == "</s>")
    }

    @Test("named ones keep their names; the default one is the template")
    func named() throws {
        let list =
            #"[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}, {"name": "a b", "template": "x"}]}"#
        let templates = try read(["tokenizer_config.json": Self.config + list]).templates
        #expect(templates.standard == "d")
        #expect(templates.named.map(\.name) == ["a_b", "tool_use"])
        #expect(templates["tool_use"] == "t" && templates[""] == "d" && templates["x"] == nil)
    }

    @Test("chat_template.jinja goes before the settings, and chat_template.json behind them")
    func precedence() throws {
        let config = Self.config + #""c"}"#
        let json = #"{"chat_template": "j"}"#
        let both = try read([
            "tokenizer_config.json": config, "chat_template.jinja": "f\n",
            "chat_template.json": json,
        ])
        #expect(both.templates.standard == "f\n")
        #expect(
            warnings(both) == [
                "chat_template.jinja and chat_template in tokenizer_config.json differ: the file counts"
            ])
        let same = try read(["tokenizer_config.json": config, "chat_template.jinja": "c"])
        #expect(warnings(same).isEmpty)
        #expect(
            try read(["tokenizer_config.json": config, "chat_template.json": json])
                .templates.standard == "c")
        let last = try read(["chat_template.json": json])
        #expect(last.templates.standard == "j")
        #expect(
            warnings(last) == [
                "the chat template is chat_template.json's, which transformers reads for processors only"
            ])
    }

    @Test("one that cannot be rendered is kept, and said why")
    func unknown() throws {
        let found = try read(["chat_template.jinja": "{% include 'x' %}"])
        #expect(found.templates.standard == "{% include 'x' %}")
        #expect(
            warnings(found) == [
                "the chat template 'default' is kept, but cannot be rendered here: line 1, column 4: not supported: the tag 'include'"
            ])
    }

    @Test("what is no template is refused", arguments: ["5}", #"[{"name": "x"}]}"#, #"{"a": 1}}"#])
    func wrong(_ value: String) throws {
        let error = #expect(throws: PackError.self) {
            try read(["tokenizer_config.json": Self.config + value])
        }
        #expect(
            error?.description.contains("neither a text nor a list of named ones") == true,
            "\(error?.description ?? "")")
    }

    @Test(
        "the packed file keeps them under its digest, and unpacking gives them back",
        arguments: [
            ["chat_template.jinja": "{{ bos_token }}é\r\n"],
            [
                "tokenizer_config.json": config
                    + #"[{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}"#
            ],
            // An end token of the template's that is not the first that ends answers.
            [
                "tokenizer_config.json": config + #""{{ eos_token }}"}"#,
                "generation_config.json": #"{"eos_token_id": [1, 2]}"#,
            ],
            // Without special tokens of its own.
            [
                "tokenizer_config.json":
                    #"{"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "x"}"#
            ],
            [:],
        ])
    func packed(_ files: [String: String]) throws {
        try withFiles(files) { directory in
            let (first, second) = (directory.appending("1.gguf"), directory.appending("2.gguf"))
            _ = try PackJob(Checkpoint(directory: directory), to: first).run()
            let file = try PackedFile(path: first)
            let found = try TokenizerImport(Checkpoint(directory: directory))
            let templates = try PackedTemplates(file.metadata)
            #expect(templates == found?.templates)
            #expect(templates.isEmpty == files.isEmpty)
            #expect(file.metadata.keys.contains { $0.contains("chat_template") } == !files.isEmpty)
            let out = directory.appending("out")
            try UnpackJob(file, to: out).run()
            _ = try PackJob(Checkpoint(directory: out), to: second).run()
            let again = try PackedFile(path: second)
            #expect(try PackedTemplates(again.metadata) == templates)
            #expect(again.modelDigest == file.modelDigest)
        }
    }
}
