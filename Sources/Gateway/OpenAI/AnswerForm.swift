// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore

/// How one kind of request writes its answers.
protocol AnswerForm: Sendable {
    /// `object` of a whole answer, and of a part of a stream.
    static var object: String { get }
    static var partObject: String { get }

    /// A whole choice.
    func choice(_ index: Int, _ answer: Completion, _ finish: String) -> JSON

    /// A choice's parts of a stream, each with its place and what was written of it before.
    func begin(_ index: Int) -> JSON?
    func part(
        _ index: Int, _ event: GenerateEvent, _ state: inout PartState, _ finish: String?
    ) -> [JSON]
}

/// What of a streamed choice its later parts depend on.
struct PartState {
    /// Unicode scalars of the tokens that were reported.
    var offset = 0
    /// Tokens of the answer.
    var tokens = 0
}

/// `/v1/completions`.
struct CompletionForm: AnswerForm {
    static let object = "text_completion"
    static let partObject = "text_completion"
    let hasLogprobs: Bool
    let echo: Bool

    func choice(_ index: Int, _ answer: Completion, _ finish: String) -> JSON {
        var logprobs = LegacyLogprobs()
        for token in answer.promptLogprobs + answer.logprobs { logprobs.append(token) }
        if isEndAlone(answer.tokens.count, finish) { logprobs.appendEnd() }
        return json(index, answer.text, logprobs, finish)
    }

    func begin(_ index: Int) -> JSON? { nil }

    func part(
        _ index: Int, _ event: GenerateEvent, _ state: inout PartState, _ finish: String?
    ) -> [JSON] {
        state.tokens += event.tokens.count
        var logprobs = LegacyLogprobs(offset: state.offset)
        for token in event.promptLogprobs + event.logprobs { logprobs.append(token) }
        state.offset = logprobs.offset
        let endsAlone = finish.map { isEndAlone(state.tokens, $0) } ?? false
        if endsAlone { logprobs.appendEnd() }
        let isEmpty = event.text.isEmpty && (!hasLogprobs || logprobs.isEmpty) && finish == nil
        return isEmpty ? [] : [json(index, event.text, logprobs, finish)]
    }

    /// Who asks for a prompt's log-probabilities takes the last entry for the answer's: there must be one, also of an end.
    private func isEndAlone(_ tokens: Int, _ finish: String) -> Bool {
        echo && hasLogprobs && tokens == 0 && finish == "stop"
    }

    private func json(
        _ index: Int, _ text: String, _ logprobs: LegacyLogprobs, _ finish: String?
    ) -> JSON {
        .object([
            .init("index", .integer(index)), .init("text", .string(text)),
            .init("logprobs", hasLogprobs ? logprobs.json : .null),
            .init("finish_reason", finish.map { .string($0) } ?? .null),
        ])
    }
}

/// `/v1/chat/completions`.
struct ChatForm: AnswerForm {
    static let object = "chat.completion"
    static let partObject = "chat.completion.chunk"
    let hasLogprobs: Bool

    func choice(_ index: Int, _ answer: Completion, _ finish: String) -> JSON {
        .object([
            .init("index", .integer(index)),
            .init(
                "message",
                .object([
                    .init("role", .string("assistant")), .init("content", .string(answer.text)),
                    .init("refusal", .null),
                ])), .init("logprobs", logprobs(answer.logprobs)),
            .init("finish_reason", .string(finish)),
        ])
    }

    func begin(_ index: Int) -> JSON? {
        json(index, [.init("role", .string("assistant")), .init("content", .string(""))], [], nil)
    }

    func part(
        _ index: Int, _ event: GenerateEvent, _ state: inout PartState, _ finish: String?
    ) -> [JSON] {
        var parts: [JSON] = []
        if !event.text.isEmpty || !event.logprobs.isEmpty {
            parts.append(
                json(index, [.init("content", .string(event.text))], event.logprobs, nil))
        }
        if let finish { parts.append(json(index, [], [], finish)) }
        return parts
    }

    private func json(
        _ index: Int, _ delta: [JSON.Member], _ tokens: [TokenLogprobs], _ finish: String?
    ) -> JSON {
        .object([
            .init("index", .integer(index)), .init("delta", .object(delta)),
            .init("logprobs", tokens.isEmpty ? .null : logprobs(tokens)),
            .init("finish_reason", finish.map { .string($0) } ?? .null),
        ])
    }

    private func logprobs(_ tokens: [TokenLogprobs]) -> JSON {
        guard hasLogprobs else { return .null }
        func members(_ token: TokenLogprobs.Alternative) -> [JSON.Member] {
            [
                .init("token", .string(String(decoding: token.bytes, as: UTF8.self))),
                .init("logprob", .float(token.logprob)),
                .init("bytes", .array(token.bytes.map { .integer(Int($0)) })),
            ]
        }
        return .object([
            .init(
                "content",
                .array(
                    tokens.map { token in
                        .object(
                            members(token.chosen) + [
                                .init(
                                    "top_logprobs", .array(token.top.map { .object(members($0)) }))
                            ])
                    })), .init("refusal", .null),
        ])
    }
}
