// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore

/// Texts to tokens and back, in llama-server's words and in vLLM's, which share their paths.
extension Gateway {
    func tokenize(_ call: IncomingCall, _ reply: Reply) async throws {
        var fields = try Fields(call.body)
        let model = try fields.string("model") ?? ""
        // llama-server: content; adds nothing unless asked to. vLLM: prompt; adds what the model wants unless told not to.
        let content = try fields.string("content")
        let prompt = try fields.string("prompt")
        guard let text = content ?? prompt, content == nil || prompt == nil else {
            throw APIError.invalid(
                "prompt", "give \"content\" (llama-server) or \"prompt\" (vLLM), one of them",
                code: "missing_required_parameter")
        }
        let adds: Bool
        if content != nil {
            adds = try fields.bool("add_special") ?? false
        } else {
            adds = try fields.bool("add_special_tokens") ?? true
        }
        let parses = try fields.bool("parse_special") ?? true
        let hasPieces = try fields.bool("with_pieces") ?? false
        let hasStrings = try fields.bool("return_token_strs") ?? false
        try fields.finish()
        let tokens = try await call.client.tokenize(
            text, model: model, addsBOS: adds, parsesSpecialTokens: parses)
        let ids = tokens.ids.map { JSON.integer(Int($0)) }
        var members: [JSON.Member] = []
        if hasPieces {
            let pairs = zip(ids, tokens.pieces).map {
                JSON.object([.init("id", $0), .init("piece", .string($1))])
            }
            members = [.init("tokens", .array(pairs))]
        } else {
            members = [.init("tokens", .array(ids))]
        }
        if prompt != nil { members.append(.init("count", .integer(ids.count))) }
        if hasStrings {
            members.append(.init("token_strs", .array(tokens.pieces.map { .string($0) })))
        }
        try await reply.send(.object(members))
    }

    func detokenize(_ call: IncomingCall, _ reply: Reply) async throws {
        var fields = try Fields(call.body)
        let model = try fields.string("model") ?? ""
        guard let items = fields.value("tokens")?.array else {
            throw APIError.invalid("tokens", "give a list of tokens")
        }
        let ids = items.isEmpty ? [] : try fields.tokens(items, "tokens")
        try fields.finish()
        let text = try await call.client.detokenize(
            ids, model: model, keepsSpecialTokens: true)
        try await reply.send(
            .object([.init("content", .string(text)), .init("prompt", .string(text))]))
    }

    /// Prometheus' text: of the caller's own requests.
    func metrics(_ call: IncomingCall, _ reply: Reply) async throws {
        let text = try await call.client.metrics()
        try await reply.send(
            bytes: Array(text.utf8), type: "text/plain; version=0.0.4; charset=utf-8")
    }
}
