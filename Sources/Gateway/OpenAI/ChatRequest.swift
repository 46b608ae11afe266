// SPDX-License-Identifier: Apache-2.0

import ChatTemplates
import MMFree
import ModelStore

/// A message of a conversation.
struct ChatMessage: Equatable {
    var role: String
    var content: String
    var name: String?

    var value: TemplateValue {
        var members: [(name: String, value: TemplateValue)] = [
            ("role", .string(role)), ("content", .string(content)),
        ]
        if let name { members.append(("name", .string(name))) }
        return .object(members)
    }
}

/// `POST /v1/chat/completions`, checked.
struct ChatRequest {
    let model: String
    let messages: [ChatMessage]
    let options: GenerateOptions
    let n: Int
    let isStream: Bool
    let hasUsage: Bool

    init(_ bytes: [UInt8]) throws(APIError) {
        var fields = try Fields(bytes)
        model = try fields.string("model") ?? ""
        messages = try fields.messages()
        var options = try fields.sampling()
        let old = try fields.integer("max_tokens", 1...Int(Int32.max))
        options.maxTokens = try fields.integer("max_completion_tokens", 1...Int(Int32.max)) ?? old
        let hasLogprobs = try fields.bool("logprobs") ?? false
        let top = try fields.integer("top_logprobs", 0...20)
        if top != nil, !hasLogprobs {
            throw .invalid("top_logprobs", "only with \"logprobs\": true")
        }
        options.logprobs = hasLogprobs ? top ?? 0 : nil
        n = try fields.integer("n", 1...128) ?? 1
        (isStream, hasUsage) = try fields.streaming()
        options.format = try fields.responseFormat()
        for name in ["tools", "functions"] { try fields.refuse(name, "the models call none") }
        for name in ["tool_choice", "function_call"] {
            if let choice = fields.value(name), choice.string != "none", choice.string != "auto" {
                throw .invalid(
                    name, "the models call no tools", code: "unsupported_parameter")
            }
        }
        if let modalities = fields.value("modalities"), modalities.array?.map(\.string) != ["text"]
        {
            throw .invalid(
                "modalities", "the models write text only", code: "unsupported_parameter")
        }
        for name in ["audio", "reasoning_effort", "verbosity", "web_search_options"] {
            try fields.refuse(name, "the models have nothing of the kind")
        }
        // How tools would be called, and a guess at the answer that changes nothing in it.
        fields.ignore("parallel_tool_calls", "prediction")
        try fields.finish()
        self.options = options
    }
}

extension Fields {
    /// What the answer is to obey; `nil` for any text.
    fileprivate mutating func responseFormat() throws(APIError) -> AnswerFormat? {
        guard var format = try object("response_format") else { return nil }
        let type = try format.string("type")
        var rule: AnswerFormat?
        switch type {
        case "text": break
        case "json_object": rule = .jsonObject
        case "json_schema":
            guard var named = try format.object("json_schema"), let schema = named.value("schema")
            else {
                throw .invalid(
                    format.param("json_schema.schema"), "it is missing",
                    code: "missing_required_parameter")
            }
            // Every schema is obeyed strictly.
            named.ignore("name", "description", "strict")
            try named.finish()
            rule = .jsonSchema(String(decoding: schema.writtenCompactly(), as: UTF8.self))
        default:
            throw .invalid(
                format.param("type"), "allowed: \"text\", \"json_object\" and \"json_schema\"")
        }
        try format.finish()
        return rule
    }

    /// Ollama's `format`: "json", or a schema.
    mutating func ollamaFormat() throws(APIError) -> AnswerFormat? {
        guard let value = value("format"), !value.isOff else { return nil }
        if value.string == "json" { return .jsonObject }
        guard value.members != nil else {
            throw .invalid(param("format"), "allowed: \"json\", or a JSON schema")
        }
        return .jsonSchema(String(decoding: value.writtenCompactly(), as: UTF8.self))
    }

    /// - Parameter isOllama: content is a string, and there may be images.
    mutating func messages(isOllama: Bool = false) throws(APIError) -> [ChatMessage] {
        guard let items = value("messages")?.array, !items.isEmpty else {
            throw .invalid(
                param("messages"), "give a list of messages", code: "missing_required_parameter")
        }
        var messages: [ChatMessage] = []
        for (index, item) in items.enumerated() {
            guard let members = item.members else {
                throw .invalid(
                    param("messages[\(index)]"), "\(item.kind) where an object belongs",
                    code: "invalid_type")
            }
            var fields = Fields(members, param("messages[\(index)]."))
            messages.append(try fields.message())
            try fields.finish()
        }
        return messages
    }

    private mutating func message() throws(APIError) -> ChatMessage {
        guard let role = try string("role") else {
            throw .invalid(param("role"), "it is missing", code: "missing_required_parameter")
        }
        guard ["system", "developer", "user", "assistant"].contains(role) else {
            throw .invalid(
                param("role"),
                "\"\(printable(role))\"; allowed: system, developer, user and assistant")
        }
        for name in ["tool_calls", "function_call", "audio", "images", "refusal"] {
            try refuse(name, "the models read text only, and call no tools")
        }
        // What developers say is what templates know as the system's.
        return ChatMessage(
            role: role == "developer" ? "system" : role, content: try content(),
            name: try string("name"))
    }

    /// A text, or a list of texts, which are one.
    private mutating func content() throws(APIError) -> String {
        guard let value = value("content") else { return "" }
        if let text = value.string { return text }
        guard let parts = value.array else {
            throw .invalid(
                param("content"), "\(value.kind) where a string or a list of parts belongs",
                code: "invalid_type")
        }
        var text = ""
        for (index, part) in parts.enumerated() {
            guard let members = part.members else {
                throw .invalid(
                    param("content[\(index)]"), "\(part.kind) where an object belongs",
                    code: "invalid_type")
            }
            var fields = Fields(members, param("content[\(index)]."))
            guard try fields.string("type") == "text" else {
                throw .invalid(
                    fields.param("type"), "only \"text\": the models read nothing else",
                    code: "unsupported_parameter")
            }
            text += try fields.string("text") ?? ""
            try fields.finish()
        }
        return text
    }
}
