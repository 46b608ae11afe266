// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import TestSupport
import Testing

@testable import Serving

@Suite("What is known of a prompt is not computed again", .fewAtOnce, .bounded)
struct PrefixDaemonTests {
    private static func request(_ tokens: [UInt32], count: Int = 8) -> GenerateRequest {
        var request = GenerateRequest("", count: count, logprobs: 3)
        request.prompt = .tokens(tokens)
        return request
    }

    private static func tokens(_ count: Int, _ seed: UInt64) -> [UInt32] {
        var random = SeededGenerator(seed)
        return (0..<count).map { _ in UInt32.random(in: 3..<259, using: &random) }
    }

    private static var cold: ServingConfiguration {
        var configuration = ServingConfiguration.testing
        configuration.prefixBytes = 0
        return configuration
    }

    private func cachedTokens(_ answer: GenerateResponse) -> Int {
        Int(answer.finished?.usage?.cachedTokens ?? .max)
    }

    @Test("cached_tokens: a prompt again, one that goes on, and the third that shares 479 tokens")
    func counts() async throws {
        let base = Self.tokens(479, 1)
        try await withDaemon { daemon in
            try await daemon.withClient { inference, control in
                func cached(_ tokens: [UInt32]) async throws -> Int {
                    cachedTokens(try await inference.collect(Self.request(tokens)))
                }
                #expect(try await cached(base + Self.tokens(300, 2)) == 0)
                #expect(try await cached(base + Self.tokens(300, 2)) == 778, "all but the last")
                #expect(
                    try await cached(base + Self.tokens(300, 3)) == 0, "a state at 512, none at 479"
                )
                #expect(try await cached(base + Self.tokens(300, 4)) == 479)
                #expect(try await cached(base + Self.tokens(300, 3) + [9]) == 779)
                let status = try await control.status()
                #expect(status.prefixes?.hits == 3 && status.prefixes?.misses == 2)
                #expect(status.prefixes?.cachedTokens == 778 + 479 + 779)
            }
        }
    }

    @Test("a prompt that goes on with an answer begins after it")
    func answer() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let prompt = Self.tokens(20, 1)
                let first = try await inference.collect(Self.request(prompt))
                let next = prompt + first.tokens + [7, 8, 9]
                let second = try await inference.collect(Self.request(next))
                #expect(cachedTokens(second) == 27, "the last token of an answer is not read")
            }
        }
    }

    @Test("hit and miss are equal, bit for bit", arguments: [1, 7, 64], [UInt64(1), 2])
    func equal(_ chunk: Int, _ seed: UInt64) async throws {
        var random = SeededGenerator(seed)
        var prompts = [Self.tokens(30, seed)]
        for number in 1..<24 {
            let earlier = prompts.randomElement(using: &random) ?? []
            prompts.append(
                Array(earlier.prefix(Int.random(in: 0...earlier.count, using: &random)))
                    + Self.tokens(
                        Int.random(in: 1...40, using: &random), seed * 100 + UInt64(number)))
        }
        var warm = ServingConfiguration.testing
        warm.slots = 3
        warm.prefillChunk = chunk
        warm.prefixInterval = 11
        // Room for some forty states: there are evictions.
        warm.prefixBytes = 40 * 1200
        func answers(_ configuration: ServingConfiguration) async throws -> [GenerateResponse] {
            try await withDaemon(["tiny": 1], configuration) { daemon in
                try await daemon.withClient { inference, _ in
                    var answers: [GenerateResponse] = []
                    for prompt in prompts + prompts {
                        answers.append(try await inference.collect(Self.request(prompt)))
                    }
                    return answers
                }
            }
        }
        let (expected, found) = (try await answers(Self.cold), try await answers(warm))
        for (expected, found) in zip(expected, found) {
            #expect(expected.tokens == found.tokens && expected.logprobs == found.logprobs)
        }
        #expect(expected.allSatisfy { cachedTokens($0) == 0 })
        #expect(found.map(cachedTokens).reduce(0, +) > 200)
    }

    @Test(
        "vectors of hits and misses are equal, bit for bit; every token's own are computed",
        arguments: [Pooling.last, .mean, .none])
    func embed(_ pooling: Pooling) async throws {
        let base = Self.tokens(100, 1)
        func vectors(_ configuration: ServingConfiguration) async throws -> [Embedding] {
            try await withDaemon(["tiny": 1], configuration) { daemon in
                try await daemon.withClient { inference, _ in
                    // Generate's states have no sums.
                    _ = try await inference.collect(Self.request(base + [4]))
                    var all: [Embedding] = []
                    for seed: UInt64 in 2...5 {
                        var request = EmbedRequest()
                        request.pooling = pooling
                        var input = EmbedInput()
                        input.input = .tokens(base + Self.tokens(10, seed))
                        request.input = [input]
                        all += try await inference.embedWhole(request).embeddings
                    }
                    return all
                }
            }
        }
        let (expected, found) = (try await vectors(Self.cold), try await vectors(.testing))
        #expect(expected.map(\.values) == found.map(\.values))
        let cached = found.map { Int($0.cachedTokens) }
        switch pooling {
        case .last: #expect(cached == [100, 100, 100, 100])
        case .mean: #expect(cached == [0, 100, 100, 100])
        default: #expect(cached == [0, 0, 0, 0])
        }
    }
}
