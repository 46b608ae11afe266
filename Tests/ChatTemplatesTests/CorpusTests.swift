// SPDX-License-Identifier: Apache-2.0

import ModelStore
import SystemPackage
import TestSupport
import Testing

@testable import ChatTemplates

@Suite("Published templates render as transformers renders them")
struct CorpusTests {
    static let corpus = FilePath(#filePath).removingLastComponent().appending("Corpus")
    static let templates = names(in: corpus).filter { $0.hasSuffix(".jinja") }
    /// When the expected renderings were made.
    static let time = TemplateTime(year: 2024, month: 7, day: 26)

    private static func json(_ name: String) throws -> JSON {
        try JSON(parsing: bytes(of: corpus.appending(name)))
    }

    @Test("each template with each conversation", arguments: templates)
    func renders(_ name: String) throws {
        let source = String(
            decoding: try bytes(of: Self.corpus.appending(name)), as: UTF8.self)
        let template = try ChatTemplate(source)
        let expected = try #require(
            try Self.json("expected.json")[String(name.dropLast(6))]?.members)
        let conversations = try Self.json("conversations.json")
        #expect(expected.count == conversations.members?.count)
        for (conversation, text) in expected.map({ ($0.name, $0.value.string) }) {
            var variables = try #require(conversations[conversation]?.members)
            let messages = try #require(variables.first { $0.name == "messages" }?.value.array)
            variables.removeAll { $0.name == "messages" || $0.name == "add_generation_prompt" }
            let adds = conversations[conversation]?["add_generation_prompt"]?.bool ?? true
            let rendered = try? template.render(
                messages: messages.map(TemplateValue.init), addGenerationPrompt: adds,
                bosToken: "<s>", eosToken: "</s>",
                variables: Dictionary(
                    uniqueKeysWithValues: variables.map { ($0.name, TemplateValue($0.value)) }),
                time: Self.time)
            #expect(
                rendered.map { Array($0.utf8) } == text.map { Array($0.utf8) },
                "\(name), \(conversation)")
        }
    }

    @Test("the corpus is there")
    func isThere() { #expect(Self.templates.count == 21) }
}

extension TemplateValue {
    init(_ json: JSON) {
        switch json {
        case .null: self = .none
        case .bool(let flag): self = .bool(flag)
        case .integer(let number): self = .integer(number)
        case .number(let number): self = .number(number)
        case .string(let text): self = .string(text)
        case .array(let elements): self = .list(elements.map { TemplateValue($0) })
        case .object(let members):
            self = .object(members.map { (name: $0.name, value: TemplateValue($0.value)) })
        }
    }
}
