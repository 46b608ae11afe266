// SPDX-License-Identifier: Apache-2.0

import Glibc
import NIOCore
import NIOEmbedded
import Synchronization
import TestSupport
import Testing

@testable import RPC

@Suite("A client on a connection that calls share", .fewAtOnce, .bounded)
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
        try await eventually { test.held.withLock { $0.count } == 1 }
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
        try await eventually { test.held.withLock { $0.count } == 3 }
        unary.cancel()
        streaming.cancel()
        #expect(await unary.value == .cancelled)
        #expect(await streaming.value == .cancelled)
        try await eventually { test.cancelled.withLock { $0 } == 2 }
        try await eventually { test.server.openCalls == 1 }
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
            try await eventually { test.held.withLock { $0.count } == 1 }
            #expect(test.held.withLock { $0[0] }.send(GenerateResponse(text: "a")) == .accepted)
            for try await part in stream {
                #expect(part.text == "a")
                break
            }
        }
        try await first()
        try await eventually { test.cancelled.withLock { $0 } == 1 }
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
        try await eventually { test.server.openConnections == 0 }
        test.server.close()
    }

    @Test("a consumer that does not read makes the daemon wait, and gets everything in the end")
    func backpressure() async throws {
        let listener = try RawListener()
        let client = try await RPCClient.connect(path: listener.path)
        let stream: AnswerStream<DetokenizeResponse> = client.stream("t", "Any", text(""))
        let connection = try await listener.accept()
        // What comes before the call has begun is passed over.
        try await eventually { connection.take(1 << 16) > 0 }
        let message = DetokenizeResponse(text: String(repeating: "x", count: 10_000)).encoded()
        let frame = RawSocket.frame(1, kind: 3, flags: 0, message)
        // Until the client has stopped reading and the socket is full: 256 KiB in the client, what it read in one go, and what
        // the socket holds.
        var (sent, rest) = (0, frame[...])
        try await eventually {
            while sent < 8 << 20 {
                let count = connection.sendNow(rest)
                guard count > 0 else { break }
                sent += count
                rest = rest.dropFirst(count)
                if rest.isEmpty { rest = frame[...] }
            }
            return try await !client.channel.getOption(.autoRead).get() || sent >= 8 << 20
        }
        #expect(sent > 256 << 10)
        #expect(sent < 2 << 20)
        let more = Task { [rest] in
            try await connection.send(Array(rest))
            for _ in 0..<300 { try await connection.send(frame) }
            try await connection.send(RawSocket.frame(1, kind: 3, flags: 5, []))
        }
        let whole = (sent + frame.count - 1) / frame.count + 300
        var bytes = 0
        for try await part in stream { bytes += part.text.utf8.count }
        try await more.value
        #expect(bytes / 10_000 - whole == (rest.count == frame.count ? 1 : 0))
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
        let daemon = try await FakeDaemon()
        let calls = (0..<2).map { _ in daemon.call() }
        for _ in calls { #expect(try await daemon.request().request.method == "Any") }
        await daemon.pass(.seconds(10))
        #expect(try await daemon.request().request.service == ServiceName.health)
        await daemon.pass(.seconds(20))
        for call in calls { #expect(await call.value == .failure(.unresponsive(seconds: 30))) }
        #expect(await daemon.call().value == .failure(.disconnected))
    }

    @Test("a daemon that is slow but answers for its health is waited for")
    func slow() async throws {
        let daemon = try await FakeDaemon()
        let call = daemon.call()
        let stream = try await daemon.request().stream
        for _ in 0..<20 {
            await daemon.pass(.seconds(10))
            let (health, request) = try await daemon.request()
            #expect(request.service == ServiceName.health)
            await daemon.pass(.seconds(19))
            try await daemon.answer(health, "")
        }
        try await daemon.answer(stream, "at last")
        #expect(await call.value == .success("at last"))
    }

    @Test("a call is given up a grace after the time that the daemon was given")
    func timeout() async throws {
        let daemon = try await FakeDaemon()
        let call = daemon.call(timeout: 2_000_000_000)
        let (stream, request) = try await daemon.request()
        #expect(request.timeoutNano == 2_000_000_000)
        await daemon.pass(.milliseconds(6999))
        #expect(try await daemon.channel.readOutbound(as: ByteBuffer.self) == nil)
        await daemon.pass(.milliseconds(1))
        #expect(await call.value == .failure(.timeout))
        // The daemon is told, and the connection goes on.
        let last = try await daemon.frame().header
        #expect(last.stream == stream && last.flags == [.remoteClosed, .noData])
        let next = daemon.call()
        try await daemon.answer(daemon.request().stream, "here")
        #expect(await next.value == .success("here"))
    }

    @Test("bytes that are no frames end every call of the connection with what was wrong")
    func garbled() async throws {
        let daemon = try await FakeDaemon()
        let call = daemon.call()
        _ = try await daemon.request()
        try await daemon.channel.writeInbound(ByteBuffer(bytes: [0, 0, 0, 0, 0, 0, 0, 1, 99, 0]))
        #expect(await call.value == .failure(.garbled("a frame of type 99")))
    }
}

/// The other end of a client's connection, without a socket, on a loop whose time the test lets pass.
struct FakeDaemon {
    let channel = NIOAsyncTestingChannel()
    private let client: RPCClient

    init() async throws {
        try await channel.connect(to: SocketAddress(unixDomainSocketPath: "/nowhere")).get()
        client = try await channel.testingEventLoop.executeInContext { [channel] in
            try RPCClient(channel, Patience())
        }
    }

    /// Calls, and waits for the text of the answer.
    func call(timeout: UInt64? = nil) -> Task<Result<String, ClientError>, Never> {
        Task { [client] in
            do throws(ClientError) {
                let answer: DetokenizeResponse = try await client.unary(
                    "t", "Any", text(""), timeout: timeout)
                return .success(answer.text)
            } catch { return .failure(error) }
        }
    }

    func pass(_ time: TimeAmount) async { await channel.testingEventLoop.advanceTime(by: time) }

    /// The next that the client sends: a frame a buffer.
    func frame() async throws -> Frame {
        var decoder = FrameDecoder()
        decoder.append(try await channel.waitForOutboundWrite(as: ByteBuffer.self))
        guard case .frame(let frame) = try decoder.next() else { throw CancellationError() }
        return frame
    }

    func request() async throws -> (stream: UInt32, request: Request) {
        let frame = try await frame()
        try #require(frame.header.kind == .request)
        return (frame.header.stream, try Request(decoding: frame.data))
    }

    func answer(_ stream: UInt32, _ text: String) async throws {
        var buffer = ByteBuffer()
        let response = Response(payload: DetokenizeResponse(text: text).encoded())
        Frame(stream: stream, kind: .response, data: response.encoded()).write(to: &buffer)
        try await channel.writeInbound(buffer)
    }
}
