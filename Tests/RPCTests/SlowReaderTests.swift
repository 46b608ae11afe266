// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing

@testable import RPC

@Suite("Answers that nobody reads", .fewAtOnce, .bounded)
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
            try await socket.send(question)
            try await eventually { test.server.callsBegun == number + 1 }
            try await eventually { test.server.openCalls == 0 }
            try await eventually { test.server.unreadAnswers == 0 }
            var taken = 0
            try await eventually {
                taken += socket.take(1 << 20)
                return socket.isClosed
            }
            #expect(taken < size)
        }
        test.server.close()
    }

    @Test("a reader's every 64 KiB show in what the system holds for it")
    func progress() throws {
        var ends: [Int32] = [0, 0]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        defer { for end in ends { close(end) } }
        var bytes = [UInt8](repeating: 7, count: 1 << 20)
        let sent = send(ends[0], bytes, bytes.count, Int32(MSG_DONTWAIT))
        #expect(sent > 1 << 17)
        var (read, held) = (0, [ReaderWatch.held(by: ends[0])])
        while read + 1 << 16 <= sent {
            read += recv(ends[1], &bytes, 1 << 16, Int32(MSG_WAITALL))
            held.append(ReaderWatch.held(by: ends[0]))
        }
        #expect(zip(held, held.dropFirst()).allSatisfy { $0 > $1 }, "\(held)")
    }

    @Test("no more calls are begun while eight megabytes of answers wait, and all are in the end")
    func backlog() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        let question = count(1 << 20).encoded()
        try await socket.send((0..<40).flatMap { frame(2 * $0 + 1, "Large", question, flags: 0) })
        // Until all that wait, wait for their reader.
        try await eventually { test.server.callsBegun == 40 && test.server.isHandlingNothing }
        // Eight that wait, and one more on each handler's thread.
        #expect((8...12).contains(test.sent.withLock { $0.count }))
        #expect(test.server.openCalls >= 28)
        let client = try await RPCClient.connect(path: test.path)
        let _: DetokenizeResponse = try await client.unary("t", "Echo", text("another's"))
        for _ in 0..<40 { #expect(try await socket.response().response.payload.count > 1 << 20) }
        try await eventually { test.server.unreadAnswers == 0 }
        test.server.close()
    }

    @Test("calls that wait for a reader who leaves are over")
    func leaving() async throws {
        let test = TestServer()
        try test.start()
        var socket: RawSocket? = try RawSocket(test.path)
        let question = count(1 << 20).encoded()
        try await socket?.send((0..<40).flatMap { frame(2 * $0 + 1, "Large", question, flags: 0) })
        try await eventually { test.sent.withLock { $0.count } >= 8 }
        socket = nil
        try await eventually { test.server.openCalls == 0 }
        try await eventually { test.server.accounts.requestBytes == 0 }
        // A handler may be at its answer still.
        try await eventually { test.server.unreadAnswers == 0 }
        try await eventually { test.server.accounts.answerBytes == 0 }
        test.server.close()
    }
}

@Suite("The watch over a reader")
struct ReadStallTests {
    private let second: UInt64 = 1_000_000_000

    @Test("who takes nothing for 30 s is stalled, seen at the latest a quarter later")
    func stalled() {
        var stall = ReadStall(patience: 30 * second)
        let nothing = ReadStall.Progress(passedOn: 5, held: 7)
        let steps = [0, 29, 30].map { stall.look(nothing, now: $0 * second) }
        #expect(steps == [.look(after: 7_500_000_000), .look(after: 7_500_000_000), .stalled])
    }

    @Test("who takes something now and then is not, wherever that shows")
    func steady() {
        var stall = ReadStall(patience: 30 * second)
        for time in 0..<20 as Range<UInt64> {
            let progress = ReadStall.Progress(
                passedOn: Int(time / 2), held: Int32((time + 1) / 2))
            #expect(stall.look(progress, now: time * 29 * second) != .stalled)
        }
    }

    @Test("time in which nothing waits does not count")
    func atRest() {
        var stall = ReadStall(patience: 30 * second)
        let progress = ReadStall.Progress(passedOn: 5, held: 7)
        #expect(stall.look(progress, now: 0) == .look(after: 7_500_000_000))
        #expect(stall.look(nil, now: 8 * second) == .rest)
        #expect(stall.look(progress, now: 99 * second) == .look(after: 7_500_000_000))
    }
}
