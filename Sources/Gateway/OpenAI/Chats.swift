// SPDX-License-Identifier: Apache-2.0

import ChatTemplates
import Glibc
import MMFree
import ModelStore

extension Gateway {
    func chatCompletions(_ call: IncomingCall, _ reply: Reply) async throws {
        let request = try ChatRequest(call.body)
        let prompt = try await prompt(request.messages, request.model, call)
        let plan = GenerationPlan(
            model: request.model, prompts: [.tokens(prompt)], options: request.options,
            n: request.n, bestOf: request.n, isStream: request.isStream,
            hasUsage: request.hasUsage)
        try await answer(
            plan, ChatForm(hasLogprobs: request.options.logprobs != nil), "chatcmpl-", call, reply)
    }

    /// What the model reads of a conversation: its own template's text, in tokens, as transformers' `apply_chat_template` makes them. The
    /// template writes the beginning-of-text token itself.
    func prompt(
        _ messages: [ChatMessage], _ model: String, _ call: IncomingCall
    ) async throws -> [TokenID] {
        let template: ModelTemplate
        do { template = try await call.client.chatTemplate(model: model) } catch let error
            as MMFreeError where error.reason == "NO_CHAT_TEMPLATE"
        {
            throw APIError(
                400, "no_chat_template",
                "\(error.message). POST /v1/completions continues text without one; a file NAME.jinja beside the model's supplies one",
                param: "messages")
        }
        let text: String
        do throws(TemplateError) {
            text = try ChatTemplate(template.source).render(
                messages: messages.map(\.value), bosToken: template.bosToken,
                eosToken: template.eosToken)
        } catch {
            throw APIError(
                400, error.kind == .raised ? "conversation_refused" : "chat_template_failed",
                "the chat template of model '\(template.model)': \(error)", param: "messages")
        }
        let tokens = try await call.client.tokenize(
            text, model: template.model, addsBOS: false, parsesSpecialTokens: true)
        return tokens.ids
    }

    /// The usual spelling of an end-of-text token that is a control token of the model.
    private func endToken(_ call: IncomingCall) async throws -> String? {
        for name in ["</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>"] {
            let ids = try await call.client.tokenize(
                name, addsBOS: false, parsesSpecialTokens: true
            ).ids
            if ids.count == 1, try await call.client.detokenize(ids).isEmpty { return name }
        }
        return nil
    }

    /// What lm-evaluation-harness and vLLM's clients ask of a tokenizer.
    func tokenizerInfo(_ call: IncomingCall, _ reply: Reply) async throws {
        var template: ModelTemplate?
        do { template = try await call.client.chatTemplate() } catch let error as MMFreeError
            where error.reason == "NO_CHAT_TEMPLATE"
        {}
        func text(_ text: String?) -> JSON { text.map { .string($0) } ?? .null }
        var (bos, eos) = (template?.bosToken, template?.eosToken)
        if template == nil {
            let first = try await call.client.tokenize("", addsBOS: true).ids
            if !first.isEmpty {
                bos = try await call.client.detokenize(first, keepsSpecialTokens: true)
            }
            eos = try await endToken(call)
        }
        try await reply.send(
            .object([
                .init("tokenizer_class", .string("LlamaTokenizer")),
                .init("bos_token", text(bos)),
                .init("eos_token", text(eos)),
                .init("chat_template", text(template?.source)),
            ]))
    }
}
