// SPDX-License-Identifier: Apache-2.0

import RPC
import Serving
import TestSupport
import Testing

@Suite("Embeddings are the engine's own", .fewAtOnce, .bounded)
struct EmbedTests {
    private static let inputs: [[UInt32]] = [
        [9], Array(3..<60), [100, 200, 300, 100, 200], Array((30..<190).reversed()),
    ]

    private static func request(_ pooling: Pooling, normalize: Bool = false) -> EmbedRequest {
        var request = EmbedRequest()
        request.pooling = pooling
        request.normalize = normalize
        request.input = inputs.map {
            var input = EmbedInput()
            input.input = .tokens($0)
            return input
        }
        return request
    }

    /// What the engine makes of an input, by the definition.
    private static func expected(_ hidden: [[Float]], _ pooling: Pooling) -> [Float] {
        switch pooling {
        case .last: return hidden[hidden.count - 1]
        case .none: return hidden.flatMap { $0 }
        case .mean, .unspecified:
            var sum = hidden[0]
            for row in hidden.dropFirst() { for k in sum.indices { sum[k] += row[k] } }
            return sum.map { $0 / Float(hidden.count) }
        }
    }

    @Test(
        "every pooling, however the prompts are cut up and mixed",
        arguments: [Pooling.mean, .last, .none, .unspecified], [1, 5, 256])
    func pooling(_ pooling: Pooling, _ chunk: Int) async throws {
        var configuration = ServingConfiguration.testing
        configuration.slots = 3
        configuration.prefillChunk = chunk
        try await withDaemon(["tiny": 1], configuration) { daemon in
            let direct = try Direct(daemon.model("tiny"))
            let answer = try await daemon.withClient { inference, _ in
                try await inference.embedWhole(Self.request(pooling))
            }
            let embeddings = answer.embeddings.sorted { $0.index < $1.index }
            #expect(embeddings.map(\.index) == [0, 1, 2, 3])
            for (input, embedding) in zip(Self.inputs, embeddings) {
                #expect(Int(embedding.promptTokens) == input.count)
                #expect(Int(embedding.dimensions) == TinyModel.hidden)
                #expect(embedding.values == Self.expected(direct.hidden(input), pooling))
            }
        }
    }

    @Test("normalized vectors have length one", arguments: [Pooling.mean, .last, .none])
    func normalized(_ pooling: Pooling) async throws {
        try await withDaemon { daemon in
            let answer = try await daemon.withClient { inference, _ in
                try await inference.embedWhole(Self.request(pooling, normalize: true))
            }
            for embedding in answer.embeddings {
                let width = Int(embedding.dimensions)
                for start in stride(from: 0, to: embedding.values.count, by: width) {
                    let square = embedding.values[start..<start + width].reduce(0) { $0 + $1 * $1 }
                    #expect(abs(square - 1) < 1e-5)
                }
            }
        }
    }

    @Test("streamed and whole are the same vectors")
    func streamed() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let whole = try await inference.embedWhole(Self.request(.mean))
                var parts = EmbedResponse()
                for try await part in inference.embed(Self.request(.mean)) { parts.merge(part) }
                #expect(
                    parts.embeddings.sorted { $0.index < $1.index }.map(\.values)
                        == whole.embeddings.sorted { $0.index < $1.index }.map(\.values))
                #expect(!parts.requestID.isEmpty)
            }
        }
    }

    @Test("more bytes of vectors than one reader may keep waiting all arrive")
    func large() async throws {
        try await withDaemon { daemon in
            // 40 inputs of 200 vectors of 320 bytes: 2.5 MB, in messages of unlike sizes.
            var request = EmbedRequest()
            request.pooling = .none
            request.input = (0..<40).map { number in
                var input = EmbedInput()
                input.input = .tokens(
                    [UInt32](repeating: 40, count: number % 3 == 0 ? 600 : 10 + number))
                return input
            }
            try await daemon.withClient { inference, _ in
                var parts = EmbedResponse()
                for try await part in inference.embed(request) { parts.merge(part) }
                #expect(parts.embeddings.count == 40)
                #expect(
                    parts.embeddings.allSatisfy {
                        $0.values.count == Int($0.promptTokens) * TinyModel.hidden
                    })
            }
            try await daemon.wait(active: 0)
        }
    }

    @Test("vectors that do not fit in one answer are refused to who wants one answer")
    func tooLarge() async throws {
        try await withDaemon { daemon in
            var request = EmbedRequest()
            request.pooling = .none
            request.input = (0..<10).map { _ in
                var input = EmbedInput()
                input.input = .tokens([UInt32](repeating: 40, count: 2000))
                return input
            }
            try await daemon.withClient { inference, _ in
                let error = try await refusal { _ = try await inference.embedWhole(request) }
                #expect(error?.code == .resourceExhausted)
                #expect(error?.message.contains("stream") == true)
            }
        }
    }
}
