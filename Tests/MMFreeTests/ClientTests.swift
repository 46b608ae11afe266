// SPDX-License-Identifier: Apache-2.0

import RPC
import Synchronization
import TestSupport
import Testing

@testable import MMFree

@Suite("a client", .fewAtOnce, .bounded)
struct ClientTests {
    /// A client of a fake daemon.
    private func withFake(
        _ options: Client.Options = Client.Options(),
        _ body: (FakeDaemon, Client) async throws -> Void
    ) async throws {
        let daemon = FakeDaemon()
        try daemon.start()
        try await withClient(socket: daemon.socket, options: options) {
            try await body(daemon, $0)
        }
    }

    @Test("an answer comes in parts, and as a whole")
    func parts() async throws {
        try await withFake { _, client in
            var texts: [String] = []
            for try await part in client.generate("a", options: .init(maxTokens: 3)) {
                texts.append(part.text)
            }
            #expect(texts == ["0 ", "1 ", "2 ", ""])
            let whole = try await client.generate("a", options: .init(maxTokens: 3)).collect()
            #expect(whole.text == "0 1 2 ")
            #expect(whole.tokens == [0, 1, 2])
            #expect(whole.finishReason == .length)
        }
    }

    @Test("a consumer that does not ask makes the daemon wait, and 512 KiB are the most kept here")
    func demand() async throws {
        try await withFake { daemon, client in
            var parts = client.generate("flood", options: .init(maxTokens: 2000))
                .makeAsyncIterator()
            var taken = try await parts.next()?.text.utf8.count ?? 0
            // 20 MB are to come; the daemon stops after what the sockets, its outbox and the window hold.
            try await eventually { daemon.isFull.withLock { $0 } }
            #expect(try await client.kept.bytes < 512 << 10)
            #expect(daemon.flooded.withLock { $0 } < 1000)
            while let part = try await parts.next() { taken += part.text.utf8.count }
            #expect(taken == 20_000_000)
            #expect(try await client.kept == (0, 0))
        }
    }

    @Test("cancelling one of two tasks ends its call alone, with CancellationError")
    func cancelOne() async throws {
        try await withFake { daemon, client in
            func hold() -> Task<Completion, any Error> {
                Task { try await client.generate("hold").collect() }
            }
            let (one, other) = (hold(), hold())
            try await eventually { daemon.held.withLock { $0.count } == 2 }
            one.cancel()
            #expect(await failure { _ = try await one.value } is CancellationError)
            try await eventually { daemon.cancelled.withLock { $0 } == 1 }
            for outbox in daemon.held.withLock({ $0 }) {
                outbox.send(GenerateResponse(text: "end", finished: Finished(reason: .stop)))
                outbox.finish()
            }
            #expect(try await other.value.text == "end")
            #expect(try await client.isServing())
        }
    }

    @Test("a task that is cancelled before its call gets CancellationError and asks nobody")
    func cancelledBefore() async throws {
        try await withFake { daemon, client in
            let task = Task {
                while !Task.isCancelled { await Task.yield() }
                return try await client.detokenize([1])
            }
            task.cancel()
            #expect(await failure { _ = try await task.value } is CancellationError)
            #expect(daemon.count("Detokenize") == 0)
        }
    }

    @Test("leaving the loop ends the call")
    func leave() async throws {
        try await withFake { daemon, client in
            for try await part in client.generate("hold") {
                #expect(part.started?.seed == 5)
                break
            }
            try await eventually { daemon.cancelled.withLock { $0 } == 1 }
            try await eventually { try await client.kept == (0, 0) }
        }
    }

    @Test("a broken connection is reported once to each call, and the next call has a new one")
    func dropped() async throws {
        let first = FakeDaemon()
        try first.start()
        try await withClient(socket: first.socket) { client in
            let calls = (0..<3).map { _ in
                Task { await failure { _ = try await client.generate("hold").collect() } }
            }
            try await eventually { first.held.withLock { $0.count } == 3 }
            first.server.close()
            for call in calls {
                let error = await call.value as? MMFreeError
                #expect(error?.code == .unavailable)
                #expect(error?.reason == "DISCONNECTED")
                #expect(error?.isFromDaemon == false)
                #expect(error?.retryAfter != nil)
            }
            let second = FakeDaemon(first.socket)
            try second.start()
            #expect(try await client.detokenize([1, 2]) == "2")
            #expect(second.count("Detokenize") == 1)
        }
    }

    @Test("after its connection broke, a stream that is asked again is at its end")
    func once() async throws {
        let daemon = FakeDaemon()
        try daemon.start()
        try await withClient(socket: daemon.socket) { client in
            var parts = client.generate("hold").makeAsyncIterator()
            let first = try await parts.next()
            #expect(first?.started != nil)
            daemon.server.close()
            #expect(
                await failure { _ = try await parts.next() } as? MMFreeError
                    == MMFreeError(.disconnected))
            let last = try await parts.next()
            #expect(last == nil)
        }
    }

    @Test("errors have code, reason, fields and the daemon's advice on when to try again")
    func typed() async throws {
        try await withFake { daemon, client in
            var refusal = RPCError(.resourceExhausted, "12 wait", reason: "QUEUE_FULL")
            refusal.retryAfter = 1_500_000_000
            daemon.refusals.withLock { $0 = [refusal, .invalid("tokens", "no tokens")] }
            let full = await failure { _ = try await client.detokenize([1]) } as? MMFreeError
            #expect(full?.code == .resourceExhausted)
            #expect(full?.reason == "QUEUE_FULL")
            #expect(full?.message == "12 wait")
            #expect(full?.retryAfter == .seconds(1.5))
            #expect(full?.isFromDaemon == true)
            let wrong = await failure { _ = try await client.detokenize([1]) } as? MMFreeError
            #expect(wrong?.code == .invalidArgument)
            #expect(wrong?.violations == [.init(field: "tokens", description: "no tokens")])
            #expect(wrong?.retryAfter == nil)
        }
    }

    @Test("options that do not fit a message are refused before anything is sent")
    func unsendable() async throws {
        try await withFake { daemon, client in
            var options = GenerateOptions(maxTokens: -1)
            func refused() async -> String? {
                let error = await failure {
                    _ = try await client.generate("a", options: options).collect()
                }
                return (error as? MMFreeError)?.violations.first?.field
            }
            #expect(await refused() == "max_tokens")
            options = GenerateOptions()
            options.topK = 1 << 40
            #expect(await refused() == "top_k")
            #expect(daemon.count("Generate") == 0)
        }
    }

    @Test("any number of inputs are embedded in their order, and an error names the input")
    func embed() async throws {
        try await withFake { daemon, client in
            let vectors = try await client.embed((0..<150).map { "\($0)" })
            #expect(vectors.map(\.values) == (0..<150).map { [Float($0)] })
            #expect(vectors.map(\.index) == Array(0..<150))
            #expect(daemon.count("Embed") == 3)
            let long = String(repeating: " ", count: 1_500_000)
            #expect(try await client.embed([.text("1" + long), .text("2" + long), "3"]).count == 3)
            #expect(daemon.count("Embed") == 5)
            #expect(try await client.embed([MMFree.Prompt]()) == [])
            let wrong = await failure {
                _ = try await client.embed((0..<70).map { $0 == 67 ? "wrong" : "1" })
            }
            #expect((wrong as? MMFreeError)?.message == "input[67]: wrong")
            #expect((wrong as? MMFreeError)?.violations.first?.field == "input[67]")
        }
    }

    @Test("10,000 calls leave nothing behind in the client")
    func flat() async throws {
        try await withFake { daemon, client in
            // At most 64 calls may be open on a connection.
            for _ in 0..<250 {
                try await withThrowingTaskGroup { group in
                    for number in 0..<40 {
                        group.addTask {
                            switch number % 4 {
                            case 0:
                                for try await _ in client.generate(
                                    "a", options: .init(maxTokens: 2))
                                { break }
                            case 1:
                                _ = try await client.generate("a", options: .init(maxTokens: 2))
                                    .collect()
                            default:
                                _ = try await client.detokenize([1], timeout: .seconds(600))
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(daemon.count("Detokenize") == 5000)
            try await eventually { try await client.kept == (0, 0) }
        }
    }

    @Test("a client that was closed says so, for calls under way and for later ones")
    func closed() async throws {
        let daemon = FakeDaemon()
        try daemon.start()
        let client = Client(socket: daemon.socket)
        let call = Task { await failure { _ = try await client.generate("hold").collect() } }
        try await eventually { daemon.held.withLock { $0.count } == 1 }
        await client.close()
        #expect((await call.value as? MMFreeError)?.code == .cancelled)
        let later = await failure { _ = try await client.isServing() }
        #expect((later as? MMFreeError)?.message == "the client was closed")
    }

    @Test("a client that comes before its daemon waits for it, as long as it has patience")
    func early() async throws {
        let daemon = FakeDaemon()
        var options = Client.Options()
        options.patience = .zero
        let hasty = Client(socket: daemon.socket, options: options)
        let error = await failure { _ = try await hasty.isServing() } as? MMFreeError
        #expect(error?.code == .unavailable)
        #expect(error?.reason == "NO_SOCKET")
        options.patience = .seconds(120)
        let patient = Client(socket: daemon.socket, options: options)
        let call = Task { try await patient.isServing() }
        // Two calls share the one attempt to connect; the one that is cancelled leaves it to the other.
        let cancelled = Task { try await patient.isServing() }
        cancelled.cancel()
        #expect(await failure { _ = try await cancelled.value } is CancellationError)
        try daemon.start()
        #expect(try await call.value)
    }
}
