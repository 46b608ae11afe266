// SPDX-License-Identifier: Apache-2.0

import Engine
import Logging
import ModelStore
import RPC
import Serving
import SystemPackage
import TestSupport
import Testing

@testable import MMFree

/// A real daemon that serves the tiny model, in this process.
func withDaemon(_ body: (Client, FilePath) async throws -> Void) async throws {
    try await withModels { directory in
        var configuration = ServingConfiguration()
        configuration.threads = 2
        var transport = RPCServer.Configuration()
        transport.slowReaderTimeout = 3_600_000_000_000
        transport.frameTime = 3_600_000_000_000
        let service = try ServingService(
            configuration, transport: transport, directory: ModelDirectory([directory]),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let socket = directory.appending("socket").string
        try service.server.listen(on: .path(socket, mode: 0o600))
        let result: Result<Void, any Error>
        do {
            try await withClient(socket: socket) { try await body($0, directory) }
            result = .success(())
        } catch { result = .failure(error) }
        try await onThread("drain") { service.drain(limit: .zero) }
        try result.get()
    }
}

@Suite("a model in the own process", .fewAtOnce, .bounded)
struct SharedModelTests {
    /// Options that go on for `count` tokens, the end of text forbidden.
    private func options(_ count: Int, seed: UInt64 = 7) -> GenerateOptions {
        var options = GenerateOptions(maxTokens: count, temperature: 1, seed: seed)
        options.logitBias = [TinyModel.eos: -.infinity]
        return options
    }

    @Test("text, tokens, log-probabilities and vectors are the daemon's, bit for bit")
    func sameBits() async throws {
        try await withDaemon { client, directory in
            let local = try await SharedModel.open(
                path: TestSupport.model("tiny", in: directory).string)
            #expect(local.info.name == "tiny")
            #expect(local.info.protection == .plain)
            let prompts: [MMFree.Prompt] = ["a", "", "once upon", [5, 9, 300]]
            for (number, prompt) in prompts.enumerated() {
                var options = options(40, seed: UInt64(number))
                options.logprobs = 2
                options.repetitionPenalty = 1.3
                options.echo = number % 2 == 0
                let remote = try await client.generate(prompt, options: options).collect()
                let own = try await local.generate(prompt, options: options).collect()
                #expect(own.text == remote.text)
                #expect(own.tokens == remote.tokens)
                #expect(own.tokens.count == 40)
                #expect(own.logprobs == remote.logprobs)
                #expect(own.promptLogprobs.dropFirst() == remote.promptLogprobs.dropFirst())
                #expect(
                    remote.promptLogprobs.count
                        == (options.echo ? remote.started?.promptTokens : 0))
                #expect(remote.promptLogprobs.first?.chosen.logprob.isNaN ?? true)
                #expect(own.finishReason == remote.finishReason)
                #expect(own.usage.promptTokens == remote.usage.promptTokens)
                #expect(own.usage.completionTokens == remote.usage.completionTokens)
                #expect(remote.started?.modelDigest == local.info.digest)
                #expect(own.started?.modelDigest == local.info.digest)
            }
            var stopped = options(200)
            stopped.stop = ["z"]
            let (remote, own) = (
                try await client.generate("a", options: stopped).collect(),
                try await local.generate("a", options: stopped).collect()
            )
            #expect(own.text == remote.text)
            #expect(own.finishReason == remote.finishReason)
            for pooling in MMFree.Pooling.allCases {
                let inputs: [MMFree.Prompt] = ["a text", "another", [4, 5, 6]]
                let vectors = try await local.embed(
                    inputs, pooling: pooling, normalized: pooling == .mean)
                let remote = try await client.embed(
                    inputs, pooling: pooling, normalized: pooling == .mean)
                for (own, remote) in zip(vectors, remote) {
                    #expect(own.values == remote.values, "\(pooling), input \(own.index)")
                    #expect(own.promptTokens == remote.promptTokens)
                    #expect(own.index == remote.index && own.dimensions == remote.dimensions)
                }
            }
            let long: [TokenID] = (0..<500).map { $0 % 250 + 3 }
            for input: MMFree.Prompt in ["once upon a time", .tokens(long)] {
                for (from, top) in [(0, 0), (3, 2)] {
                    let remote = try await client.score(input, from: from, top: top)
                    let own = try await local.score(input, from: from, top: top)
                    #expect(own.first == remote.first && own.first == max(1, from))
                    #expect(own.logprobs == remote.logprobs)
                    #expect(own.total == remote.total && own.total < 0)
                    #expect(own.modelDigest == remote.modelDigest)
                    #expect(own.usage.promptTokens == remote.usage.promptTokens)
                    #expect(own.logprobs.count == own.usage.promptTokens - own.first)
                }
            }
            for (from, top) in [(500, 0), (0, 65), (0, -1), (-1, 0)] {
                let errors = [
                    await failure {
                        _ = try await client.score(.tokens(long), from: from, top: top)
                    },
                    await failure {
                        _ = try await local.score(.tokens(long), from: from, top: top)
                    },
                ]
                #expect(
                    errors.map { ($0 as? MMFreeError)?.code } == [
                        .invalidArgument, .invalidArgument,
                    ])
            }
            let text = "where it ends <s>"
            #expect(try await local.tokenize(text) == (try await client.tokenize(text)))
            let ids = try await local.tokenize(text, addsBOS: false).ids
            #expect(try await local.detokenize(ids) == (try await client.detokenize(ids)))
        }
    }

    private func withModel(
        _ options: SharedModel.Options = SharedModel.Options(threads: 2),
        _ body: (SharedModel) async throws -> Void
    ) async throws {
        try await withModels { directory in
            try await body(
                try await SharedModel.open(
                    path: TestSupport.model("tiny", in: directory).string, options: options))
        }
    }

    @Test("keys and values are stored as the options say; a type that is not known is refused")
    func keyValues() async throws {
        var options = SharedModel.Options(threads: 2)
        #expect(options.keyValueType == .f32)
        options.keyValueType = .bf16
        // A recurrent model has none.
        try await withModel(options) { #expect($0.info.keyValueType == nil) }
        options.keyValueType = .init(rawValue: "f8")
        await #expect(throws: MMFreeError.self) { try await withModel(options) { _ in } }
    }

    @Test("more answers at once than there are states are each what they are alone")
    func many() async throws {
        var two = SharedModel.Options(threads: 2)
        two.conversations = 2
        try await withModel(two) { model in
            func answer(_ seed: UInt64) async throws -> [TokenID] {
                try await model.generate("x \(seed)", options: options(30, seed: seed)).collect()
                    .tokens
            }
            var alone: [[TokenID]] = []
            for seed in 0..<6 { alone.append(try await answer(UInt64(seed))) }
            let together = try await withThrowingTaskGroup(of: (Int, [TokenID]).self) { group in
                for seed in 0..<6 {
                    group.addTask { (seed, try await answer(UInt64(seed))) }
                }
                return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
            for seed in 0..<6 { #expect(together[seed] == alone[seed]) }
        }
    }

    @Test("a consumer that does not ask is set aside, and goes on exactly where it was")
    func demand() async throws {
        var one = SharedModel.Options(threads: 1)
        one.conversations = 1
        try await withModel(one) { model in
            let alone = try await model.generate("a", options: options(300)).collect().tokens
            var parts = model.generate("a", options: options(300)).makeAsyncIterator()
            var tokens = try await parts.next()?.tokens ?? []
            // The only state is taken from the one who does not ask, for this whole answer to come.
            let other = try await model.generate("b", options: options(100)).collect()
            #expect(other.tokens.count == 100)
            while let part = try await parts.next() { tokens += part.tokens }
            #expect(tokens == alone)
        }
    }

    @Test("cancelling a task ends its answer alone, with CancellationError")
    func cancel() async throws {
        try await withModel { model in
            let endless = Task {
                try await model.generate("a", options: options(1_000_000)).collect()
            }
            let embedding = try await model.embed("b")
            endless.cancel()
            #expect(await failure { _ = try await endless.value } is CancellationError)
            #expect(try await model.embed("b") == embedding)
        }
    }

    @Test("what makes no sense is refused with the daemon's words")
    func refusals() async throws {
        try await withDaemon { client, directory in
            let local = try await SharedModel.open(
                path: TestSupport.model("tiny", in: directory).string)
            var hot = GenerateOptions()
            hot.temperature = -1
            let wrong: [(MMFree.Prompt, GenerateOptions)] = [
                ("a", hot), ([], GenerateOptions()), ([1 << 20], GenerateOptions()),
            ]
            for (prompt, options) in wrong {
                let remote = await failure {
                    _ = try await client.generate(prompt, options: options).collect()
                }
                let own = await failure {
                    _ = try await local.generate(prompt, options: options).collect()
                }
                #expect((own as? MMFreeError)?.code == .invalidArgument)
                #expect((own as? MMFreeError)?.message == (remote as? MMFreeError)?.message)
            }
        }
    }

    @Test("a file that is no model, or none at all, is refused with what it is")
    func files() async throws {
        let none = await failure { _ = try await SharedModel.open(path: "/proc/none.gguf") }
        #expect((none as? MMFreeError)?.code == .notFound)
        let other = await failure { _ = try await SharedModel.open(path: "/proc/self/exe") }
        #expect((other as? MMFreeError)?.code == .failedPrecondition)
    }

    @Test("a file that is written into ends its answers with DATA_LOSS, and gives no token of it")
    func overwritten() async throws {
        try await withModels { directory in
            let path = TestSupport.model("tiny", in: directory)
            let model = try await SharedModel.open(path: path.string)
            var parts = model.generate("a", options: options(1_000_000)).makeAsyncIterator()
            _ = try await parts.next()
            let file = try FileDescriptor.open(path, .readWrite)
            try file.seek(offset: -1, from: .end)
            try file.writeAll([1])
            try file.close()
            let error = await failure { while try await parts.next() != nil {} }
            #expect((error as? MMFreeError)?.code == .dataLoss)
            #expect(await failure { _ = try await model.embed("a") } is MMFreeError)
        }
    }
}
