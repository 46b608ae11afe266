// SPDX-License-Identifier: Apache-2.0

import RPC
import Synchronization
import TestSupport
import Testing

@testable import MMFree

@Suite("calls made again", .fewAtOnce, .bounded)
struct RetryTests {
    private let busy = RPCError(.resourceExhausted, "busy", reason: "QUEUE_FULL")
        .retrying(after: 1_000_000)

    private func withFake(
        _ retries: RetryPolicy, refusing refusals: [RPCError],
        _ body: (FakeDaemon, Client) async throws -> Void
    ) async throws {
        let daemon = FakeDaemon()
        try daemon.start()
        daemon.refusals.withLock { $0 = refusals }
        try await withClient(socket: daemon.socket, options: .init(retries: retries)) {
            try await body(daemon, $0)
        }
    }

    @Test("never: the first error is reported")
    func never() async throws {
        try await withFake(.never, refusing: [busy]) { daemon, client in
            let error = await failure { _ = try await client.detokenize([1]) }
            #expect((error as? MMFreeError)?.reason == "QUEUE_FULL")
            #expect(daemon.count("Detokenize") == 1)
        }
    }

    @Test("idempotent calls are made again after the daemon's time, up to the number of attempts")
    func idempotent() async throws {
        try await withFake(.idempotent(attempts: 3), refusing: [busy, busy]) { daemon, client in
            #expect(try await client.detokenize([1]) == "1")
            #expect(daemon.count("Detokenize") == 3)
            daemon.refusals.withLock { $0 = [busy, busy, busy] }
            #expect(await failure { _ = try await client.embed("1") } is MMFreeError)
            #expect(daemon.count("Embed") == 3)
            daemon.refusals.withLock { $0 = [busy, busy] }
            let answer = try await client.generate("a", options: .init(maxTokens: 1)).collect()
            #expect(answer.text == "0 ")
            #expect(daemon.count("Generate") == 3)
        }
    }

    @Test("what changes the daemon, or cannot succeed, is asked once")
    func notAgain() async throws {
        try await withFake(.idempotent(attempts: 5), refusing: [busy, busy]) { daemon, client in
            #expect(await failure { _ = try await client.reload() } is MMFreeError)
            #expect(await failure { _ = try await client.cancel("r") } is MMFreeError)
            #expect(daemon.count("Reload") == 1)
            #expect(daemon.count("Cancel") == 1)
            daemon.refusals.withLock { $0 = [RPCError(.notFound, "no such model")] }
            #expect(await failure { _ = try await client.detokenize([1]) } is MMFreeError)
            #expect(daemon.count("Detokenize") == 1)
        }
    }

    @Test("an answer of which something has come is not begun again")
    func begun() async throws {
        try await withFake(.idempotent(attempts: 5), refusing: []) { daemon, client in
            var parts = client.generate("hold").makeAsyncIterator()
            _ = try await parts.next()
            try await eventually { daemon.held.withLock { !$0.isEmpty } }
            daemon.held.withLock { $0[0] }.fail(busy)
            #expect(
                (await failure { _ = try await parts.next() } as? MMFreeError)?.reason
                    == "QUEUE_FULL")
            #expect(daemon.count("Generate") == 1)
        }
    }

    @Test("after a broken connection the call goes on a new one")
    func reconnects() async throws {
        let first = FakeDaemon()
        try first.start()
        let options = Client.Options(retries: .idempotent(attempts: 100))
        try await withClient(socket: first.socket, options: options) { client in
            #expect(try await client.isServing())
            // It is stopping: it refuses, and another one comes to its place.
            let draining = RPCError(.unavailable, "the daemon is stopping", reason: "DRAINING")
                .retrying(after: 1_000_000)
            first.refusals.withLock { $0 = [draining] }
            #expect(try await client.detokenize([1]) == "1")
            #expect(first.count("Detokenize") == 2)
            first.server.close()
            let call = Task { try await client.detokenize([1, 2, 3]) }
            let second = FakeDaemon(first.socket)
            try second.start()
            #expect(try await call.value == "3")
        }
    }

    @Test(
        "the time to wait is the error's, unless it is longer than the policy's",
        arguments: [
            (Duration?.some(.seconds(1)), 1, Duration?.some(.seconds(1))),
            (.seconds(1), 3, nil), (.seconds(31), 1, nil), (nil, 1, nil),
        ])
    func wait(_ advice: Duration?, _ attempt: Int, _ expected: Duration?) {
        let error = MMFreeError(.unavailable, "", retryAfter: advice)
        #expect(
            RetryPolicy.idempotent(attempts: 3).wait(after: error, attempt: attempt) == expected)
        #expect(RetryPolicy.never.wait(after: error, attempt: attempt) == nil)
    }
}
