// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import RPC

@Suite("Who is let in", .fewAtOnce, .bounded)
struct ConnectionTests {
    @Test("a stale socket is replaced; a live one, a file and too long a path are refused")
    func paths() async throws {
        let first = TestServer()
        try first.start()
        #expect(throws: ListenError.inUse(first.path)) {
            try first.server.listen(on: .path(first.path, mode: 0o600))
        }
        var status = stat()
        stat(first.path, &status)
        #expect(status.st_mode & 0o777 == 0o600)
        first.server.close()
        let stale = first.path + ".stale"
        try UnixSocket.leaveBehind(stale)
        await #expect(throws: ClientError.refused(stale)) {
            try await RPCClient.connect(path: stale)
        }
        let second = TestServer()
        try second.server.listen(on: .path(stale, mode: 0o600))
        second.server.close()
        let file = first.path + ".txt"
        fclose(fopen(file, "w"))
        let third = TestServer()
        #expect(throws: ListenError.notASocket(file)) {
            try third.server.listen(on: .path(file, mode: 0o600))
        }
        #expect(access(file, F_OK) == 0)
        unlink(file)
        let long = "/tmp/" + String(repeating: "x", count: 200)
        #expect(throws: ListenError.tooLong(long, limit: 103)) {
            try third.server.listen(on: .path(long, mode: 0o600))
        }
        third.server.close()
    }

    @Test("a socket whose queue is full is in use: it is left alone, and the start does not hang")
    func busyPath() async throws {
        let test = TestServer()
        let listener = try RawListener(test.path, backlog: 1)
        let waiting = [try RawSocket(test.path), try RawSocket(test.path)]
        #expect(throws: ListenError.inUse(test.path)) { try test.start() }
        #expect(access(test.path, F_OK) == 0)
        withExtendedLifetime((listener, waiting)) {}
        test.server.close()
    }

    @Test("a socket of another kind is left alone")
    func otherKind() async throws {
        let test = TestServer()
        let other = try UnixSocket.datagram(test.path)
        defer { close(other) }
        #expect(throws: ListenError.inUse(test.path)) { try test.start() }
        #expect(access(test.path, F_OK) == 0)
        unlink(test.path)
        test.server.close()
    }

    @Test("a client waits while the queue of connections is full")
    func fullQueue() async throws {
        let listener = try RawListener(backlog: 1)
        let waiting = [try RawSocket(listener.path), try RawSocket(listener.path)]
        var accepted: [RawSocket] = []
        var pauses = 0
        let client = try await RPCClient.connect(path: listener.path) {
            pauses += 1
            if pauses == 3 { accepted.append(try await listener.accept()) }
        }
        #expect(pauses == 3)
        withExtendedLifetime((waiting, accepted, client)) {}
    }

    @Test("where descriptors would run out, the next waits until one is closed")
    func waitingConnections() async throws {
        let test = TestServer {
            $0.descriptors = 2
            $0.refusedTime = 600_000_000_000
        }
        try test.start()
        let first = try await RPCClient.connect(path: test.path)
        let _: DetokenizeResponse = try await first.unary("t", "Echo", text(""))
        let silent = try RawSocket(test.path)
        try await eventually { !test.server.acceptsConnections }
        let third = try await RPCClient.connect(path: test.path)
        let stream: AnswerStream<GenerateResponse> = third.stream("t", "Count", count(1))
        // The loop goes round some times.
        for _ in 0..<20 { let _: DetokenizeResponse = try await first.unary("t", "Echo", text("")) }
        #expect(test.server.openConnections == 2)
        #expect(test.server.callsBegun == 21)
        await first.close()
        for try await part in stream { #expect(part.text == "0 ") }
        withExtendedLifetime(silent) {}
        test.server.close()
    }

    @Test("a connection too many is told so once and closed")
    func refusedOnce() async throws {
        let test = TestServer { $0.connectionsPerUser = 1 }
        try test.start()
        let first = try await RPCClient.connect(path: test.path)
        let _: DetokenizeResponse = try await first.unary("t", "Echo", text(""))
        let second = try RawSocket(test.path)
        let question = frame(1, "Echo", text("").encoded(), flags: 0)
        try await second.send(question + frame(3, "Echo", text("").encoded(), flags: 0))
        let answer = try await second.response().response
        #expect(answer.status?.code == RPCCode.resourceExhausted.rawValue)
        try await eventually { second.isClosed }
        let again: DetokenizeResponse = try await first.unary("t", "Echo", text("still"))
        #expect(again.text.hasPrefix("still"))
        test.server.close()
    }

    @Test("a connection too many that says nothing is closed after some time, others are not")
    func refusedSilence() async throws {
        let test = TestServer {
            $0.connectionsPerUser = 1
            $0.refusedTime = 50_000_000
        }
        try test.start()
        let first = try RawSocket(test.path)
        let second = try RawSocket(test.path)
        try await eventually { second.isClosed }
        #expect(!first.isClosed)
        test.server.close()
    }

    @Test("where too many are being told already, the next is closed without a word")
    func turnedAway() async throws {
        let test = TestServer {
            $0.connectionsPerUser = 2
            $0.refusedTime = 600_000_000_000
        }
        try test.start()
        let held = try (0..<4).map { _ in try RawSocket(test.path) }
        for _ in 0..<20 {
            let next = try RawSocket(test.path)
            try await eventually { next.isClosed }
        }
        #expect(held.map(\.isClosed) == [false, false, false, false])
        test.server.close()
    }

    @Test("more connections of one user than allowed are told so; an administrator's are not")
    func connectionsPerUser() async throws {
        for (administrator, isServed) in [(nil, false), (getuid(), true)] as [(UInt32?, Bool)] {
            let test = TestServer {
                $0.connectionsPerUser = 1
                $0.administrator = administrator
            }
            try test.start()
            let first = try await RPCClient.connect(path: test.path)
            let _: DetokenizeResponse = try await first.unary("t", "Echo", text(""))
            let second = try await RPCClient.connect(path: test.path)
            let outcome: Result<DetokenizeResponse, any Error>
            do { outcome = .success(try await second.unary("t", "Echo", text("served"))) } catch {
                outcome = .failure(error)
            }
            switch outcome {
            case .success: #expect(isServed)
            case .failure(ClientError.rpc(let error)):
                #expect(!isServed)
                #expect(error.reason == "TOO_MANY_CONNECTIONS")
                #expect(error.message.contains("user \(getuid())"))
            case .failure(let error): Issue.record(error)
            }
            withExtendedLifetime(first) {}
            test.server.close()
        }
    }

    @Test("more connections than allowed are told so")
    func connections() async throws {
        let test = TestServer { $0.connections = 1 }
        try test.start()
        let first = try await RPCClient.connect(path: test.path)
        let _: DetokenizeResponse = try await first.unary("t", "Echo", text(""))
        let second = try await RPCClient.connect(path: test.path)
        await #expect {
            let _: DetokenizeResponse = try await second.unary("t", "Echo", text(""))
        } throws: { error in
            guard case ClientError.rpc(let error) = error else { return false }
            return error.code == .resourceExhausted && error.reason == "TOO_MANY_CONNECTIONS"
        }
        withExtendedLifetime(first) {}
        test.server.close()
    }
}
