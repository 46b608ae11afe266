// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore
import SystemPackage
import TestSupport
import Testing

@testable import Gateway

@Suite("/v1/chat/completions", .fewAtOnce, .bounded)
struct ChatTests {
    private static let template =
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if messages[0].role == 'assistant' %}{{ raise_exception('begins with an answer') }}{% endif %}assistant:"

    /// A gateway before a model with that template.
    private func withChat(_ body: (Rig) async throws -> Void) async throws {
        try await withGateway { rig in
            let beside = FilePath(rig.socket).removingLastComponent().appending("tiny.jinja")
            try write(Array(Self.template.utf8), to: beside)
            try await body(rig)
        }
    }

    private static let messages =
        #""messages":[{"role":"developer","content":"be"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#

    @Test(
        "the model reads what its template makes of the conversation, and answers as without HTTP")
    func sameAnswer() async throws {
        try await withChat { rig in
            let wanted = try await withClient(socket: rig.daemonSocket) { client in
                let tokens = try await client.tokenize(
                    "<s>system: be\nuser: ab\nassistant:", model: "tiny", addsBOS: false,
                    parsesSpecialTokens: true)
                var options = GenerateOptions(maxTokens: 12, temperature: 1, seed: 5)
                options.topP = 1
                options.logprobs = 2
                let settled = options
                return try await client.generate(
                    .tokens(tokens.ids), model: "tiny", options: settled
                ).collect()
            }
            #expect(wanted.usage.promptTokens > 3)
            let base =
                #"{"model":"tiny",\#(Self.messages),"seed":5,"max_completion_tokens":12,"logprobs":true,"top_logprobs":2"#
            let whole = try await rig.post("/v1/chat/completions", base + "}").json
            #expect(whole["object"]?.string == "chat.completion")
            let choice = try #require(whole["choices"]?.array?.first)
            #expect(choice["message"]?["role"]?.string == "assistant")
            #expect(choice["message"]?["content"]?.string == wanted.text)
            #expect(choice["finish_reason"]?.string == wanted.finishReason.rawValue)
            #expect(whole["usage"]?["prompt_tokens"]?.integer == wanted.usage.promptTokens)
            let entries = choice["logprobs"]?["content"]?.array ?? []
            #expect(
                entries.compactMap { $0["logprob"]?.number }.map { Float($0) }
                    == wanted.logprobs.map(\.chosen.logprob))
            #expect(entries.allSatisfy { $0["top_logprobs"]?.array?.count == 2 })

            let streamed = try await rig.post("/v1/chat/completions", base + #","stream":true}"#)
            #expect(streamed.events.last == "[DONE]")
            let parts = try streamed.events.dropLast().map { try JSON(parsing: Array($0.utf8)) }
            #expect(parts.allSatisfy { $0["object"]?.string == "chat.completion.chunk" })
            let choices = parts.compactMap { $0["choices"]?.array?.first }
            #expect(choices.first?["delta"]?["role"]?.string == "assistant")
            #expect(
                choices.compactMap { $0["delta"]?["content"]?.string }.joined() == wanted.text)
            #expect(choices.dropLast().allSatisfy { $0["finish_reason"]?.isNull == true })
            #expect(choices.last?["finish_reason"]?.string == wanted.finishReason.rawValue)
            #expect(choices.last?["delta"]?.members?.isEmpty == true)
        }
    }

    @Test("Ollama's /api/chat answers the same conversation")
    func ollama() async throws {
        try await withChat { rig in
            let body =
                #"{"model":"tiny",\#(Self.messages),"options":{"seed":5,"num_predict":8,"temperature":1,"top_p":1,"top_k":0}"#
            let whole = try await rig.post("/api/chat", body + #","stream":false}"#).json
            let openAI = try await rig.post(
                "/v1/chat/completions",
                #"{"model":"tiny",\#(Self.messages),"seed":5,"max_tokens":8}"#
            ).json
            #expect(
                whole["message"]?["content"]?.string
                    == openAI["choices"]?.array?.first?["message"]?["content"]?.string)
            let lines = try await rig.post("/api/chat", body + "}").text.split(separator: "\n")
                .map { try JSON(parsing: Array($0.utf8)) }
            #expect(
                lines.compactMap { $0["message"]?["content"]?.string }.joined()
                    == whole["message"]?["content"]?.string)
            #expect(lines.last?["done"]?.bool == true)
        }
    }

    @Test("an answer obeys its schema; one that cannot be obeyed is refused")
    func schema() async throws {
        try await withChat { rig in
            func body(_ schema: String) -> String {
                #"{"model":"tiny",\#(Self.messages),"max_tokens":40,"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":\#(schema)}}}"#
            }
            let answer = try await rig.post("/v1/chat/completions", body(#"{"const":"ab"}"#)).json
            #expect(
                answer["choices"]?.array?.first?["message"]?["content"]?.string == #""ab""#)
            #expect(answer["choices"]?.array?.first?["finish_reason"]?.string == "stop")
            let wrong = try await rig.post("/v1/chat/completions", body(#"{"type":"nothing"}"#))
            #expect(wrong.status == 400)
            let ollama = try await rig.post(
                "/api/chat",
                #"{"model":"tiny",\#(Self.messages),"stream":false,"format":{"const":"ab"}}"#
            ).json
            #expect(ollama["message"]?["content"]?.string == #""ab""#)
        }
    }

    @Test("a model without a template is 400 no_chat_template, which says what to do")
    func noTemplate() async throws {
        try await withGateway { rig in
            for more in ["", #","stream":true"#] {
                let answer = try await rig.post(
                    "/v1/chat/completions", #"{"model":"tiny",\#(Self.messages)\#(more)}"#)
                #expect(answer.status == 400)
                #expect(answer.error.code == "no_chat_template")
                #expect(answer.error.message?.contains("/v1/completions") == true)
                #expect(answer.error.message?.contains("tiny.jinja") == true)
            }
            #expect(
                try await rig.post("/api/chat", #"{"model":"tiny",\#(Self.messages)}"#).status
                    == 400
            )
        }
    }

    @Test("a conversation that the template refuses is refused with its words")
    func refusedByTemplate() async throws {
        try await withChat { rig in
            let answer = try await rig.post(
                "/v1/chat/completions",
                #"{"model":"tiny","messages":[{"role":"assistant","content":"x"}]}"#)
            #expect(answer.status == 400)
            #expect(answer.error.code == "conversation_refused")
            #expect(answer.error.message?.contains("begins with an answer") == true)
        }
    }

    @Test(
        "what cannot be done is refused by its place",
        arguments: [
            (#""messages":[]"#, "messages"), (#""messages":[{"content":"a"}]"#, "messages[0].role"),
            (#""messages":[{"role":"tool","content":"a"}]"#, "messages[0].role"),
            (#""messages":[{"role":"user","content":1}]"#, "messages[0].content"),
            (
                #""messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]"#,
                "messages[0].content[0].type"
            ), (#""messages":[{"role":"user","content":"a","x":1}]"#, "messages[0].x"),
            (#""messages":[{"role":"user","content":"a"}],"tools":[{}]"#, "tools"),
            (
                #""messages":[{"role":"user","content":"a"}],"tool_choice":"required""#,
                "tool_choice"
            ),
            (#""messages":[{"role":"user","content":"a"}],"top_logprobs":1"#, "top_logprobs"),
            (
                #""messages":[{"role":"user","content":"a"}],"reasoning_effort":"low""#,
                "reasoning_effort"
            ),
            (
                #""messages":[{"role":"user","content":"a"}],"response_format":{"type":"yaml"}"#,
                "response_format.type"
            ), (#""messages":[{"role":"user","content":"a"}],"thinking":true"#, "thinking"),
        ])
    func refusals(_ members: String, _ param: String) throws {
        let error = #expect(throws: APIError.self) {
            try ChatRequest(Array("{\(members)}".utf8))
        }
        #expect(error?.param == param)
    }

    @Test("the tokenizer's facts are those of the model, with a template and without")
    func tokenizerInfo() async throws {
        try await withGateway { rig in
            let info = try await rig.get("/tokenizer_info").json
            #expect(info["bos_token"]?.string == "<s>")
            #expect(info["eos_token"]?.string == "</s>")
            #expect(info["chat_template"]?.isNull == true)
        }
        try await withChat { rig in
            let info = try await rig.get("/tokenizer_info").json
            #expect(info["eos_token"]?.string == "</s>")
            #expect(info["chat_template"]?.string == Self.template)
        }
    }
}
