// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore
import TestSupport
import Testing

@testable import Gateway

@Suite("Ollama's face", .fewAtOnce, .bounded)
struct OllamaTests {
    private func lines(_ answer: HTTPAnswer) throws -> [JSON] {
        try answer.text.split(separator: "\n").map { try JSON(parsing: Array($0.utf8)) }
    }

    @Test("the same seed gives the same text, line by line and whole, as without HTTP")
    func generate() async throws {
        try await withGateway { rig in
            var options = GenerateOptions(maxTokens: 12, temperature: 0.8, seed: 3)
            (options.topK, options.topP) = (40, 0.9)
            let settled = options
            let wanted = try await withClient(socket: rig.daemonSocket) {
                try await $0.generate("a b", model: "tiny", options: settled).collect()
            }
            let body =
                #"{"model":"tiny:latest","prompt":"a b","options":{"num_predict":12,"seed":3,"num_ctx":4096}"#
            let streamed = try await rig.post("/api/generate", body + "}")
            #expect(streamed.headers["content-type"] == "application/x-ndjson")
            let parts = try lines(streamed)
            #expect(parts.compactMap { $0["response"]?.string }.joined() == wanted.text)
            #expect(parts.dropLast().allSatisfy { $0["done"]?.bool == false })
            let last = try #require(parts.last)
            #expect(last["done"]?.bool == true)
            #expect(last["done_reason"]?.string == wanted.finishReason.rawValue)
            #expect(last["eval_count"]?.integer == wanted.tokens.count)
            #expect(last["prompt_eval_count"]?.integer == wanted.usage.promptTokens)
            #expect(last["model"]?.string == "tiny")
            let whole = try await rig.post("/api/generate", body + #","stream":false}"#).json
            #expect(whole["response"]?.string == wanted.text)
            #expect(whole["done"]?.bool == true)
        }
    }

    @Test("without a prompt nothing is generated")
    func load() async throws {
        try await withGateway { rig in
            let answer = try await rig.post("/api/generate", #"{"model":"tiny"}"#).json
            #expect(answer["done_reason"]?.string == "load")
            #expect(try await rig.post("/api/generate", #"{"model":"none"}"#).status == 404)
        }
    }

    @Test(
        "what would change the answer and cannot be done is refused, in Ollama's form",
        arguments: [
            #""suffix":"x""#, #""images":["a"]"#, #""format":"yaml""#, #""system":"s""#,
            #""template":"t""#, #""context":[1]"#, #""think":true"#, #""unknown":1"#,
            #""options":{"mirostat":1}"#, #""options":{"typical_p":0.5}"#, #""options":{"x":1}"#,
            #""options":{"repeat_last_n":64}"#, #""options":{"temperature":"a"}"#, #""options":1"#,
        ])
    func refusals(_ member: String) async throws {
        try await withGateway { rig in
            let answer = try await rig.post(
                "/api/generate", #"{"model":"tiny","prompt":"a",\#(member)}"#)
            #expect(answer.status == 400)
            #expect(try answer.json["error"]?.string?.isEmpty == false)
        }
    }

    @Test("models are listed and shown")
    func models() async throws {
        try await withGateway { rig in
            let version = try await rig.get("/api/version").json
            #expect(version["version"]?.string == Version.string)
            let tags = try await rig.get("/api/tags").json["models"]?.array ?? []
            #expect(tags.map { $0["name"]?.string } == ["tiny:latest"])
            #expect(tags.first?["details"]?["format"]?.string == "gguf")
            let shown = try await rig.post("/api/show", #"{"model":"tiny:latest"}"#).json
            #expect(shown["details"]?["family"]?.string == "hgrnbit")
            #expect(try await rig.post("/api/show", #"{"name":"none"}"#).status == 404)
        }
    }

    @Test("vectors are the daemon's; of /api/embed of unit length")
    func embed() async throws {
        try await withGateway { rig in
            let (unit, plain) = try await withClient(socket: rig.daemonSocket) { client in
                (
                    try await client.embed(["a", "b c"], model: "tiny", normalized: true),
                    try await client.embed("a", model: "tiny")
                )
            }
            let answer = try await rig.post(
                "/api/embed", #"{"model":"tiny","input":["a","b c"],"truncate":true}"#
            ).json
            let vectors = answer["embeddings"]?.array ?? []
            #expect(
                vectors.map { $0.array?.compactMap(\.number).map { Float($0) } }
                    == unit.map { Optional($0.values) })
            let old = try await rig.post(
                "/api/embeddings", #"{"model":"tiny","prompt":"a"}"#
            ).json
            #expect(
                old["embedding"]?.array?.compactMap(\.number).map { Float($0) } == plain.values)
        }
    }

    @Test("times are RFC 3339's")
    func times() {
        #expect(timestamp(seconds: 0, nanoseconds: 0) == "1970-01-01T00:00:00.000000000Z")
        #expect(
            timestamp(seconds: 951_827_696, nanoseconds: 5) == "2000-02-29T12:34:56.000000005Z")
        #expect(
            timestamp(seconds: 4_102_444_799, nanoseconds: 1) == "2099-12-31T23:59:59.000000001Z")
        #expect(
            timestamp(seconds: 1_764_374_400, nanoseconds: 0) == "2025-11-29T00:00:00.000000000Z")
    }
}

@Suite("texts to tokens and back", .fewAtOnce, .bounded)
struct TokenFaceTests {
    @Test("llama-server's and vLLM's words mean what they mean there")
    func both() async throws {
        try await withGateway { rig in
            func ids(_ body: String) async throws -> [Int]? {
                try await rig.post("/tokenize", body).json["tokens"]?.array?.compactMap(\.integer)
            }
            #expect(try await ids(#"{"content":"ab"}"#) == [259, 286])
            #expect(try await ids(#"{"content":"ab","add_special":true}"#) == [1, 259, 286])
            #expect(try await ids(#"{"prompt":"ab"}"#) == [1, 259, 286])
            #expect(try await ids(#"{"prompt":"</s>","add_special_tokens":false}"#) == [2])
            let pieces = try await rig.post(
                "/tokenize", #"{"content":"ab","with_pieces":true}"#
            ).json
            #expect(pieces["tokens"]?.array?.last?["id"]?.integer == 286)
            #expect(pieces["tokens"]?.array?.last?["piece"]?.string == "ab")
            let text = try await rig.post("/detokenize", #"{"tokens":[1,259,286]}"#).json
            #expect(text["content"]?.string == text["prompt"]?.string)
            #expect(text["content"]?.string?.hasSuffix("ab") == true)
            #expect(try await rig.post("/tokenize", "{}").status == 400)
            #expect(try await rig.post("/detokenize", #"{"tokens":["a"]}"#).status == 400)
        }
    }

    @Test("metrics are the daemon's, in Prometheus' form")
    func metrics() async throws {
        try await withGateway { rig in
            let answer = try await rig.get("/metrics")
            #expect(answer.headers["content-type"]?.hasPrefix("text/plain; version=0.0.4") == true)
            #expect(try !Exposition(answer.text).families.isEmpty)
        }
    }
}
