// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore
import Serving
import TestSupport
import Testing

@testable import Gateway

@Suite("/v1/completions", .fewAtOnce, .bounded)
struct CompletionTests {
    /// What the daemon answers to the same request without HTTP.
    private func direct(
        _ rig: Rig, _ prompt: Prompt = "a bc", _ change: (inout GenerateOptions) -> Void = { _ in }
    ) async throws -> Completion {
        var options = GenerateOptions(maxTokens: 16, temperature: 1, seed: 5)
        options.topP = 1
        change(&options)
        return try await withClient(socket: rig.daemonSocket) { client in
            try await client.generate(prompt, model: "tiny", options: options).collect()
        }
    }

    private static let base = #""model":"tiny","prompt":"a bc","seed":5"#

    @Test(
        "what stands around each part is written once, and as for a whole answer",
        arguments: [false, true])
    func frames(hasUsage: Bool) {
        let head = AnswerHead(
            id: "cmpl-1", object: "text_completion", created: 7, model: "a]}\"", fingerprint: nil)
        let choice = JSON.object([.init("text", .string("b]}"))])
        var part: [UInt8] = []
        PartFrame(head, hasUsage: hasUsage).write(choice, to: &part)
        #expect(part == head.json([choice], hasUsage ? .null : nil).writtenCompactly())
    }

    @Test("the same seed gives the same text through HTTP, whole and streamed, as without it")
    func sameAnswer() async throws {
        try await withGateway { rig in
            let wanted = try await direct(rig)
            let answer = try await rig.post("/v1/completions", "{\(Self.base)}")
            #expect(answer.status == 200)
            #expect(answer.headers["content-type"] == "application/json")
            let json = try answer.json
            let choice = try #require(json["choices"]?.array?.first)
            #expect(choice["text"]?.string == wanted.text)
            #expect(choice["finish_reason"]?.string == wanted.finishReason.rawValue)
            #expect(json["object"]?.string == "text_completion")
            #expect(json["model"]?.string == "tiny")
            #expect(json["system_fingerprint"]?.string == wanted.started?.modelDigest)
            #expect(json["usage"]?["prompt_tokens"]?.integer == wanted.usage.promptTokens)
            #expect(json["usage"]?["completion_tokens"]?.integer == wanted.tokens.count)
            #expect(
                json["usage"]?["total_tokens"]?.integer
                    == wanted.usage.promptTokens + wanted.tokens.count)

            let streamed = try await rig.post("/v1/completions", #"{\#(Self.base),"stream":true}"#)
            #expect(streamed.headers["content-type"] == "text/event-stream; charset=utf-8")
            #expect(streamed.events.last == "[DONE]")
            let parts = try streamed.events.dropLast().map { try JSON(parsing: Array($0.utf8)) }
            let texts = parts.compactMap { $0["choices"]?.array?.first?["text"]?.string }
            #expect(texts.joined() == wanted.text)
            // Every part has the member, and the last alone says how it ended.
            let ends = parts.map { $0["choices"]?.array?.first?["finish_reason"] }
            #expect(ends.dropLast().allSatisfy { $0?.isNull == true })
            #expect(ends.last??.string == wanted.finishReason.rawValue)
            #expect(parts.allSatisfy { $0["usage"] == nil })
        }
    }

    @Test("tokens are taken as they are")
    func tokens() async throws {
        try await withGateway { rig in
            let wanted = try await direct(rig, [1, 261, 262])
            let answer = try await rig.post(
                "/v1/completions", #"{"model":"tiny","prompt":[1,261,262],"seed":5}"#)
            #expect(try answer.json["choices"]?.array?.first?["text"]?.string == wanted.text)
            let several = try await rig.post(
                "/v1/completions",
                #"{"model":"tiny","prompt":[[1,261,262],[1,262]],"seed":5,"stop":null}"#)
            let choices = try several.json["choices"]?.array ?? []
            #expect(choices.map { $0["index"]?.integer } == [0, 1])
            #expect(choices.first?["text"]?.string == wanted.text)
        }
    }

    @Test("a stream ends with the usage if asked to; all other parts have null there")
    func usage() async throws {
        try await withGateway { rig in
            let answer = try await rig.post(
                "/v1/completions",
                #"{\#(Self.base),"stream":true,"stream_options":{"include_usage":true}}"#)
            let parts = try answer.events.dropLast().map { try JSON(parsing: Array($0.utf8)) }
            #expect(parts.dropLast().allSatisfy { $0["usage"]?.isNull == true })
            let last = try #require(parts.last)
            #expect(last["choices"]?.array?.isEmpty == true)
            #expect(last["usage"]?["completion_tokens"]?.integer == 16)
        }
    }

    @Test("log-probabilities are the daemon's, with the digits that give them back")
    func logprobs() async throws {
        try await withGateway { rig in
            let wanted = try await direct(rig) { $0.logprobs = 3 }
            for more in ["", #","stream":true"#] {
                let answer = try await rig.post(
                    "/v1/completions", "{\(Self.base),\"logprobs\":3\(more)}")
                let parts =
                    more.isEmpty
                    ? [try answer.json]
                    : try answer.events.dropLast().map { try JSON(parsing: Array($0.utf8)) }
                let all = parts.compactMap { $0["choices"]?.array?.first?["logprobs"] }
                let logprobs = all.flatMap { $0["token_logprobs"]?.array ?? [] }
                #expect(
                    logprobs.compactMap(\.number).map { Float($0) }
                        == wanted.logprobs.map(\.chosen.logprob))
                #expect(answer.text.contains(wanted.logprobs[0].chosen.logprob.description))
                let tops = all.flatMap { $0["top_logprobs"]?.array ?? [] }
                #expect(
                    tops.compactMap { $0.members?.compactMap(\.value.number).max() }
                        .map { Float($0) } == wanted.logprobs.map { $0.top[0].logprob })
                let offsets = all.flatMap { $0["text_offset"]?.array ?? [] }.compactMap(\.integer)
                #expect(offsets.count == wanted.tokens.count)
                #expect(offsets.first == 0)
                #expect(offsets == offsets.sorted())
            }
        }
    }

    @Test("n choices have seeds of their own; the first one's is the request's")
    func severalChoices() async throws {
        try await withGateway { rig in
            let first = try await direct(rig)
            let second = try await direct(rig) { $0.seed = 6 }
            for more in ["", #","stream":true"#] {
                let answer = try await rig.post("/v1/completions", "{\(Self.base),\"n\":2\(more)}")
                var texts = ["", ""]
                let parts =
                    more.isEmpty
                    ? [try answer.json]
                    : try answer.events.dropLast().map { try JSON(parsing: Array($0.utf8)) }
                for choice in parts.flatMap({ $0["choices"]?.array ?? [] }) {
                    texts[choice["index"]?.integer ?? 0] += choice["text"]?.string ?? ""
                }
                #expect(texts == [first.text, second.text])
            }
            let counted = try await rig.post("/v1/completions", "{\(Self.base),\"n\":2}").json
            #expect(counted["usage"]?["completion_tokens"]?.integer == 32)
            #expect(
                counted["usage"]?["prompt_tokens"]?.integer == first.usage.promptTokens)
        }
    }

    @Test("best_of gives the candidate with the highest mean log-probability")
    func bestOf() async throws {
        try await withGateway { rig in
            var means: [(Float, String)] = []
            for seed in UInt64(5)..<9 {
                let one = try await direct(rig) { ($0.seed, $0.logprobs) = (seed, 0) }
                let sum = one.logprobs.reduce(Float(0)) { $0 + $1.chosen.logprob }
                means.append((sum / Float(one.logprobs.count), one.text))
            }
            let wanted = means.max { $0.0 < $1.0 }?.1
            let answer = try await rig.post("/v1/completions", "{\(Self.base),\"best_of\":4}").json
            #expect(answer["choices"]?.array?.count == 1)
            let choice = answer["choices"]?.array?.first
            #expect(choice?["text"]?.string == wanted)
            #expect(choice?["logprobs"]?.isNull == true)
        }
    }

    @Test("echo gives the prompt back first")
    func echo() async throws {
        try await withGateway { rig in
            let wanted = try await direct(rig) { $0.echo = true }
            let answer = try await rig.post("/v1/completions", "{\(Self.base),\"echo\":true}").json
            #expect(answer["choices"]?.array?.first?["text"]?.string == wanted.text)
            #expect(wanted.text.hasPrefix("a bc"))
        }
    }

    @Test(
        "echo with logprobs has the prompt's, the first null, as lm-evaluation-harness reads them")
    func echoLogprobs() async throws {
        try await withGateway { rig in
            let ids: [TokenID] = [1, 261, 262, 263]
            let scores = try await withClient(socket: rig.daemonSocket) {
                try await $0.score(.tokens(ids), model: "tiny", from: 1, top: 1)
            }
            for more in ["", #","stream":true"#] {
                let answer = try await rig.post(
                    "/v1/completions",
                    #"{"model":"tiny","prompt":[[1,261,262,263]],"max_tokens":1,"logprobs":1,"echo":true,"temperature":0\#(more)}"#
                )
                let parts =
                    more.isEmpty
                    ? [try answer.json]
                    : try answer.events.dropLast().map { try JSON(parsing: Array($0.utf8)) }
                let all = parts.compactMap { $0["choices"]?.array?.first?["logprobs"] }
                let logprobs = all.flatMap { $0["token_logprobs"]?.array ?? [] }
                #expect(logprobs.count == ids.count + 1)
                #expect(logprobs.first?.isNull == true)
                #expect(
                    logprobs.dropFirst().dropLast().compactMap(\.number).map { Float($0) }
                        == scores.logprobs.map(\.chosen.logprob))
                let tops = all.flatMap { $0["top_logprobs"]?.array ?? [] }
                #expect(tops.count == ids.count + 1)
                #expect(
                    tops.dropFirst().dropLast().compactMap {
                        $0.members?.compactMap(\.value.number).max()
                    }.map { Float($0) } == scores.logprobs.map { $0.top[0].logprob })
            }
        }
    }

    @Test(
        "what would change the answer and cannot be done is refused by name",
        arguments: [
            (#""suffix":"x""#, "suffix", "unsupported_parameter"),
            (#""best_off":2"#, "best_off", "unknown_parameter"),
            (#""n":2,"best_of":1"#, "best_of", "invalid_value"),
            (#""best_of":2,"stream":true"#, "best_of", "invalid_value"),
            (#""n":129"#, "n", "invalid_value"), (#""n":0"#, "n", "invalid_value"),
            (#""temperature":"hot""#, "temperature", "invalid_type"),
            (#""temperature":NaN"#, "temperature", "invalid_value"),
            (#""temperature":3"#, "temperature", "invalid_value"),
            (#""max_tokens":1.5"#, "max_tokens", "invalid_type"),
            (#""max_tokens":1e99"#, "max_tokens", "invalid_type"),
            (#""max_tokens":100000000"#, "max_tokens", "invalid_value"),
            (#""stop":["a",1]"#, "stop[1]", "invalid_type"),
            (#""top_k":-9223372036854775809"#, "top_k", "invalid_type"),
            (#""logit_bias":{"x":1}"#, "logit_bias", "invalid_value"),
            (#""logit_bias":{"07":1}"#, "logit_bias", "invalid_value"),
            (#""logit_bias":{"7":101}"#, "logit_bias.7", "invalid_value"),
            (#""logit_bias":{"99999":1}"#, "logit_bias", "invalid_value"),
            (#""stream_options":{"include_usage":true}"#, "stream_options", "invalid_value"),
            (
                #""stream":true,"stream_options":{"x":true}"#, "stream_options.x",
                "unknown_parameter"
            ),
            (#""store":true"#, "store", "unsupported_parameter"),
            (#""logprobs":true"#, "logprobs", "invalid_type"),
        ])
    func refusals(_ member: String, _ param: String, _ code: String) async throws {
        try await withGateway { rig in
            let answer = try await rig.post("/v1/completions", "{\(Self.base),\(member)}")
            #expect(answer.status == 400)
            #expect(answer.error.param == param)
            #expect(answer.error.code == code)
            #expect(answer.error.type == "invalid_request_error")
            #expect(answer.headers["x-should-retry"] == "false")
        }
    }

    @Test("what changes nothing is accepted, and so is null for anything")
    func harmless() async throws {
        try await withGateway { rig in
            let plain = try await rig.post("/v1/completions", "{\(Self.base)}").json
            let dressed = try await rig.post(
                "/v1/completions",
                #"{\#(Self.base),"user":"u","metadata":{"a":["b"]},"store":false,"suffix":null,"whatever":null,"logprobs":null,"n":1,"stream":false,"service_tier":"auto","logit_bias":{}}"#
            ).json
            #expect(
                dressed["choices"]?.array?.first?["text"]?.string
                    == plain["choices"]?.array?.first?["text"]?.string)
        }
    }

    @Test(
        "a body that is not one JSON object of distinct members is refused",
        arguments: [
            "", "{", "[]", "null", #"{"model":"tiny","model":"tiny","prompt":"a"}"#,
            #"{"prompt":"a"} x"#, "{\"prompt\":\"\u{1}\"}", #"{"prompt":"\ud800"}"#,
            String(repeating: "[", count: 100_000),
        ])
    func notJSON(_ body: String) async throws {
        try await withGateway { rig in
            let answer = try await rig.post("/v1/completions", body)
            #expect(answer.status == 400)
            #expect(answer.error.code == "invalid_json")
        }
    }

    @Test(
        "prompts of other kinds are refused by their place",
        arguments: [
            ("1", "prompt"), ("[]", "prompt"), ("{}", "prompt"), (#"["a",1]"#, "prompt[1]"),
            ("[1,-1]", "prompt[1]"), ("[[1],[]]", "prompt[1]"), ("[[1],[1.5]]", "prompt[1][0]"),
            ("[99999]", "prompt"),
        ])
    func badPrompts(_ prompt: String, _ param: String) async throws {
        try await withGateway { rig in
            let answer = try await rig.post(
                "/v1/completions", #"{"model":"tiny","prompt":\#(prompt)}"#)
            #expect(answer.status == 400)
            #expect(answer.error.param == param)
        }
    }

    @Test("an unknown model is 404 model_not_found, also of a stream")
    func unknownModel() async throws {
        try await withGateway { rig in
            for more in ["", #","stream":true"#] {
                let answer = try await rig.post(
                    "/v1/completions", #"{"model":"gpt-4","prompt":"a"\#(more)}"#)
                #expect(answer.status == 404)
                #expect(answer.error.code == "model_not_found")
                #expect(answer.error.param == "model")
            }
        }
    }

    @Test("a client that goes away cancels the daemon's call")
    func disconnect() async throws {
        try await withGateway { rig in
            for more in ["", #","stream":true"#] {
                let socket = try rig.connect()
                try await socket.send(
                    "POST", "/v1/completions",
                    body:
                        #"{"model":"tiny","prompt":"a","max_tokens":60000,"logit_bias":{"2":-100}\#(more)}"#
                )
                try await eventually { rig.service.load.active == 1 }
                socket.raw.shutdown()
                try await eventually { rig.service.load.active == 0 }
            }
        }
    }
}
