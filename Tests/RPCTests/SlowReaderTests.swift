// SPDX-License-Identifier: Apache-2.0

import Glibc
import NIOPosix
import TestSupport
import Testing

@testable import RPC

@Suite("Answers that nobody reads", .timeLimit(.minutes(10)))
struct SlowReaderTests {
    private static let megabyte = text(String(repeating: "x", count: 1 << 20)).encoded()

    @Test(
        "a reader that takes nothing loses its connection, with a whole answer or the end of a stream"
    )
    func cut() async throws {
        let test = TestServer { $0.slowReaderTimeout = 100_000_000 }
        try test.start()
        for (number, (question, size)) in [
            (frame(1, "Echo", Self.megabyte, flags: 0), 1 << 20),
            (frame(1, "Count", count(20_000).encoded(), flags: 1), 340_000),
        ].enumerated() {
            let socket = try RawSocket(test.path)
            socket.send(question)
            #expect(await TestServer.eventually { test.server.callsBegun == number + 1 })
            #expect(await TestServer.eventually { test.server.openCalls == 0 })
            #expect(await TestServer.eventually { test.server.unreadAnswers == 0 })
            var taken = 0
            while !socket.isClosed { taken += socket.take(1 << 20) }
            #expect(taken < size)
        }
        test.server.close()
    }

    @Test("a reader that is slow but goes on gets everything")
    func steady() async throws {
        let test = TestServer { $0.slowReaderTimeout = 800_000_000 }
        try test.start()
        let (path, size) = (test.path, 1 << 19)
        // On a thread of its own: nothing must hold it up.
        let (taken, time) = try await NIOThreadPool.singleton.runIfActive {
            let socket = try RawSocket(path)
            let question = text(String(repeating: "x", count: size)).encoded()
            socket.send(frame(1, "Echo", question, flags: 0))
            var taken = 0
            let began = ContinuousClock.now
            // The system takes more only when most of what a socket holds is gone, which is after more than the time.
            while taken <= size, !socket.isClosed {
                taken += socket.take(10_000)
                usleep(80_000)
            }
            return (taken, ContinuousClock.now - began)
        }
        #expect(taken > size)
        #expect(time > .milliseconds(3000))
        test.server.close()
    }

    @Test("no more calls are begun while eight megabytes of answers wait, and all are in the end")
    func backlog() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        let question = count(1 << 20).encoded()
        socket.send((0..<40).flatMap { frame(2 * $0 + 1, "Large", question, flags: 0) })
        #expect(await TestServer.eventually { test.sent.withLock { $0.count } >= 8 })
        try await Task.sleep(for: .milliseconds(100))
        // Eight that wait, and one more on each handler's thread.
        #expect(test.sent.withLock { $0.count } <= 12)
        #expect(test.server.openCalls >= 28)
        let client = try await RPCClient.connect(path: test.path)
        let _: DetokenizeResponse = try await client.unary("t", "Echo", text("another's"))
        for _ in 0..<40 { #expect(try socket.response().response.payload.count > 1 << 20) }
        #expect(await TestServer.eventually { test.server.unreadAnswers == 0 })
        test.server.close()
    }

    @Test("calls that wait for a reader who leaves are over")
    func leaving() async throws {
        let test = TestServer()
        try test.start()
        var socket: RawSocket? = try RawSocket(test.path)
        let question = count(1 << 20).encoded()
        socket?.send((0..<40).flatMap { frame(2 * $0 + 1, "Large", question, flags: 0) })
        #expect(await TestServer.eventually { test.sent.withLock { $0.count } >= 8 })
        socket = nil
        #expect(await TestServer.eventually { test.server.openCalls == 0 })
        #expect(await TestServer.eventually { test.server.accounts.requestBytes == 0 })
        #expect(test.server.unreadAnswers == 0)
        #expect(test.server.accounts.answerBytes == 0)
        test.server.close()
    }

    @Test("a connection that is at rest is left alone")
    func atRest() async throws {
        let test = TestServer { $0.slowReaderTimeout = 20_000_000 }
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        for _ in 0..<2 {
            let _: DetokenizeResponse = try await client.unary("t", "Echo", text("x"))
            try await Task.sleep(for: .milliseconds(100))
        }
        test.server.close()
    }
}
