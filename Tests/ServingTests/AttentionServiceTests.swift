// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import Packer
import RPC
import SystemPackage
import TestSupport
import Testing

@testable import Serving

/// Expected values come from the engine alone, row by row; EngineTests hold that against the authors' code.
@Suite("Models with attention are served", .fewAtOnce, .bounded)
struct AttentionServiceTests {
    private static let models = ["bn_odd_packed", "ll_gqa1_sharded", "emb_prefix_f32"]

    private func withService<R>(
        _ configuration: ServingConfiguration = .testing,
        _ body: (Daemon, RPCClient) async throws -> R
    ) async throws -> R {
        func prepare(_ directory: FilePath) throws {
            for name in Self.models {
                _ = try PackJob(
                    PackSource(directory: fixtures.appending("bitnet").appending(name)),
                    to: directory.appending(name + ".gguf")
                ).run()
            }
        }
        return try await withDaemon([:], configuration, preparing: prepare) { daemon in
            let client = try await daemon.connect()
            let result: Result<R, any Error>
            do { result = .success(try await body(daemon, client)) } catch {
                result = .failure(error)
            }
            await client.close()
            return try result.get()
        }
    }

    private func tokens(_ count: Int, _ seed: UInt64) -> [UInt32] {
        var random = SeededGenerator(seed)
        return (0..<count).map { _ in UInt32.random(in: 3..<140, using: &random) }
    }

    private func request(
        _ tokens: [UInt32], _ model: String = "bn_odd_packed", count: Int = 12
    ) -> GenerateRequest {
        var request = GenerateRequest("", count: count, logprobs: 2)
        request.prompt = .tokens(tokens)
        request.model = model
        request.sampling?.temperature = 0
        return request
    }

    /// The most likely tokens after a prompt, by the engine alone.
    private func greedy(
        _ daemon: Daemon, _ name: String, _ prompt: [UInt32], _ count: Int,
        _ keyValues: KeyValueType = .f32
    ) throws -> [UInt32] {
        try Direct(daemon.model(name, keyValues)).greedy(after: prompt, count: count)
    }

    private func storing(_ keyValues: KeyValueType) -> ServingConfiguration {
        var configuration = ServingConfiguration.testing
        configuration.keyValueType = keyValues
        return configuration
    }

    @Test(
        "many at once, cut up and preempted, get what the engine gives each alone",
        arguments: ["bn_odd_packed", "ll_gqa1_sharded"], KeyValueType.allCases)
    func neighbours(_ name: String, _ keyValues: KeyValueType) async throws {
        var configuration = storing(keyValues)
        configuration.slots = 3
        configuration.prefillChunk = 7
        configuration.prefixInterval = 20
        try await withService(configuration) { daemon, client in
            let prompts = (0..<8).map { tokens(5 + 9 * $0, UInt64($0 % 5)) }
            let inference = InferenceClient(client)
            try await withThrowingTaskGroup(of: (Int, [UInt32]).self) { group in
                for (number, prompt) in prompts.enumerated() {
                    group.addTask {
                        (
                            number,
                            try await inference.collect(request(prompt, name)).tokens
                        )
                    }
                }
                for try await (number, found) in group {
                    #expect(try found == greedy(daemon, name, prompts[number], 12, keyValues))
                }
            }
        }
    }

    @Test(
        "a known prefix is not computed again, wherever in a page it ends, and changes no bit",
        arguments: KeyValueType.allCases)
    func prefixes(_ keyValues: KeyValueType) async throws {
        try await withService(storing(keyValues)) { daemon, client in
            let inference = InferenceClient(client)
            let base = tokens(37, 1)
            let first = try await inference.collect(request(base))
            let again = try await inference.collect(request(base))
            #expect(again.tokens == first.tokens && again.logprobs == first.logprobs)
            #expect(again.finished?.usage?.cachedTokens == 36)
            // Two that leave it at different places, and one that goes on with the answer.
            for prompt in [
                Array(base[..<20]) + tokens(9, 2), Array(base[..<20]) + tokens(9, 3),
                base + first.tokens + tokens(4, 4),
            ] {
                let found = try await inference.collect(request(prompt))
                #expect(
                    try found.tokens == greedy(daemon, "bn_odd_packed", prompt, 12, keyValues))
            }
        }
    }

    @Test("pages that prefixes share are counted once", arguments: KeyValueType.allCases)
    func sharedPages(_ keyValues: KeyValueType) async throws {
        var configuration = storing(keyValues)
        configuration.prefixInterval = 16
        try await withService(configuration) { daemon, client in
            let inference = InferenceClient(client)
            _ = try await inference.collect(request(tokens(100, 1), count: 1))
            let prefixes = try #require(try await ControlClient(client).status().prefixes)
            // At 16, 32 … 96, 99 and 100 tokens; seven pages of 16 tokens.
            #expect(prefixes.states == 8)
            let page = try daemon.model("bn_odd_packed", keyValues).memory.pageBytes(16)
            #expect(prefixes.bytes >= UInt64(7 * page))
            #expect(prefixes.bytes < UInt64(8 * page + 8 * 1024))
        }
    }

    @Test(
        "sessions go on, are forked, saved and restored with the bits of one long prompt",
        arguments: KeyValueType.allCases)
    func sessions(_ keyValues: KeyValueType) async throws {
        try await withService(storing(keyValues)) { daemon, client in
            let (inference, sessions) = (InferenceClient(client), SessionClient(client: client))
            var create = CreateSessionRequest()
            create.model = "bn_odd_packed"
            let id = try await sessions.create(create).session
            let prompts = [tokens(21, 1), tokens(3, 2), tokens(11, 3)]
            var all: [UInt32] = []
            for prompt in prompts {
                let expected = try greedy(
                    daemon, "bn_odd_packed", all + prompt, 12, keyValues)
                let fork = try await sessions.fork(id).session
                let restored = try await sessions.restore(
                    RestoreSessionRequest(state: sessions.save(id))
                ).session
                for session in [fork, restored, id] {
                    var turn = request(prompt)
                    turn.session = session
                    #expect(try await inference.collect(turn).tokens == expected)
                }
                all += prompt + expected
            }
            let info = try await sessions.get(id)
            #expect(info.tokens == UInt64(all.count))
            #expect(info.tokensDigest == TokenHistory(all).digest)
        }
    }

    @Test(
        "a session's keys and values are charged as they grow, and refused beyond the quota",
        arguments: KeyValueType.allCases)
    func sessionQuota(_ keyValues: KeyValueType) async throws {
        try await withService(storing(keyValues)) { daemon, client in
            let (inference, sessions) = (InferenceClient(client), SessionClient(client: client))
            var create = CreateSessionRequest()
            create.model = "bn_odd_packed"
            let id = try await sessions.create(create).session
            let before = try await sessions.get(id).bytes
            var turn = request(tokens(200, 1))
            turn.session = id
            let perToken = try daemon.model("bn_odd_packed", keyValues).memory.bytes(after: 1)
            _ = try await inference.collect(turn)
            let after = try await sessions.get(id).bytes
            #expect(after >= before + UInt64(190 * perToken))
            #expect(after <= before + UInt64(212 * perToken))
            let control = ControlClient(client)
            #expect(try await control.status().sessions?.bytes == after)
            try await sessions.drop(id)
            #expect(try await control.status().sessions?.bytes == 0)
        }
    }

    @Test("clients are told how keys and values are stored", arguments: KeyValueType.allCases)
    func told(_ keyValues: KeyValueType) async throws {
        try await withService(storing(keyValues)) { _, client in
            _ = try await InferenceClient(client).collect(request(tokens(5, 1), count: 1))
            let models = try await ControlClient(client).models()
            let used = try #require(models.first { $0.name == "bn_odd_packed" })
            #expect(used.keyValueType == keyValues.rawValue)
        }
    }

    @Test("a state with keys and values of the other type is refused by name, a session too")
    func otherType() async throws {
        let directory = try makeTemporaryDirectory()
        defer { try? removeFile(directory) }
        // The daemon of before, with its sessions on disk.
        var before = storing(.f32)
        before.sessionDirectory = directory.appending("sessions").string
        let (id, saved) = try await withService(before) { _, client in
            let (inference, sessions) = (InferenceClient(client), SessionClient(client: client))
            var create = CreateSessionRequest()
            create.model = "bn_odd_packed"
            let id = try await sessions.create(create).session
            _ = try await inference.collect(turn(of: id))
            return (id, try await sessions.save(id))
        }
        var after = before
        after.keyValueType = .bf16
        try await withService(after) { _, client in
            let (inference, sessions) = (InferenceClient(client), SessionClient(client: client))
            let restored = try await refusal {
                _ = try await sessions.restore(RestoreSessionRequest(state: saved))
            }
            let continued = try await refusal {
                _ = try await inference.collect(turn(of: id))
            }
            for error in [restored, continued] {
                #expect(
                    error?.code == .failedPrecondition && error?.reason == "KEY_VALUE_TYPE")
                #expect(error.map { "\($0)" }?.contains("in f32, those here") == true)
            }
            #expect(try await sessions.get(id).tokens > 0)
            #expect(try await sessions.save(id) == saved)
        }
        try await withService(before) { _, client in
            let answer = try await InferenceClient(client).collect(turn(of: id))
            #expect(answer.tokens.count == 12)
        }
    }

    private func turn(of session: String) -> GenerateRequest {
        var turn = request(tokens(21, 1))
        turn.session = session
        return turn
    }

    @Test("an answer ends with the context, and a prompt beyond it is refused by name")
    func context() async throws {
        try await withService { daemon, client in
            let inference = InferenceClient(client)
            let answer = try await inference.collect(request(tokens(4090, 1), count: 100))
            #expect(answer.tokens.count == 6 && answer.finished?.reason == .length)
            let refused = try await refusal {
                _ = try await inference.collect(request(tokens(4096, 1)))
            }
            #expect(refused?.code == .invalidArgument)
            #expect(refused.map { "\($0)" }?.contains("positions for 4096") == true)
        }
    }

    @Test("an embedding model's vectors are made as its files say; it predicts nothing")
    func embedding() async throws {
        try await withService { daemon, client in
            let inference = InferenceClient(client)
            let inputs = [tokens(12, 1), tokens(40, 2), tokens(1, 3)]
            var request = EmbedRequest()
            request.model = "emb_prefix_f32"
            request.input = inputs.map {
                var input = EmbedInput()
                input.input = .tokens($0)
                return input
            }
            let answer = try await inference.embedWhole(request)
            let direct = try Direct(daemon.model("emb_prefix_f32"))
            for embedding in answer.embeddings {
                var vector = PooledVector(.last)
                direct.hidden(inputs[Int(embedding.index)])[
                    inputs[Int(embedding.index)].count - 1
                ].withUnsafeBufferPointer { vector.add($0) }
                let isFinite = vector.finish(normalizes: true)
                #expect(isFinite && embedding.values == vector.values)
            }
            #expect(answer.embeddings.count == 3)
            let refused = try await refusal {
                _ = try await inference.collect(self.request(tokens(3, 1), "emb_prefix_f32"))
            }
            #expect(refused?.code == .failedPrecondition && refused?.reason == "EMBEDDING_MODEL")
        }
    }
}
