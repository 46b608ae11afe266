// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import RPC

@Suite("A client's inbox")
struct ClientInboxTests {
    private let inbox = ClientInbox()

    /// - Returns: the stream of a call that has begun.
    private func begin(_ id: ClientStreams.ID) throws -> UInt32 {
        inbox.update { ($0.begin(id, isStreaming: true), []) }
        return try #require(inbox.update { ($0.open(id), [id]) })
    }

    private func receive(_ stream: UInt32, _ count: Int) {
        let frame = Frame(stream: stream, kind: .data, data: [UInt8](repeating: 7, count: count))
        inbox.update { ((), $0.receive(frame).map { [$0] } ?? []) }
    }

    /// - Returns: what the consumer gets, and whether the loop has to look at its reading.
    private func next(_ id: ClientStreams.ID) async -> (ClientStreams.Taken, Bool) {
        var changes = false
        let taken = await withCheckedContinuation { changes = inbox.next(id, $0) }
        return (taken, changes)
    }

    @Test("what waits is taken without the loop")
    func waiting() async throws {
        let stream = try begin(1)
        receive(stream, 1)
        receive(stream, 2)
        let (taken, changes) = await next(1)
        #expect(taken == .messages([[7], [7, 7]]))
        #expect(!changes)
        #expect(inbox.readsOn() == nil)
    }

    @Test("who waits gets what comes, and the end after it")
    func awaited() async throws {
        let stream = try begin(1)
        async let first = next(1).0
        while inbox.kept.calls < 2 { await Task.yield() }
        receive(stream, 3)
        #expect(await first == .messages([[7, 7, 7]]))
        inbox.update { ((), $0.fail(.disconnected)) }
        #expect(await next(1).0 == .end(.failure(.disconnected)))
        #expect(inbox.kept == (0, 0))
    }

    @Test("a call whose request cannot be written ends for whoever waits")
    func refused() async throws {
        inbox.update { ($0.begin(1, isStreaming: false), []) }
        async let end = next(1).0
        while inbox.kept.calls < 2 { await Task.yield() }
        inbox.update { ($0.refuse(1, .disconnected), [1]) }
        #expect(await end == .end(.failure(.disconnected)))
    }

    @Test(
        "a full window stops reading once, and the consumer who comes again is the one who says so")
    func window() async throws {
        let stream = try begin(1)
        receive(stream, ClientStreams.window)
        #expect(inbox.readsOn() == false)
        #expect(inbox.readsOn() == nil)
        // It has the messages in its hands: they still count.
        #expect(await next(1).1 == false)
        async let second = next(1)
        while inbox.kept.calls < 2 { await Task.yield() }
        #expect(inbox.readsOn() == true)
        receive(stream, 1)
        #expect(await second == (.messages([[7]]), true))
    }
}
