// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC
import Serving
import TestSupport
import Testing

@Suite("An answer depends on its request alone", .fewAtOnce, .bounded)
struct GenerateIdentityTests {
    /// Prompts of very different lengths, so that reading and writing overlap.
    private static func request(_ number: Int) -> GenerateRequest {
        let text = String(repeating: "word\(number) ", count: 1 + number * 7 % 40)
        return GenerateRequest(text, count: 20 + number, seed: UInt64(number), logprobs: 3)
    }

    private func alone(_ daemon: Daemon, _ number: Int) async throws -> GenerateResponse {
        try await daemon.withClient { inference, _ in
            try await inference.collect(Self.request(number))
        }
    }

    @Test("16 at once get the bits that each gets alone, tokens and log-probabilities")
    func neighbours() async throws {
        var configuration = ServingConfiguration.testing
        configuration.slots = 5
        configuration.prefillChunk = 48
        configuration.turnTime = 1_000_000
        try await withDaemon(["tiny": 1], configuration) { daemon in
            var expected: [GenerateResponse] = []
            for number in 0..<16 { expected.append(try await alone(daemon, number)) }
            let found = try await withThrowingTaskGroup(of: (Int, GenerateResponse).self) { group in
                for number in 0..<16 {
                    group.addTask { (number, try await alone(daemon, number)) }
                }
                return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
            for number in 0..<16 {
                let answer = try #require(found[number])
                #expect(answer.tokens == expected[number].tokens)
                #expect(answer.text == expected[number].text)
                #expect(answer.logprobs == expected[number].logprobs)
                #expect(answer.tokens.count == 20 + number)
            }
            #expect(Set(expected.map(\.tokens)).count == 16, "seeds and prompts make a difference")
        }
    }

    @Test("a slot forgets whom it served: the same request twice in one slot is the same answer")
    func slotForgets() async throws {
        try await withDaemon(["tiny": 1], .oneSlot) { daemon in
            let first = try await alone(daemon, 3)
            _ = try await alone(daemon, 9)
            let second = try await alone(daemon, 3)
            #expect(first.tokens == second.tokens)
            #expect(first.logprobs == second.logprobs)
        }
    }

    @Test("streamed and whole are the same answer")
    func unary() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let streamed = try await inference.collect(Self.request(5))
                let whole = try await inference.generateWhole(Self.request(5))
                #expect(streamed.tokens == whole.tokens)
                #expect(streamed.text == whole.text)
                #expect(streamed.logprobs == whole.logprobs)
                #expect(
                    streamed.finished?.usage?.promptTokens == whole.finished?.usage?.promptTokens)
                #expect(
                    streamed.finished?.usage?.completionTokens
                        == whole.finished?.usage?.completionTokens)
            }
        }
    }

    @Test("the served tokens are the engine's own")
    func engine() async throws {
        try await withDaemon { daemon in
            let tokens: [UInt32] = [5, 77, 200, 31]
            let direct = try Direct(daemon.model("tiny"))
            let expected = direct.greedy(after: tokens, count: 24)
            var request = GenerateRequest("", count: 24)
            request.prompt = .tokens(tokens)
            request.sampling?.temperature = 0
            let answer = try await daemon.withClient { inference, _ in
                try await inference.collect(request)
            }
            #expect(answer.tokens == expected)
        }
    }
}

@Suite("What an answer says", .fewAtOnce, .bounded)
struct GenerateAnswerTests {
    @Test("it begins with its facts and ends with its usage")
    func facts() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                var parts: [GenerateResponse] = []
                for try await part in inference.generate(GenerateRequest("abc", count: 9, seed: 42))
                {
                    parts.append(part)
                }
                let started = try #require(parts.first?.started)
                #expect(started.model == "tiny")
                #expect(started.seed == 42)
                #expect(!started.requestID.isEmpty)
                #expect(started.modelDigest.utf8.count == 64)
                let finished = try #require(parts.last?.finished)
                #expect(finished.reason == .length)
                #expect(finished.usage?.completionTokens == 9)
                #expect(finished.usage?.promptTokens == started.promptTokens)
                #expect(parts.dropFirst().allSatisfy { $0.started == nil })
            }
        }
    }

    @Test("a seed that was not given is drawn, told, and gives the answer again")
    func drawnSeed() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                var request = GenerateRequest("abc", count: 16)
                request.sampling?.seed = nil
                let first = try await inference.collect(request)
                let other = try await inference.collect(request)
                #expect(first.started?.seed != other.started?.seed)
                request.sampling?.seed = first.started?.seed
                #expect(try await inference.collect(request).tokens == first.tokens)
            }
        }
    }

    @Test("a stop string ends the text before it, wherever the tokens cut it", arguments: 1...4)
    func stop(_ length: Int) async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                var request = Self.letters(count: 60)
                let whole = try await inference.collect(request).text
                let characters = Array(whole)
                try #require(characters.count >= 20)
                let stop = String(characters[11..<11 + length])
                request.stop = ["never in it", stop]
                let cut = try await inference.collect(request)
                let end = try #require(whole.firstRange(of: stop)).lowerBound
                #expect(cut.text == whole[..<end])
                #expect(cut.finished?.reason == .stop)
            }
        }
    }

    /// A request answered in letters only: each is one token.
    private static func letters(count: Int) -> GenerateRequest {
        var request = GenerateRequest("abc", count: count)
        request.sampling?.logitBias += (260..<286 as Range<UInt32>).map {
            var bias = LogitBias()
            bias.token = $0
            bias.bias = 80
            return bias
        }
        return request
    }

    @Test("characters come whole, and all pieces are the text of all tokens")
    func characters() async throws {
        try await withDaemon { daemon in
            let tokenizer = try #require(daemon.model("tiny").tokenizer)
            try await daemon.withClient { inference, _ in
                // "é€😀" byte by byte, forced.
                var request = GenerateRequest("abc", count: 40)
                request.sampling?.logitBias += ([0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80] as [UInt8]).map
                {
                    var bias = LogitBias()
                    bias.token = TinyModel.byte($0)
                    bias.bias = 90
                    return bias
                }
                var whole = GenerateResponse()
                for try await part in inference.generate(request) { whole.merge(part) }
                var text = Detokenizer(tokenizer, continuing: true)
                var expected = ""
                for token in whole.tokens { expected += text.append(token) }
                #expect(whole.text == expected + text.finish())
            }
        }
    }

    @Test("echo puts the prompt before the answer")
    func echo() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                var request = GenerateRequest("the prompt", count: 5)
                let plain = try await inference.collect(request).text
                request.echo = true
                #expect(try await inference.collect(request).text == "the prompt" + plain)
            }
        }
    }

    @Test("log-probabilities come with each token, in order, and none that was not asked for")
    func logprobs() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let answer = try await inference.collect(
                    GenerateRequest("abc", count: 12, logprobs: 4))
                #expect(answer.logprobs.compactMap(\.chosen?.token) == answer.tokens)
                for token in answer.logprobs {
                    #expect(token.top.count == 4)
                    #expect(token.top.map(\.logprob) == token.top.map(\.logprob).sorted(by: >))
                    #expect((token.chosen?.logprob ?? 1) <= 0)
                }
                let plain = try await inference.collect(GenerateRequest("abc", count: 12))
                #expect(plain.logprobs.isEmpty)
            }
        }
    }

    @Test("an empty prompt is the beginning of a text")
    func empty() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let answer = try await inference.collect(GenerateRequest("", count: 3))
                #expect(answer.started?.promptTokens == 1)
                #expect(answer.tokens.count == 3)
            }
        }
    }
}
