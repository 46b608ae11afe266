// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import RPC
@testable import Serving

/// Random operations, all at once. MMFREED_STRESS_SECONDS=600 MMFREED_STRESS_SEED=1 makes it longer, and another one.
@Suite("Whatever clients do at once", .fewAtOnce, .bounded)
struct StressTests {
    private static func variable(_ name: String) -> UInt64? {
        getenv(name).flatMap { UInt64(String(cString: $0)) }
    }

    private static let models = ["tiny": UInt64(1), "other": 2]
    private static let kinds = 24

    private static func request(_ kind: Int) -> GenerateRequest {
        let text = String(repeating: "word\(kind) ", count: 1 + kind * 7 % 40)
        var request = GenerateRequest(
            text, count: 3 + kind * 5 % 29, seed: UInt64(kind), logprobs: kind % 3 == 0 ? 2 : nil)
        request.model = kind % 2 == 0 ? "tiny" : "other"
        return request
    }

    /// By input. Not how much of it was known.
    private static func values(_ answer: EmbedResponse) -> [[Float]] {
        answer.embeddings.sorted { $0.index < $1.index }.map(\.values)
    }

    private static func embedding(_ kind: Int) -> EmbedRequest {
        var request = EmbedRequest()
        request.model = kind % 2 == 0 ? "tiny" : "other"
        request.input = (0...kind % 5).map { number in
            var input = EmbedInput()
            input.input = .text("input \(number) of \(kind)")
            return input
        }
        return request
    }

    /// What each request is answered when nothing else goes on.
    private struct Expected: Sendable {
        var answers: [GenerateResponse] = []
        var vectors: [[[Float]]] = []
        var conversations: [Conversation] = []
    }

    /// What there was, so that a run in which nothing happened does not pass.
    private final class Counts: Sendable {
        let checked = Atomic<Int>(0)
        let cut = Atomic<Int>(0)
        let refused = Atomic<Int>(0)
        let talks = Atomic<Int>(0)
    }

    @Test("no slot is lost, nothing is kept, and every whole answer is that of the request alone")
    func anything() async throws {
        let seconds = Self.variable("MMFREED_STRESS_SECONDS") ?? 5
        let seed = Self.variable("MMFREED_STRESS_SEED") ?? 1
        var configuration = ServingConfiguration.testing
        configuration.slots = 3
        configuration.prefillChunk = 16
        configuration.turnTime = 1_000_000
        configuration.slotTime = 10_000_000
        configuration.queue = 24
        configuration.queuePerUser = 16
        configuration.requestsPerUser = 20
        try await withDaemon(Self.models, configuration) { daemon in
            let expected = try await alone(daemon)
            let counts = Counts()
            let end = ContinuousClock.now + .seconds(Int64(seconds))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for worker in 0..<12 {
                    group.addTask { [self] in
                        var random = SeededGenerator(seed &* 1000 &+ UInt64(worker))
                        var isFirst = true
                        while isFirst || ContinuousClock.now < end {
                            isFirst = false
                            try await operation(daemon, expected, &random, counts)
                        }
                    }
                }
                try await group.waitForAll()
            }
            try await daemon.wait(active: 0)
            let service = daemon.service
            #expect(service.ledger.open.isEmpty)
            try await eventually {
                service.server.openCalls == 0 && service.server.unreadAnswers == 0
                    && service.server.openConnections == 0 && service.server.isHandlingNothing
                    && service.server.accounts.requestBytes == 0
                    && service.server.accounts.answerBytes == 0
            }
            #expect(counts.checked.load(ordering: .relaxed) > 0)
            #expect(counts.cut.load(ordering: .relaxed) > 0)
            #expect(counts.talks.load(ordering: .relaxed) > 0)
            #expect(service.sessions.stats.sessions == 0 && service.sessions.stats.bytes == 0)
            // All slots are there, and the daemon answers as before.
            let again = try await alone(daemon)
            #expect(again.answers.map(\.tokens) == expected.answers.map(\.tokens))
            #expect(again.vectors == expected.vectors)
        }
    }

    private func alone(_ daemon: Daemon) async throws -> Expected {
        var expected = Expected()
        try await daemon.withClient { inference, _ in
            for kind in 0..<Self.kinds {
                expected.answers.append(try await inference.collect(Self.request(kind)))
                expected.vectors.append(
                    Self.values(try await inference.embedWhole(Self.embedding(kind))))
            }
        }
        for kind in 0..<Conversation.kinds {
            expected.conversations.append(try await Conversation(kind, daemon))
        }
        return expected
    }

    /// One connection and what is done on it.
    private func operation(
        _ daemon: Daemon, _ expected: Expected, _ random: inout SeededGenerator,
        _ counts: Counts
    ) async throws {
        let kind = Int.random(in: 0..<Self.kinds, using: &random)
        let choice = Int.random(in: 0..<16, using: &random)
        let stop = Int.random(in: 0...6, using: &random)
        let client = try await daemon.connect()
        let inference = InferenceClient(
            client, timeout: choice == 9 ? UInt64.random(in: 1...30_000_000, using: &random) : nil)
        do {
            switch choice {
            case 0...3:
                let answer = try await inference.collect(Self.request(kind))
                #expect(answer.tokens == expected.answers[kind].tokens)
                #expect(answer.text == expected.answers[kind].text)
                #expect(answer.logprobs == expected.answers[kind].logprobs)
                counts.checked.add(1, ordering: .relaxed)
            case 4, 5:
                let answer = try await inference.embedWhole(Self.embedding(kind))
                let isSame = Self.values(answer) == expected.vectors[kind]
                #expect(isSame)
                counts.checked.add(1, ordering: .relaxed)
            case 6, 7:
                // The connection is closed while the answer is being written, or before it began.
                var parts = 0
                if stop > 0 {
                    for try await _ in inference.generate(Self.endless(kind)) {
                        parts += 1
                        if parts >= stop { break }
                    }
                } else {
                    async let whole: Void = {
                        _ = try? await inference.collect(Self.endless(kind))
                    }()
                    await client.close()
                    await whole
                }
                counts.cut.add(1, ordering: .relaxed)
            case 8:
                var parts = 0
                for try await part in inference.generate(Self.endless(kind)) {
                    if let id = part.started?.requestID, stop % 2 == 0 {
                        try await daemon.withClient { other, _ in _ = try await other.cancel(id) }
                    }
                    parts += 1
                    if stop % 2 == 1, parts >= stop { break }
                }
                counts.cut.add(1, ordering: .relaxed)
            case 9: _ = try await inference.collect(Self.endless(kind))
            case 10: _ = try await ControlClient(client).reload()
            case 11...14:
                try await Conversation.talk(
                    daemon, client, expected.conversations[kind % Conversation.kinds], &random)
                counts.talks.add(1, ordering: .relaxed)
            default:
                var input = EmbedInput()
                input.input = .tokens([UInt32](repeating: 9, count: 400))
                var request = Self.embedding(kind)
                request.input = [EmbedInput](repeating: input, count: 20)
                for try await _ in inference.embed(request) { break }
                counts.cut.add(1, ordering: .relaxed)
            }
        } catch ClientError.rpc(let error) {
            // Full queues and deadlines belong to it; a bug does not.
            #expect(
                [.resourceExhausted, .deadlineExceeded, .cancelled, .notFound].contains(error.code),
                "\(error)")
            counts.refused.add(1, ordering: .relaxed)
        }
        await client.close()
    }

    static func endless(_ kind: Int) -> GenerateRequest {
        var request = GenerateRequest("on and on \(kind)", count: 60000)
        request.model = kind % 2 == 0 ? "tiny" : "other"
        return request
    }
}
