// SPDX-License-Identifier: Apache-2.0

/// A chat template: what a model's authors say about how a conversation is put before it, in the part of Jinja that such templates
/// use. Renders as transformers' `apply_chat_template` does, which is Jinja's immutable sandbox with `trim_blocks`, `lstrip_blocks`,
/// `break` and `continue`, `tojson` that escapes no HTML, `raise_exception` and `strftime_now`. What is not known here is refused when
/// the template is compiled, or, where only values tell, when it is rendered. No template takes more than `TemplateLimits`.
package struct ChatTemplate: Sendable {
    private let body: Scope
    private let labels: [String]
    private let names: [String: Name]

    /// Compiles a template.
    ///
    /// - Throws: `.syntax`, `.unsupported` or `.limit`, with the place.
    package init(_ source: String) throws(TemplateError) {
        guard source.utf8.count <= TemplateLimits.source else {
            throw TemplateError(
                .limit,
                "a template of \(source.utf8.count) bytes; the limit is \(TemplateLimits.source)")
        }
        var parser = try Parser(source)
        // The names that a rendering itself gives values to.
        for name in ["loop", "caller", "kwargs", "varargs"] { _ = parser.number(name) }
        body = ScopeAnalysis.analysed(try parser.template())
        labels = parser.labels
        names = parser.names
    }

    /// Whether the template reads a variable of this name anywhere; "tools", for example.
    package func mentions(_ name: String) -> Bool { names[name] != nil }

    /// What the model is given for a conversation.
    ///
    /// - Parameters:
    ///   - messages: mappings with `role` and `content` as a rule.
    ///   - addGenerationPrompt: ends with what introduces the assistant's next message.
    ///   - bosToken: as the vocabulary spells it; nil where the model has none, and the variable is undefined then.
    ///   - variables: more, or other ones than `tools` and `documents`, which are none otherwise.
    ///   - time: what `strftime_now` gives.
    package func render(
        messages: [TemplateValue], addGenerationPrompt: Bool = true, bosToken: String? = nil,
        eosToken: String? = nil, variables: [String: TemplateValue] = [:],
        time: TemplateTime = .now
    ) throws(TemplateError) -> String {
        var all: [String: TemplateValue] = [
            "messages": .list(messages), "add_generation_prompt": .bool(addGenerationPrompt),
            "tools": .none, "documents": .none,
        ]
        if let bosToken { all["bos_token"] = .string(bosToken) }
        if let eosToken { all["eos_token"] = .string(eosToken) }
        for (name, value) in variables { all[name] = value }
        for name in Self.otherTokens where mentions(name) && all[name] == nil {
            throw TemplateError(
                .unsupported, "the template reads '\(name)', which no packed model tells")
        }
        return try render(all, time: time)
    }

    /// What transformers gives a template besides.
    private static let otherTokens = [
        "unk_token", "pad_token", "sep_token", "cls_token", "mask_token",
        "additional_special_tokens",
    ]

    /// The template with these variables and no others.
    package func render(
        _ variables: [String: TemplateValue], time: TemplateTime = .now
    ) throws(TemplateError) -> String {
        try render(variables, time: time, steps: TemplateLimits.steps)
    }

    func render(
        _ variables: [String: TemplateValue], time: TemplateTime, steps: Int
    ) throws(TemplateError) -> String {
        var values: [Name: Value] = [:]
        for (name, value) in variables {
            guard let number = names[name] else { continue }
            values[number] = try Value(value)
        }
        return try Renderer(labels: labels, variables: values, time: time, steps: steps)
            .render(body)
    }
}

extension Value {
    /// - Parameter level: levels of values around this one.
    init(_ value: TemplateValue, level: Int = 0) throws(TemplateError) {
        guard level < TemplateLimits.nesting else {
            throw TemplateError(
                .limit, "values nested more than \(TemplateLimits.nesting) levels deep")
        }
        switch value {
        case .none: self = .none
        case .bool(let flag): self = .bool(flag)
        case .integer(let number): self = .int(number)
        case .number(let number): self = .float(number)
        case .string(let text): self = .text(Text(text))
        case .list(let elements):
            var values: [Value] = []
            for element in elements { values.append(try Value(element, level: level + 1)) }
            self = .list(Items(values, depth: 1 + (values.map(\.depth).max() ?? 0)))
        case .object(let members):
            var pairs: [(key: Value, hash: Value.Key, value: Value)] = []
            for (name, member) in members {
                let text = Text(name)
                pairs.append((.text(text), .text(text), try Value(member, level: level + 1)))
            }
            self = .dict(Dict(pairs, depth: 1 + (pairs.map(\.value.depth).max() ?? 0)))
        }
    }
}
