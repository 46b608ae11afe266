// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing

@testable import RPC

@Suite("One user's connections beside another's", .fewAtOnce, .bounded)
struct HostileConnectionTests {
    private func header(_ length: Int, _ stream: UInt32, flags: UInt8 = 0) -> [UInt8] {
        RawSocket.header(length, stream, kind: 1, flags: flags)
    }

    @Test("64 refused frames in a row close a connection; an accepted one begins the count anew")
    func refusedInRow() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        func refused(_ streams: some Swift.Sequence<UInt32>) async throws {
            try await socket.send(streams.flatMap { header(0, $0, flags: 2) })
        }
        try await refused(stride(from: 1, to: 127, by: 2))
        try await socket.send(frame(127, "Echo", text("good").encoded(), flags: 0))
        try await refused(stride(from: 129, to: 255, by: 2))
        for _ in 0..<127 { _ = try await socket.frame() }
        #expect(!socket.isClosed)
        try await refused([255])
        _ = try await socket.frame()
        try await eventually { socket.isClosed }
        test.server.close()
    }

    @Test("a flood of refused frames is answered sixteen at a time, so that others have their turn")
    func turns() async throws {
        let test = TestServer()
        try test.start()
        let floods = try (0..<8).map { _ in try RawSocket(test.path) }
        for flood in floods {
            try await flood.send((0..<63).flatMap { header(0, 2 * $0 + 1, flags: 2) })
        }
        let client = try await RPCClient.connect(path: test.path)
        let answer: DetokenizeResponse = try await client.unary("t", "Echo", text("me"))
        #expect(answer.text.hasPrefix("me"))
        for flood in floods { for _ in 0..<63 { _ = try await flood.frame() } }
        test.server.close()
    }

    @Test(
        "large frames are charged before they are read: those beyond a user's share wait for others"
    )
    func room() async throws {
        let test = TestServer { $0.bytes.requestBytesPerAccount = 2 << 20 }
        try test.start()
        let size = 1_500_000
        var request = Request()
        request.service = "t"
        request.method = "Echo"
        request.payload = text(String(repeating: "x", count: size)).encoded()
        let data = request.encoded()
        let whole = header(data.count, 1) + data
        let first = try RawSocket(test.path)
        try await first.send(Array(whole.dropLast()))
        try await eventually { test.server.accounts.requestBytes == data.count }
        let second = try RawSocket(test.path)
        try await second.send(Array(whole[..<100_000]))
        // The second one has no room, a small call has.
        let client = try await RPCClient.connect(path: test.path)
        let _: DetokenizeResponse = try await client.unary("t", "Echo", text("small"))
        #expect(test.server.accounts.requestBytes <= data.count + 5000)
        try await first.send([whole[whole.count - 1]])
        #expect(try await first.frame().data.count > size)
        try await second.send(Array(whole[100_000...]))
        #expect(try await second.frame().data.count > size)
        try await eventually { test.server.accounts.requestBytes == 0 }
        test.server.close()
    }

    @Test("a frame that stays incomplete is answered DEADLINE_EXCEEDED and its connection closed")
    func incomplete() async throws {
        let test = TestServer { $0.frameTime = 50_000_000 }
        try test.start()
        let idle = try RawSocket(test.path)
        let socket = try RawSocket(test.path)
        try await socket.send(header(4 << 20, 1) + [UInt8](repeating: 0, count: 200_000))
        let answer = try await socket.response()
        #expect(answer.stream == 1)
        #expect(answer.response.status?.code == RPCCode.deadlineExceeded.rawValue)
        try await eventually { socket.isClosed }
        try await eventually { test.server.accounts.requestBytes == 0 }
        #expect(!idle.isClosed)
        test.server.close()
    }

    @Test("a client that leaves in the middle of a frame gives its room back")
    func leaves() async throws {
        let test = TestServer()
        try test.start()
        var socket: RawSocket? = try RawSocket(test.path)
        try await socket?.send(header(4 << 20, 1) + [UInt8](repeating: 0, count: 200_000))
        try await eventually { test.server.accounts.requestBytes == 4 << 20 }
        socket = nil
        try await eventually { test.server.accounts.requestBytes == 0 }
        test.server.close()
    }

    @Test("a deadline that is over already is answered so, and nothing is begun")
    func deadlineOver() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        for (stream, timeout) in [(1, -1), (3, .min)] as [(UInt32, Int64)] {
            try await socket.send(
                frame(stream, "Block", text("begun").encoded(), flags: 0, timeout: timeout))
            let answer = try await socket.response()
            #expect(answer.stream == stream)
            #expect(answer.response.status?.code == RPCCode.deadlineExceeded.rawValue)
        }
        #expect(test.sent.withLock { $0 } == [])
        test.server.close()
    }

    @Test(
        "a user who holds its handlers with slow calls holds neither quick calls nor others' handlers"
    )
    func quick() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        for number in UInt32(0)..<8 {
            try await socket.send(frame(2 * number + 1, "Block", text("slow").encoded(), flags: 0))
        }
        try await eventually {
            test.sent.withLock { $0.count } == RPCServer.handlersPerAccount
        }
        let client = try await RPCClient.connect(path: test.path)
        let _: DetokenizeResponse = try await client.unary("t", "Quick", text(""))
        #expect(test.sent.withLock { $0.count } == RPCServer.handlersPerAccount)
        test.gate.withLock { $0 = true }
        for _ in 0..<8 { _ = try await socket.frame() }
        test.server.close()
    }

    @Test("a call that waits for a handler is told as soon as its time is up, and is never handled")
    func lateInQueue() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        for stream in [1, 3] as [UInt32] {
            try await socket.send(frame(stream, "Block", text("slow").encoded(), flags: 0))
        }
        try await eventually {
            test.sent.withLock { $0.count } == RPCServer.handlersPerAccount
        }
        let late = text("late").encoded()
        try await socket.send(frame(5, "Block", late, flags: 0, timeout: 50_000_000))
        let answer = try await socket.response()
        #expect(answer.stream == 5)
        #expect(answer.response.status?.code == RPCCode.deadlineExceeded.rawValue)
        #expect(!test.gate.withLock { $0 })
        test.gate.withLock { $0 = true }
        for _ in 0..<2 { _ = try await socket.frame() }
        try await eventually { test.server.isHandlingNothing }
        #expect(test.sent.withLock { $0 } == ["slow", "slow"])
        #expect(test.server.accounts.requestBytes == 0)
        test.server.close()
    }
}
