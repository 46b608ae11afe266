// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import RPC

@Suite("A client on a connection that calls share", .timeLimit(.minutes(2)))
struct ClientTests {
    private func echo(_ client: RPCClient, _ word: String) async throws -> String {
        let answer: DetokenizeResponse = try await client.unary("t", "Echo", text(word))
        return answer.text
    }

    @Test("cancelling a task ends its call with .cancelled, in the daemon too, and no other call")
    func cancelOne() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let other: AnswerStream<GenerateResponse> = client.stream("t", "Hold", count(1))
        #expect(await TestServer.eventually { test.held.withLock { $0.count } == 1 })
        let unary = Task { () -> ClientError? in
            do throws(ClientError) {
                let _: GenerateResponse = try await client.unary("t", "Hold", count(1))
                return nil
            } catch { return error }
        }
        let streaming = Task { () -> ClientError? in
            do throws(ClientError) {
                let stream: AnswerStream<GenerateResponse> = client.stream("t", "Hold", count(1))
                for try await _ in stream {}
                return nil
            } catch { return error }
        }
        #expect(await TestServer.eventually { test.held.withLock { $0.count } == 3 })
        unary.cancel()
        streaming.cancel()
        #expect(await unary.value == .cancelled)
        #expect(await streaming.value == .cancelled)
        #expect(await TestServer.eventually { test.cancelled.withLock { $0 } == 2 })
        #expect(await TestServer.eventually { test.server.openCalls == 1 })
        #expect(try await echo(client, "still") == "still \(getuid())")
        test.held.withLock { $0[0] }.finish()
        for try await _ in other {}
        #expect(test.cancelled.withLock { $0 } == 2)
        test.server.close()
    }

    @Test("leaving a loop early cancels that call alone")
    func leave() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        func first() async throws {
            let stream: AnswerStream<GenerateResponse> = client.stream("t", "Hold", count(1))
            #expect(await TestServer.eventually { test.held.withLock { $0.count } == 1 })
            #expect(test.held.withLock { $0[0] }.send(GenerateResponse(text: "a")) == .accepted)
            for try await part in stream {
                #expect(part.text == "a")
                break
            }
        }
        try await first()
        #expect(await TestServer.eventually { test.cancelled.withLock { $0 } == 1 })
        #expect(try await echo(client, "still") == "still \(getuid())")
        test.server.close()
    }

    @Test("a client that is dropped closes its connection; one whose answer is read is not dropped")
    func drop() async throws {
        let test = TestServer()
        try test.start()
        func stream() async throws -> AnswerStream<GenerateResponse> {
            try await RPCClient.connect(path: test.path).stream("t", "Count", count(3))
        }
        var pieces = ""
        for try await part in try await stream() { pieces += part.text }
        #expect(pieces == "0 1 2 ")
        #expect(await TestServer.eventually { test.server.openConnections == 0 })
        test.server.close()
    }

    @Test("a consumer that does not read makes the daemon wait, and gets everything in the end")
    func backpressure() async throws {
        let daemon = try FakeDaemon()
        let client = try await RPCClient.connect(path: daemon.path)
        let stream: AnswerStream<DetokenizeResponse> = client.stream("t", "Any", text(""))
        let connection = try daemon.accept()
        let message = DetokenizeResponse(text: String(repeating: "x", count: 10_000)).encoded()
        let frame = FakeDaemon.frame(1, kind: 3, flags: 0, message)
        // Until the socket takes no more: 256 KiB in the client, what it read in one go, and the socket's own buffer.
        let sent = connection.fill(frame, most: 64 << 20)
        #expect(sent > 256 << 10)
        #expect(sent < 2 << 20)
        // The consumer reads, and so does the client.
        let rest = Task.detached {
            for _ in 0..<1000 { connection.send(frame) }
            connection.send(FakeDaemon.frame(1, kind: 3, flags: 5, []))
        }
        var bytes = 0
        for try await part in stream { bytes += part.text.utf8.count }
        await rest.value
        #expect(bytes == (sent / frame.count + 1000) * 10_000)
    }

    @Test("a consumer may wait for another call of its connection while its own answer piles up")
    func waitingForAnother() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let stream: AnswerStream<GenerateResponse> = client.stream("t", "Count", count(20_000))
        var pieces = 0
        for try await _ in stream {
            if pieces == 0 { #expect(try await echo(client, "x") == "x \(getuid())") }
            pieces += 1
        }
        #expect(pieces == 20_000)
        test.server.close()
    }

    @Test(
        "a daemon that says nothing is asked for its health, and then given up: each call ends once"
    )
    func unresponsive() async throws {
        let daemon = try FakeDaemon()
        var patience = Patience()
        (patience.silence, patience.answer) = (50_000_000, 100_000_000)
        let client = try await RPCClient.connect(path: daemon.path, patience: patience)
        func fails() async -> ClientError? {
            do throws(ClientError) {
                let _: DetokenizeResponse = try await client.unary("t", "Any", text(""))
                return nil
            } catch { return error }
        }
        async let first = fails()
        async let second = fails()
        let errors = await [first, second]
        #expect(errors == [.unresponsive(seconds: 0.15), .unresponsive(seconds: 0.15)])
        #expect(await fails() == .disconnected)
        let connection = try daemon.accept()
        let asked = try (0..<3).map { _ in try connection.request().service }
        #expect(asked == ["t", "t", "grpc.health.v1.Health"])
    }

    @Test("a daemon that is slow but answers for its health is waited for")
    func slow() async throws {
        let test = TestServer()
        try test.start()
        var patience = Patience()
        (patience.silence, patience.answer) = (1_000_000, 60_000_000_000)
        let client = try await RPCClient.connect(path: test.path, patience: patience)
        let stream: AnswerStream<GenerateResponse> = client.stream("t", "Hold", count(1))
        #expect(await TestServer.eventually { test.held.withLock { $0.count } == 1 })
        for _ in 0..<20 { _ = try await echo(client, "x") }
        test.held.withLock { $0[0] }.finish()
        for try await _ in stream {}
        test.server.close()
    }

    @Test("a call is given up a grace after the time that the daemon was given")
    func timeout() async throws {
        let daemon = try FakeDaemon()
        var patience = Patience()
        patience.grace = 20_000_000
        let client = try await RPCClient.connect(path: daemon.path, patience: patience)
        await #expect(throws: ClientError.timeout) {
            let _: DetokenizeResponse = try await client.unary(
                "t", "Any", text(""), timeout: 10_000_000)
        }
        // The daemon is told, and the connection goes on.
        let connection = try daemon.accept()
        #expect(try connection.request().timeoutNano == 10_000_000)
        #expect(try connection.frame().flags == 5)
        let next = Task { () -> DetokenizeResponse in try await client.unary("t", "Any", text("")) }
        #expect(try connection.request().method == "Any")
        let answer = Response(payload: DetokenizeResponse(text: "here").encoded()).encoded()
        connection.send(FakeDaemon.frame(3, kind: 2, flags: 0, answer))
        #expect(try await next.value.text == "here")
    }

    @Test("bytes that are no frames end every call of the connection with what was wrong")
    func garbled() async throws {
        let daemon = try FakeDaemon()
        let client = try await RPCClient.connect(path: daemon.path)
        let call = Task { () -> DetokenizeResponse in try await client.unary("t", "Any", text("")) }
        let connection = try daemon.accept()
        // A socket that is closed while bytes wait in it resets the connection, and the answer may be lost.
        #expect(try connection.request().method == "Any")
        connection.send([0, 0, 0, 0, 0, 0, 0, 1, 99, 0])
        await #expect(throws: ClientError.garbled("a frame of type 99")) { try await call.value }
        withExtendedLifetime(connection) {}
    }
}

/// A socket that answers nothing but what the test writes.
final class FakeDaemon: Sendable {
    let path = "/tmp/mmfreed-fake-\(getpid())-\(UInt32.random(in: 0 ... .max)).sock"
    private let listener: Int32

    init() throws { listener = try SocketMaker.listen(path, backlog: 8) }

    deinit {
        close(listener)
        unlink(path)
    }

    func accept() throws -> FakeConnection {
        let descriptor = Glibc.accept(listener, nil, nil)
        guard descriptor >= 0 else { throw RawSocket.Broken() }
        return FakeConnection(descriptor)
    }

    static func frame(_ stream: UInt8, kind: UInt8, flags: UInt8, _ data: [UInt8]) -> [UInt8] {
        let length = (0..<4).map { UInt8(truncatingIfNeeded: data.count >> (24 - 8 * $0)) }
        return length + [0, 0, 0, stream, kind, flags] + data
    }
}

final class FakeConnection: Sendable {
    private let descriptor: Int32

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        var limit = timeval(tv_sec: 60, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(
                descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                Issue.record("send: \(String(cString: strerror(errno)))")
                return
            }
            rest = rest.dropFirst(count)
        }
    }

    /// Sends whole frames until nothing is taken for a second, or so many bytes are out; returns how many are.
    func fill(_ frame: [UInt8], most: Int) -> Int {
        var sent = 0
        while sent < most {
            var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            guard poll(&ready, 1, 1000) == 1 else { break }
            send(frame)
            sent += frame.count
        }
        return sent
    }

    func frame() throws -> (kind: UInt8, flags: UInt8, data: [UInt8]) {
        let header = try read(10)
        let length = header[..<4].reduce(0) { $0 << 8 | Int($1) }
        return (header[8], header[9], try read(length))
    }

    func request() throws -> Request {
        let frame = try frame()
        guard frame.kind == 1 else { throw RawSocket.Broken() }
        return try Request(decoding: frame.data)
    }

    private func read(_ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = bytes.withUnsafeMutableBytes {
                recv(descriptor, $0.baseAddress! + done, count - done, 0)
            }
            guard got > 0 else { throw RawSocket.Broken() }
            done += got
        }
        return bytes
    }
}
