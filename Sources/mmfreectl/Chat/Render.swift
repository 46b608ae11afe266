// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import ChatTemplates
import MMFree
import ModelStore

struct Render: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what a chat template makes of a conversation.",
        discussion: """
            The conversation is JSON: a list of messages, or an object of all that the template may read (messages, tools,
            add_generation_prompt, bos_token, …). Without --template the model's own is taken, and a daemon asked for it.
            """)

    @Argument(help: "The file; standard input if absent or \"-\".", completion: .file())
    var file = "-"

    @Option(help: "A template (Jinja) instead of the model's.", completion: .file())
    var template: String?

    @Option(help: "One of several that the model has, such as tool_use.") var name: String?
    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    @Flag(
        inversion: .prefixedNo,
        help: "End with what introduces the assistant's next message.")
    var generationPrompt = true

    @Flag(help: "Show the template itself.") var source = false

    static let sizeLimit = 16 << 20

    func validate() throws {
        if template != nil, name != nil { throw ValidationError("give --template or --name") }
    }

    func run() async throws {
        let text: String
        let title: String
        var variables: [String: TemplateValue] = [:]
        if let template {
            text = try Input(template).text(limit: ChatStyle.sizeLimit)
            title = template
        } else {
            let found = try await connection.client().chatTemplate(
                model: model.model, name: name ?? "")
            text = found.source
            title = "the chat template of model '\(found.model)'"
            variables["bos_token"] = found.bosToken.map { .string($0) }
            variables["eos_token"] = found.eosToken.map { .string($0) }
        }
        if source { return Terminal.printModelText(text) }
        let compiled = try ConversationStyle.compiled(text, title)
        let messages = try conversation(&variables)
        do throws(TemplateError) {
            Terminal.printModelText(
                try compiled.render(
                    messages: messages, addGenerationPrompt: generationPrompt,
                    variables: variables))
        } catch { throw Failure("\(title): \(error)", .data) }
    }

    private func conversation(
        _ variables: inout [String: TemplateValue]
    ) throws -> [TemplateValue] {
        let json: JSON
        do { json = try JSON(parsing: try Input(file).bytes(limit: Self.sizeLimit)) } catch let
            error as JSONError
        {
            throw Failure("\(file), byte \(error.offset): \(error.what)", .data)
        }
        if let messages = json.array { return messages.map(TemplateValue.init) }
        for member in json.members ?? [] { variables[member.name] = TemplateValue(member.value) }
        guard case .list(let messages)? = variables["messages"] else {
            throw Failure(
                "\(file) is \(json.kind); a list of messages, or an object with a list called messages, is read",
                .data)
        }
        return messages
    }
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
