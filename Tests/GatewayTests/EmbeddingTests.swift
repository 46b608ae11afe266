// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore
import TestSupport
import Testing

@testable import Gateway

@Suite("/v1/embeddings", .fewAtOnce, .bounded)
struct EmbeddingTests {
    @Test("vectors are the daemon's, of unit length, as numbers and as base64")
    func vectors() async throws {
        try await withGateway { rig in
            let wanted = try await withClient(socket: rig.daemonSocket) {
                try await $0.embed(["a b", "c"], model: "tiny", normalized: true)
            }
            let answer = try await rig.post(
                "/v1/embeddings", #"{"model":"tiny","input":["a b","c"],"user":"u"}"#
            ).json
            #expect(answer["object"]?.string == "list")
            #expect(answer["model"]?.string == "tiny")
            let data = answer["data"]?.array ?? []
            #expect(data.map { $0["index"]?.integer } == [0, 1])
            for (item, vector) in zip(data, wanted) {
                #expect(
                    item["embedding"]?.array?.compactMap(\.number).map { Float($0) }
                        == vector.values)
            }
            let tokens = wanted.reduce(0) { $0 + $1.promptTokens }
            #expect(answer["usage"]?["total_tokens"]?.integer == tokens)
            let coded = try await rig.post(
                "/v1/embeddings", #"{"input":"a b","encoding_format":"base64"}"#
            ).json
            let bytes = wanted[0].values.flatMap { value in
                withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) }
            }
            #expect(coded["data"]?.array?.first?["embedding"]?.string == base64(bytes))
            #expect(coded["model"]?.string == "tiny")
        }
    }

    @Test("token numbers are refused unless they are allowed")
    func tokens() async throws {
        for input in ["[1,261]", "[[1,261]]"] {
            try await withGateway { rig in
                let answer = try await rig.post("/v1/embeddings", #"{"input":\#(input)}"#)
                #expect(answer.status == 400)
                #expect(answer.error.code == "tokens_not_allowed")
                #expect(answer.error.param == "input")
            }
            try await withGateway {
                $0.takesEmbeddingTokens = true
            } _: { rig in
                let answer = try await rig.post("/v1/embeddings", #"{"input":\#(input)}"#)
                #expect(answer.status == 200)
            }
        }
    }

    @Test(
        "what cannot be done is refused by name",
        arguments: [
            (#""dimensions":7"#, "dimensions"), (#""encoding_format":"hex""#, "encoding_format"),
            (#""truncate":true"#, "truncate"),
        ])
    func refusals(_ member: String, _ param: String) async throws {
        try await withGateway { rig in
            let answer = try await rig.post("/v1/embeddings", #"{"input":"a",\#(member)}"#)
            #expect(answer.status == 400)
            #expect(answer.error.param == param)
        }
    }

    @Test(
        "inputs of other kinds are refused by their place",
        arguments: [
            ("null", "input"), ("[]", "input"), ("1", "input"), (#"["a",null]"#, "input[1]"),
            (#"["a",{}]"#, "input[1]"),
        ])
    func inputs(_ input: String, _ param: String) async throws {
        try await withGateway { rig in
            let answer = try await rig.post("/v1/embeddings", #"{"input":\#(input)}"#)
            #expect(answer.status == 400)
            #expect(answer.error.param == param)
        }
    }
}
