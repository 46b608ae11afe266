// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import RPC

@Suite("Those who leave, and those who do not read", .fewAtOnce, .bounded)
struct LeavingTests {
    @Test("a caller that goes away cancels what it began, once each")
    func disconnect() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let streams: [AnswerStream<GenerateResponse>] = (0..<3).map { _ in
            client.stream("t", "Hold", count(1))
        }
        try await eventually { test.held.withLock { $0.count } == 3 }
        #expect(test.server.openCalls == 3)
        await client.close()
        try await eventually { test.cancelled.withLock { $0 } == 3 }
        try await eventually { test.server.openCalls == 0 }
        // Whoever still holds a sink is told.
        #expect(
            test.held.withLock { $0.map { $0.send(GenerateResponse()) } } == [
                .closed, .closed, .closed,
            ])
        for sink in test.held.withLock({ $0 }) { sink.finish() }
        withExtendedLifetime(streams) {}
        #expect(test.server.openCalls == 0)
        test.server.close()
    }

    @Test("a connection that is closed for using a stream twice cancels that stream's call too")
    func streamTwice() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        try await socket.send(frame(1, "Hold", count(1).encoded(), flags: 1))
        try await eventually { test.held.withLock { $0.count } == 1 }
        try await socket.send(frame(1, "Hold", count(1).encoded(), flags: 1))
        try await eventually { test.cancelled.withLock { $0 } == 1 }
        test.server.close()
    }

    @Test("a draining server refuses new calls and finishes old ones")
    func drain() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let stream: AnswerStream<GenerateResponse> = client.stream(
            "t", "Hold", count(1))
        try await eventually { test.held.withLock { $0.count } == 1 }
        test.server.beginDrain()
        do {
            let _: DetokenizeResponse = try await client.unary("t", "Echo", text(""))
            Issue.record("not refused")
        } catch {
            guard case .rpc(let error) = error else {
                Issue.record("\(error)")
                return
            }
            #expect(error.code == .unavailable)
            #expect(error.retryAfter != nil)
        }
        await #expect(throws: ClientError.noSocket(test.path)) {
            try await RPCClient.connect(path: test.path)
        }
        let sink = test.held.withLock { $0[0] }
        var part = GenerateResponse()
        part.text = "the end"
        _ = sink.send(part)
        sink.finish()
        var received = ""
        for try await part in stream { received += part.text }
        #expect(received == "the end")
        try await eventually { test.server.openCalls == 0 }
        test.server.close()
    }

    @Test(
        "who connects to an idle server that is about to stop is answered by the next on its socket"
    )
    func handedOver() async throws {
        let listener = try RawListener()
        let (first, second) = (TestServer(), TestServer())
        try first.server.listen(on: .descriptor(dup(listener.descriptor)))
        let early = try await RPCClient.connect(path: listener.path)
        let _: DetokenizeResponse = try await early.unary("t", "Echo", text("x"))
        #expect(!first.server.stopAcceptingIfIdle())
        await early.close()
        try await eventually { first.server.stopAcceptingIfIdle() }
        let client = try await RPCClient.connect(path: listener.path)
        async let answer: DetokenizeResponse = client.unary("t", "Echo", text("next"))
        first.server.close()
        try second.server.listen(on: .descriptor(dup(listener.descriptor)))
        #expect(try await answer.text.hasPrefix("next"))
        second.server.close()
    }

    @Test("an answer is unread until its last byte is out, however late that is")
    func unreadUntilWritten() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        // More than a socket holds, less than the server keeps for a reader.
        try await socket.send(frame(1, "Count", count(20_000).encoded(), flags: 1))
        try await eventually { test.server.unreadAnswers == 1 && test.server.openCalls == 0 }
        for _ in 0...20_000 { _ = try await socket.frame() }
        try await eventually { test.server.unreadAnswers == 0 }
        test.server.close()
    }

    @Test("a reader that does not read holds up nobody else")
    func slowReader() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        try await socket.send(frame(1, "Hold", count(1).encoded(), flags: 1))
        try await eventually { test.held.withLock { $0.count } == 1 }
        let sink = test.held.withLock { $0[0] }
        var part = GenerateResponse()
        part.text = String(repeating: "x", count: 10_000)
        let ready = Mutex(false)
        sink.onDrain { ready.withLock { $0 = true } }
        var sent = 0
        while sink.send(part) == .accepted, sent < 1000 { sent += 1 }
        // Some lies in the socket's buffer, at most a quarter of a megabyte waits in the server.
        #expect(sent < 200)
        let client = try await RPCClient.connect(path: test.path)
        let answer: DetokenizeResponse = try await client.unary("t", "Echo", text("quick"))
        #expect(answer.text.hasPrefix("quick"))
        // The one that came when it was full was taken too.
        for _ in 0...sent { _ = try await socket.frame() }
        try await eventually { ready.withLock { $0 } }
        #expect(sink.send(part) == .accepted)
        test.server.close()
    }
}
