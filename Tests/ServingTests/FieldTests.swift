// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import Serving
import TestSupport
import Testing

@Suite("Every field is checked", .fewAtOnce, .bounded)
struct FieldTests {
    /// A request with one thing wrong, and the field that is to blame.
    struct Wrong: Sendable, CustomTestStringConvertible {
        let field: String
        let testDescription: String
        let change: @Sendable (inout GenerateRequest) -> Void

        init(
            _ field: String, _ what: String,
            _ change: @escaping @Sendable (inout GenerateRequest) -> Void
        ) {
            self.field = field
            testDescription = "\(field): \(what)"
            self.change = change
        }
    }

    static let wrong: [Wrong] = [
        Wrong("prompt", "none") { $0.prompt = nil },
        Wrong("prompt", "no tokens") { $0.prompt = .tokens([]) },
        Wrong("prompt", "a token beyond the vocabulary") { $0.prompt = .tokens([304]) },
        Wrong("prompt", "the largest token") { $0.prompt = .tokens([.max]) },
        Wrong("prompt", "too long") { $0.prompt = .tokens([UInt32](repeating: 5, count: 1001)) },
        Wrong("prompt", "too long a text") {
            $0.prompt = .text(String(repeating: "x", count: 70_000))
        },
        Wrong("max_tokens", "too many") { $0.maxTokens = .max },
        Wrong("stop", "too many") { $0.stop = (0..<17).map { "\($0)" } },
        Wrong("stop", "empty") { $0.stop = ["a", ""] },
        Wrong("stop", "too long") { $0.stop = [String(repeating: "x", count: 5000)] },
        Wrong("logprobs", "too many") { $0.logprobs = 65 },
        Wrong("temperature", "negative") { $0.sampling?.temperature = -1 },
        Wrong("temperature", "not a number") { $0.sampling?.temperature = .nan },
        Wrong("temperature", "infinite") { $0.sampling?.temperature = .infinity },
        Wrong("top_p", "over one") { $0.sampling?.topP = 1.5 },
        Wrong("min_p", "negative") { $0.sampling?.minP = -0.1 },
        Wrong("top_k", "huge") { $0.sampling?.topK = .max },
        Wrong("repetition_penalty", "zero") { $0.sampling?.repetitionPenalty = 0 },
        Wrong("presence_penalty", "not a number") { $0.sampling?.presencePenalty = .nan },
        Wrong("frequency_penalty", "huge") { $0.sampling?.frequencyPenalty = 1e30 },
        Wrong("logit_bias", "of no token") { $0.sampling?.logitBias[0].token = 304 },
        Wrong("logit_bias", "not a number") { $0.sampling?.logitBias[0].bias = .nan },
    ]

    @Test("a wrong field is named, and the next request is served")
    func named() async throws {
        var configuration = ServingConfiguration.testing
        configuration.maxPromptTokens = 1000
        try await withDaemon(["tiny": 1], configuration) { daemon in
            try await daemon.withClient { inference, _ in
                for wrong in Self.wrong {
                    var request = GenerateRequest("abc", count: 3)
                    wrong.change(&request)
                    let error = try await refusal { _ = try await inference.collect(request) }
                    #expect(error?.code == .invalidArgument, "\(wrong.testDescription)")
                    #expect(error?.violations.map(\.field) == [wrong.field])
                }
                #expect(
                    try await inference.collect(GenerateRequest("abc", count: 3)).tokens.count == 3)
                try await daemon.wait(active: 0)
            }
        }
    }

    @Test("wrong embeddings, token lists and ids are refused")
    func others() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                var embed = EmbedRequest()
                var error = try await refusal { _ = try await inference.embedWhole(embed) }
                #expect(error?.violations.first?.field == "input")
                embed.input = [EmbedInput](repeating: EmbedInput(), count: 257)
                error = try await refusal { _ = try await inference.embedWhole(embed) }
                #expect(error?.violations.first?.field == "input")
                embed.input = [EmbedInput()]
                error = try await refusal { _ = try await inference.embedWhole(embed) }
                #expect(error?.violations.first?.field == "input[0]")
                var detokenize = DetokenizeRequest()
                detokenize.tokens = [5, 9999]
                error = try await refusal { _ = try await inference.detokenize(detokenize) }
                #expect(error?.violations.first?.field == "tokens")
                error = try await refusal { _ = try await inference.cancel("nothing") }
                #expect(error?.code == .notFound)
            }
        }
    }

    @Test("text to tokens and back")
    func roundTrip() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                var tokenize = TokenizeRequest()
                tokenize.text = "abc é €"
                tokenize.addBOS = true
                let tokens = try await inference.tokenize(tokenize)
                #expect(tokens.tokens.first == 1)
                #expect(tokens.tokens.contains(286), "a and b are merged")
                #expect(tokens.pieces.count == tokens.tokens.count)
                var detokenize = DetokenizeRequest()
                detokenize.tokens = tokens.tokens
                #expect(try await inference.detokenize(detokenize).text == "abc é €")
            }
        }
    }

    @Test("whatever the fields say, the answer is an answer or a refusal with a reason")
    func anything() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                var random = SeededGenerator(11)
                for round in 0..<150 {
                    let request = Self.random(&random)
                    let error = try await refusal { _ = try await inference.collect(request) }
                    guard let error else { continue }
                    #expect(error.code == .invalidArgument, "round \(round): \(error)")
                    #expect(!error.violations.isEmpty)
                }
                #expect(daemon.service.load == (0, 0))
            }
        }
    }

    private static func random(_ random: inout SeededGenerator) -> GenerateRequest {
        func float() -> Float? {
            switch Int.random(in: 0..<6, using: &random) {
            case 0: Float(bitPattern: UInt32.random(in: .min ... .max, using: &random))
            case 1:
                [.nan, .infinity, -.infinity, 0, -0.0, .leastNonzeroMagnitude].randomElement(
                    using: &random)
            case 2: Float.random(in: 0...1, using: &random)
            default: nil
            }
        }
        var request = GenerateRequest()
        let ids = (0..<Int.random(in: 0...6, using: &random)).map { _ in
            UInt32.random(in: 0..<310, using: &random)
        }
        request.prompt = Bool.random(using: &random) ? .tokens(ids) : .text("a\u{FFFD}é\n")
        request.maxTokens = UInt32.random(in: 1...4, using: &random)
        request.echo = Bool.random(using: &random)
        request.logprobs = [nil, 0, 3, 64, 65].randomElement(using: &random) ?? nil
        request.stop = [[], ["e"], ["", "x"], ["\u{FFFD}"]].randomElement(using: &random) ?? []
        var sampling = Sampling()
        sampling.temperature = float()
        sampling.topP = float()
        sampling.minP = float()
        sampling.topK = [nil, 0, 1, 7, 1 << 30, .max].randomElement(using: &random) ?? nil
        sampling.repetitionPenalty = float()
        sampling.presencePenalty = float()
        sampling.frequencyPenalty = float()
        sampling.seed = random.next()
        var bias = LogitBias()
        bias.token = UInt32.random(in: 0..<306, using: &random)
        bias.bias = float() ?? 0
        sampling.logitBias = [bias]
        request.sampling = sampling
        return request
    }
}
