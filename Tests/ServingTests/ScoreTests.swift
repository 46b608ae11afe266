// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import TestSupport
import Testing

@testable import Serving

@Suite("Scores of given tokens", .fewAtOnce, .bounded)
struct ScoreTests {
    private static func tokens(_ count: Int, _ seed: UInt64 = 1) -> [UInt32] {
        var random = SeededGenerator(seed)
        return (0..<count).map { _ in UInt32.random(in: 3..<259, using: &random) }
    }

    private static func request(
        _ tokens: [UInt32], from: Int = 0, top: Int = 0
    ) -> ScoreRequest {
        ScoreRequest(input: .tokens(tokens), from: UInt32(from), topK: UInt32(top))
    }

    /// The scores of all positions but the first, one token at a time and without serving.
    private static func expected(
        _ tokens: [UInt32], top: Int, _ daemon: Daemon
    ) throws -> [TokenLogprobs] {
        let model = try daemon.model("tiny")
        var scorer = TokenScorer(kernels: try Kernels.fromEnvironment())
        return try zip(Direct(model).logits(tokens), tokens.dropFirst()).map { logits, token in
            let score = logits.withUnsafeBufferPointer { scorer.score(token, $0, top: top) }
            return TokenLogprobs(score, model.tokenizer)
        }
    }

    @Test(
        "are the bits of the model's logits, whatever the chunks, from any position on",
        arguments: [1, 7, 200])
    func bits(_ chunk: Int) async throws {
        var configuration = ServingConfiguration.testing
        configuration.prefillChunk = chunk
        try await withDaemon(["tiny": 1], configuration) { daemon in
            try await daemon.withClient { inference, _ in
                let tokens = Self.tokens(150)
                let expected = try Self.expected(tokens, top: 3, daemon)
                for from in [0, 1, 2, 77, 149] {
                    let answer = try await inference.score(
                        Self.request(tokens, from: from, top: 3))
                    let first = max(1, from)
                    #expect(answer.first == UInt32(first))
                    #expect(answer.scores == Array(expected[(first - 1)...]))
                    #expect(answer.usage?.promptTokens == 150)
                    #expect(answer.modelDigest == (try daemon.model("tiny").digest))
                }
                let whole = try await inference.scoreWhole(Self.request(tokens, top: 3))
                #expect(whole.scores == expected && whole.first == 1)
            }
        }
    }

    @Test("are those that Generate reports of the same tokens")
    func generated() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                var request = GenerateRequest("abc def", count: 12, logprobs: 2)
                let plain = try await inference.collect(request)
                #expect(plain.promptLogprobs.isEmpty)
                request.echo = true
                let echoed = try await inference.collect(request)
                #expect(echoed.tokens == plain.tokens && echoed.logprobs == plain.logprobs)
                let prompt = try await inference.tokenize(
                    TokenizeRequest(text: "abc def", addBOS: true))
                let scores = try await inference.score(
                    Self.request(prompt.tokens + plain.tokens, top: 2))
                #expect(
                    scores.scores
                        == echoed.promptLogprobs.dropFirst() + echoed.logprobs)
                #expect(echoed.promptLogprobs.count == prompt.tokens.count)
                let first = try #require(echoed.promptLogprobs.first)
                #expect(first.chosen?.token == prompt.tokens[0] && first.top.isEmpty)
                #expect(first.chosen?.logprob.isNaN == true)
                // A text is taken as a prompt is.
                let text = try await inference.score(
                    ScoreRequest(input: .text("abc def"), topK: 2))
                #expect(text.scores == Array(echoed.promptLogprobs.dropFirst()))
                let long = try await inference.collect(
                    GenerateRequest(echoing: Self.tokens(300), count: 1))
                #expect(long.promptLogprobs.count == 300)
                let unary = try await inference.generateWhole(
                    GenerateRequest(echoing: Self.tokens(300), count: 1))
                #expect(unary.promptLogprobs.dropFirst() == long.promptLogprobs.dropFirst())
            }
        }
    }

    @Test(
        "a prompt's log-probabilities are known with its beginning: endings of one text compute it twice at most"
    )
    func knownScores() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let text = Self.tokens(200)
                func cached(_ ending: [UInt32], top: Int = 1) async throws -> UInt32? {
                    let tokens = text + ending
                    var request = GenerateRequest(tokens: tokens, count: 1)
                    (request.echo, request.logprobs) = (true, UInt32(top))
                    let answer = try await inference.collect(request)
                    let expected = try Self.expected(tokens, top: top, daemon)
                    #expect(answer.promptLogprobs.dropFirst() == expected[...])
                    return answer.finished?.usage?.cachedTokens
                }
                #expect(try await cached([5, 6, 7]) == 0)
                #expect(try await cached([8, 9]) == 0)
                // Of what begins alike the last token is computed again: what comes next is another token.
                #expect(try await cached([10]) == 199)
                #expect(try await cached([11, 6, 7]) == 199)
                #expect(try await cached([5, 6, 7]) == 202)
                #expect(
                    try await cached([5, 6, 9]) == 199, "the state at 202 knows what 7 is scored")
                #expect(try await cached([5, 6, 9], top: 2) == 0, "others were not asked for")
                // Score of the whole text is the same.
                let score = try await inference.score(Self.request(text + [12, 13], top: 1))
                #expect(
                    score.scores == (try Self.expected(text + [12, 13], top: 1, daemon)))
                #expect(score.usage?.cachedTokens == 199 && score.first == 1)
                // Whoever wants no scores goes on from the same states.
                let plain = try await inference.collect(
                    GenerateRequest(tokens: text + [5, 6, 7], count: 1))
                #expect(plain.finished?.usage?.cachedTokens == 202)
            }
        }
    }

    @Test(
        "hit and miss are equal, bit for bit, when some are scored and some are not",
        arguments: [1, 7, 64])
    func mixed(_ chunk: Int) async throws {
        var configuration = ServingConfiguration.testing
        configuration.slots = 3
        configuration.prefillChunk = chunk
        configuration.prefixInterval = 8
        var random = SeededGenerator(UInt64(chunk))
        var prompts = [Self.tokens(30)]
        for number in 1..<40 {
            let earlier = prompts.randomElement(using: &random) ?? []
            let kept = Int.random(in: 0...earlier.count, using: &random)
            let added = Self.tokens(Int.random(in: 2...20, using: &random), UInt64(number))
            prompts.append(Array(earlier.prefix(kept)) + added)
        }
        try await withDaemon(["tiny": 1], configuration) { daemon in
            try await daemon.withClient { inference, control in
                for tokens in prompts {
                    let top = Int.random(in: 0...1, using: &random)
                    let expected = try Self.expected(tokens, top: top, daemon)
                    switch Int.random(in: 0..<3, using: &random) {
                    case 0:
                        let from = Int.random(in: 1..<tokens.count, using: &random)
                        let answer = try await inference.score(
                            Self.request(tokens, from: from, top: top))
                        #expect(answer.scores == Array(expected[(from - 1)...]))
                    case 1:
                        let answer = try await inference.score(Self.request(tokens, top: top))
                        #expect(answer.scores == expected)
                    default:
                        var request = GenerateRequest(tokens: tokens, count: 1)
                        (request.echo, request.logprobs) = (true, UInt32(top))
                        let answer = try await inference.collect(request)
                        #expect(answer.promptLogprobs.dropFirst() == expected[...])
                    }
                }
                #expect(try await control.status().prefixes?.hits ?? 0 > 10)
            }
        }
    }

    @Test(
        "a known prefix is used up to the first scored token, and no further: endings of one text share it"
    )
    func prefix() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let text = Self.tokens(200)
                func cached(_ ending: UInt64, from: Int) async throws -> UInt32? {
                    let tokens = text + Self.tokens(5, ending)
                    let answer = try await inference.score(Self.request(tokens, from: from))
                    let expected = try Self.expected(tokens, top: 0, daemon)
                    #expect(answer.scores == Array(expected[(max(1, from) - 1)...]))
                    return answer.usage?.cachedTokens
                }
                #expect(try await cached(2, from: 200) == 0)
                #expect(try await cached(3, from: 200) == 199)
                #expect(try await cached(4, from: 200) == 199)
                #expect(try await cached(4, from: 0) == 0)
                #expect(try await cached(5, from: 203) == 200, "where endings leave each other")
                // Generate goes on from what Score has read, and Score from what Generate has.
                let answer = try await inference.collect(
                    GenerateRequest(tokens: text + [9], count: 1))
                #expect(answer.finished?.usage?.cachedTokens == 200)
            }
        }
    }

    @Test("hit and miss are equal, bit for bit", arguments: [1, 7, 64], [UInt64(1), 2])
    func equal(_ chunk: Int, _ seed: UInt64) async throws {
        var random = SeededGenerator(seed)
        var requests: [ScoreRequest] = []
        var earlier: [[UInt32]] = [Self.tokens(30, seed)]
        for number in 0..<24 {
            let base = earlier.randomElement(using: &random) ?? []
            let tokens =
                Array(base.prefix(Int.random(in: 0...base.count, using: &random)))
                + Self.tokens(Int.random(in: 2...40, using: &random), seed * 100 + UInt64(number))
            earlier.append(tokens)
            requests.append(
                Self.request(tokens, from: Int.random(in: 0..<tokens.count, using: &random), top: 1)
            )
        }
        var warm = ServingConfiguration.testing
        (warm.queue, warm.queuePerUser, warm.requestsPerUser) = (100, 100, 100)
        warm.slots = 3
        warm.prefillChunk = chunk
        warm.prefixInterval = 11
        // Room for some forty states: there are evictions.
        warm.prefixBytes = 40 * 1200
        var cold = warm
        (cold.prefixBytes, cold.slots, cold.prefillChunk) = (0, 1, 64)
        func answers(_ configuration: ServingConfiguration) async throws -> [ScoreResponse] {
            try await withDaemon(["tiny": 1], configuration) { daemon in
                try await daemon.withClient { inference, _ in
                    // Side by side, so that batches are mixed.
                    try await withThrowingTaskGroup(of: (Int, ScoreResponse).self) { group in
                        for (index, request) in (requests + requests).enumerated() {
                            group.addTask { (index, try await inference.score(request)) }
                        }
                        return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
                    }.sorted { $0.key < $1.key }.map(\.value)
                }
            }
        }
        let (expected, found) = (try await answers(cold), try await answers(warm))
        #expect(expected.map(\.scores) == found.map(\.scores))
        #expect(expected.allSatisfy { $0.usage?.cachedTokens == 0 })
        #expect(found.contains { $0.usage?.cachedTokens ?? 0 > 0 })
    }

    @Test("a turn has room for so many rows of logits, and prompts beside them go on")
    func rows() {
        var turns = Turns(slots: 3, chunk: 256)
        let scored = turns.generate("A", prompt: 500)
        scored.firstResult = 100
        turns.generate("B", prompt: 500)
        func rows(_ id: String) -> Int { turns.turn().parts.first { $0.id == id }?.count ?? 0 }
        let first = turns.turn().parts
        #expect(first.first { $0.id == "A0" }?.count == 128, "100 without, 28 with")
        #expect(first.reduce(0) { $0 + $1.count } == 256)
        #expect(rows("A0") == 64)
        #expect(rows("A0") == 64)
    }

    @Test("more users than a turn has rows of logits for take turns")
    func turns() {
        var turns = Turns(slots: 6, chunk: 256)
        for user: Character in ["A", "B", "C", "D", "E", "F"] {
            turns.generate(user, prompt: 2000).firstResult = 0
        }
        var rows: [String: Int] = [:]
        for _ in 0..<12 {
            let parts = turns.turn().parts
            #expect(parts.reduce(0) { $0 + $1.count } == 64)
            for part in parts { rows[part.id, default: 0] += part.count }
        }
        // 12 · 64 rows for six users.
        #expect(rows.count == 6)
        #expect(rows.values.allSatisfy { (112...144).contains($0) }, "\(rows)")
    }

    @Test("what cannot be scored is refused by name")
    func refused() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                func field(_ request: ScoreRequest) async throws -> String? {
                    let error = try await refusal { _ = try await inference.score(request) }
                    #expect(error?.code == .invalidArgument)
                    return error?.violations.first?.field
                }
                #expect(try await field(ScoreRequest()) == "input")
                #expect(try await field(Self.request([])) == "input")
                #expect(try await field(Self.request([5])) == "from")
                #expect(try await field(Self.request([5, 6], from: 2)) == "from")
                #expect(try await field(Self.request([5, 6], from: .init(UInt32.max))) == "from")
                #expect(try await field(Self.request([5, 60000])) == "input")
                #expect(try await field(Self.request([5, 6], top: 65)) == "top_k")
                var echo = GenerateRequest("a", count: 1, logprobs: 0)
                let session = try await SessionClient(client: try await daemon.connect()).create()
                (echo.echo, echo.session) = (true, session.session)
                let error = try await refusal { [echo] in _ = try await inference.collect(echo) }
                #expect(error?.violations.first?.field == "echo")
            }
        }
    }

    @Test("add_bos puts the beginning of text before tokens that do not begin with it")
    func bos() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let bos = try #require(try daemon.model("tiny").tokenizer?.bos)
                var request = Self.request([40, 50])
                request.addBOS = true
                let added = try await inference.score(request)
                #expect(added.usage?.promptTokens == 3)
                let given = try await inference.score(Self.request([bos, 40, 50]))
                #expect(added.scores == given.scores)
                request.input = .tokens([bos, 40, 50])
                #expect(try await inference.score(request).scores == given.scores)
            }
        }
    }

    @Test("a reader who does not read makes it wait, and nobody else")
    func slow() async throws {
        var configuration = ServingConfiguration.testing
        configuration.slots = 2
        configuration.slowReaderTimeout = 3_600_000_000_000
        try await withDaemon(["tiny": 1], configuration) { daemon in
            let slow = try RawClient(path: daemon.socket)
            let tokens = Self.tokens(4000)
            try await slow.send("Score", Self.request(tokens, top: 64))
            #expect(try await daemon.stalled().readTokens < 4000)
            let other = try await daemon.withClient { inference, _ in
                try await inference.score(Self.request(Self.tokens(20)))
            }
            #expect(other.scores.count == 19)
            let (parts, failure): ([ScoreResponse], Status?) = try await slow.readAll()
            #expect(failure == nil)
            var next: UInt32 = 1
            for part in parts {
                #expect(part.first == next)
                next += UInt32(part.scores.count)
            }
            #expect(next == 4000 && parts.last?.usage?.promptTokens == 4000)
        }
    }
}

extension GenerateRequest {
    fileprivate init(tokens: [UInt32], count: Int) {
        self.init("", count: count)
        prompt = .tokens(tokens)
    }

    fileprivate init(echoing tokens: [UInt32], count: Int) {
        self.init(tokens: tokens, count: count)
        (echo, logprobs) = (true, 1)
    }
}
