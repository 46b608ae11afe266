// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging
import Synchronization
import Testing

@testable import RPC

/// A server on a socket of its own with a few methods that show what servers do.
final class TestServer: Sendable {
    let path = "/tmp/mmfreed-rpc-\(getpid())-\(UInt32.random(in: 0 ... .max)).sock"
    let server: RPCServer
    /// Calls that were told their caller had gone.
    let cancelled = Mutex(0)
    let held = Mutex<[ReplySink<GenerateResponse>]>([])
    /// What was no RPCError, and its number.
    let bugs = Bugs()
    /// Messages the method Flood could send.
    let sent = Bugs()

    final class Bugs: Sendable {
        private let list = Mutex<[String]>([])
        func withLock<R>(_ body: (inout [String]) -> R) -> R { list.withLock { body(&$0) } }
    }

    init(_ change: (inout RPCServer.Configuration) -> Void = { _ in }) {
        var configuration = RPCServer.Configuration()
        configuration.administrator = nil
        change(&configuration)
        var services = Services { [bugs] error, _, number in
            bugs.withLock { $0.append("\(error) \(number)") }
        }
        nonisolated(unsafe) var cancel: (@Sendable () -> Void)?
        nonisolated(unsafe) var hold: (@Sendable (ReplySink<GenerateResponse>) -> Void)?
        services.unary("t", "Echo") { (request: TokenizeRequest, call) in
            var response = DetokenizeResponse()
            response.text = "\(request.text) \(call.peer.uid)"
            return response
        }
        services.unary("t", "Deadline") { (_: TokenizeRequest, call) in
            var response = DetokenizeResponse()
            response.text = "\((call.deadline - call.received) / 1_000_000)"
            return response
        }
        services.unary("t", "Fail") { (_: TokenizeRequest, _) -> DetokenizeResponse in
            throw RPCError(.aborted, "on purpose", reason: "TEST").retrying(after: 5)
        }
        // Sends as many pieces as max_tokens says.
        services.stream("t", "Count") {
            (request: GenerateRequest, _, sink: ReplySink<GenerateResponse>) in
            for number in 0..<request.maxTokens {
                var part = GenerateResponse()
                part.text = "\(number) "
                _ = sink.send(part)
            }
            sink.finish()
        }
        services.unary("t", "Bug") { (_: TokenizeRequest, _) -> DetokenizeResponse in
            throw CancellationError()
        }
        // Sends ten kilobytes at a time for as long as they are taken.
        services.stream("t", "Flood") {
            [sent] (_: GenerateRequest, _, sink: ReplySink<GenerateResponse>) in
            var part = GenerateResponse()
            part.text = String(repeating: "x", count: 10_000)
            while sink.send(part) == .accepted { sent.withLock { $0.append("") } }
            sink.finish()
        }
        // Never answers by itself.
        services.stream("t", "Hold") {
            (_: GenerateRequest, call, sink: ReplySink<GenerateResponse>) in
            call.onCancel { cancel?() }
            hold?(sink)
        }
        server = RPCServer(
            services: services, configuration: configuration,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        cancel = { [self] in cancelled.withLock { $0 += 1 } }
        hold = { [self] sink in held.withLock { $0.append(sink) } }
    }

    func start() throws { try server.listen(on: .path(path, mode: 0o600)) }

    /// Waits for something, at most ten seconds.
    static func eventually(_ condition: () -> Bool) async -> Bool {
        for _ in 0..<1000 {
            if condition() { return true }
            try? await Task.sleep(for: .milliseconds(10))
        }
        return false
    }
}

private func text(_ text: String) -> TokenizeRequest {
    var request = TokenizeRequest()
    request.text = text
    return request
}

private func count(_ tokens: UInt32) -> GenerateRequest {
    var request = GenerateRequest()
    request.maxTokens = tokens
    return request
}

/// A request for a method of "t" as a client would frame it.
private func frame(_ stream: UInt8, _ method: String, _ payload: [UInt8], flags: UInt8) -> [UInt8] {
    var request = Request()
    request.service = "t"
    request.method = method
    request.payload = payload
    let data = request.encoded()
    return [0, 0, 0, UInt8(data.count), 0, 0, 0, stream, 1, flags] + data
}

@Suite("A server and its clients on a socket")
struct ServerTests {
    @Test("a call is answered, and the peer is who the kernel says")
    func unary() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let answer: DetokenizeResponse = try await client.unary("t", "Echo", text("hé"))
        #expect(answer.text == "hé \(getuid())")
        test.server.close()
    }

    @Test("a stream comes in order, and called as unary it comes in one piece")
    func streaming() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        var pieces: [String] = []
        let stream: AsyncThrowingStream<GenerateResponse, any Error> = client.stream(
            "t", "Count", count(100))
        for try await part in stream { pieces.append(part.text) }
        #expect(pieces == (0..<100).map { "\($0) " })
        let whole: GenerateResponse = try await client.unary("t", "Count", count(100))
        #expect(whole.text == pieces.joined())
        test.server.close()
    }

    @Test("an answer is unread until its last byte is out, however late that is")
    func unreadUntilWritten() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        // More than a socket holds, less than the server keeps for a reader.
        socket.send(frame(1, "Count", count(20_000).encoded(), flags: 1))
        #expect(await TestServer.eventually { test.server.unreadAnswers == 1 })
        #expect(test.server.openCalls == 0)
        for _ in 0...20_000 { _ = try socket.frame() }
        #expect(await TestServer.eventually { test.server.unreadAnswers == 0 })
        test.server.close()
    }

    @Test("64 calls at once on one connection each get their own answer")
    func concurrent() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        try await withThrowingTaskGroup { group in
            for number in 0..<64 {
                group.addTask {
                    let answer: DetokenizeResponse = try await client.unary(
                        "t", "Echo", text("\(number)"))
                    #expect(answer.text == "\(number) \(getuid())")
                }
            }
            try await group.waitForAll()
        }
        test.server.close()
    }

    @Test("errors come with their code and details; unknown services and methods are named")
    func errors() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        func failure(_ service: String, _ method: String) async -> RPCError? {
            do {
                let _: DetokenizeResponse = try await client.unary(service, method, text(""))
                return nil
            } catch {
                guard case .rpc(let error) = error else { return nil }
                return error
            }
        }
        let failed = await failure("t", "Fail")
        #expect(failed == RPCError(.aborted, "on purpose", reason: "TEST").retrying(after: 5))
        #expect(await failure("t", "Nothing")?.code == .unimplemented)
        #expect(await failure("nobody", "Echo")?.code == .unimplemented)
        test.server.close()
    }

    @Test("a call's time is what it asks for, the default, or the most there is")
    func deadlines() async throws {
        let test = TestServer {
            $0.defaultTimeout = 2_000_000_000
            $0.maximumTimeout = 9_000_000_000
        }
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        for (asked, given) in [(nil, "2000"), (500_000_000, "500"), (99_000_000_000, "9000")]
            as [(UInt64?, String)]
        {
            let answer: DetokenizeResponse = try await client.unary(
                "t", "Deadline", text(""), timeout: asked)
            #expect(answer.text == given)
        }
        test.server.close()
    }

    @Test("a caller that goes away cancels what it began, once each")
    func disconnect() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let streams: [AsyncThrowingStream<GenerateResponse, any Error>] = (0..<3).map { _ in
            client.stream("t", "Hold", count(1))
        }
        #expect(await TestServer.eventually { test.held.withLock { $0.count } == 3 })
        #expect(test.server.openCalls == 3)
        await client.close()
        #expect(await TestServer.eventually { test.cancelled.withLock { $0 } == 3 })
        #expect(await TestServer.eventually { test.server.openCalls == 0 })
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

    @Test("a frame that is too large is refused by name and the connection goes on")
    func oversize() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        let length = FrameHeader.dataLimit + 1
        socket.send([0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0] + [UInt8](repeating: 0, count: length))
        socket.send(frame(3, "Echo", text("still here").encoded(), flags: 0))
        let first = try socket.response()
        #expect(first.stream == 1)
        #expect(first.response.status?.code == RPCCode.resourceExhausted.rawValue)
        #expect(first.response.status?.message.contains("\(length)") == true)
        let second = try socket.response()
        #expect(second.stream == 3)
        #expect(
            try DetokenizeResponse(decoding: second.response.payload).text
                == "still here \(getuid())")
        test.server.close()
    }

    @Test("a reader that does not read holds up nobody else")
    func slowReader() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        socket.send(frame(1, "Hold", count(1).encoded(), flags: 1))
        #expect(await TestServer.eventually { test.held.withLock { $0.count } == 1 })
        let sink = test.held.withLock { $0[0] }
        var part = GenerateResponse()
        part.text = String(repeating: "x", count: 10_000)
        var sent = 0
        while sink.send(part) == .accepted, sent < 1000 { sent += 1 }
        // Some lies in the socket's buffer, at most a quarter of a megabyte waits in the server.
        #expect(sent < 200)
        let ready = Mutex(false)
        sink.onReady { ready.withLock { $0 = true } }
        let client = try await RPCClient.connect(path: test.path)
        let answer: DetokenizeResponse = try await client.unary("t", "Echo", text("quick"))
        #expect(answer.text.hasPrefix("quick"))
        for _ in 0..<sent { _ = try socket.frame() }
        #expect(await TestServer.eventually { ready.withLock { $0 } })
        #expect(sink.send(part) == .accepted)
        test.server.close()
    }

    @Test("a draining server refuses new calls and finishes old ones")
    func drain() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let stream: AsyncThrowingStream<GenerateResponse, any Error> = client.stream(
            "t", "Hold", count(1))
        #expect(await TestServer.eventually { test.held.withLock { $0.count } == 1 })
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
        #expect(await TestServer.eventually { test.server.openCalls == 0 })
        test.server.close()
    }

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
        try SocketMaker.leaveBehind(stale)
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
        #expect(throws: ListenError.tooLong(long, limit: 107)) {
            try third.server.listen(on: .path(long, mode: 0o600))
        }
        third.server.close()
    }

    @Test("noise on a connection ends that connection alone")
    func noise() async throws {
        let test = TestServer()
        try test.start()
        var random = Seeded(9)
        for _ in 0..<200 {
            let socket = try RawSocket(test.path)
            socket.send(
                (0..<Int.random(in: 0...200, using: &random)).map { _ in
                    .random(in: 0...255, using: &random)
                })
        }
        let client = try await RPCClient.connect(path: test.path)
        let answer: DetokenizeResponse = try await client.unary("t", "Echo", text("alive"))
        #expect(answer.text.hasPrefix("alive"))
        test.server.close()
    }

    @Test("a client waits while the queue of connections is full")
    func fullQueue() async throws {
        let path = TestServer().path
        let listener = try SocketMaker.listen(path, backlog: 1)
        defer { close(listener) }
        let waiting = [try RawSocket(path), try RawSocket(path)]
        let client = Task { try await RPCClient.connect(path: path) }
        try await Task.sleep(for: .milliseconds(100))
        let accepted = (0..<3).map { _ in accept(listener, nil, nil) }
        defer { for descriptor in accepted { close(descriptor) } }
        _ = try await client.value
        withExtendedLifetime(waiting) {}
    }

    @Test("from twice as many connections as allowed on, the next waits until one is closed")
    func waitingConnections() async throws {
        let test = TestServer { $0.connections = 1 }
        try test.start()
        let first = try await RPCClient.connect(path: test.path)
        let second = try await RPCClient.connect(path: test.path)
        let error = await #expect(throws: ClientError.self) {
            let _: DetokenizeResponse = try await second.unary("t", "Echo", text(""))
        }
        guard case .rpc(let refusal) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(refusal.reason == "TOO_MANY_CONNECTIONS")
        let third = try await RPCClient.connect(path: test.path)
        let isAnswered = Atomic(false)
        let answer = Task {
            defer { isAnswered.store(true, ordering: .relaxed) }
            let _: DetokenizeResponse = try await third.unary("t", "Echo", text("third"))
        }
        try await Task.sleep(for: .milliseconds(200))
        let early = isAnswered.load(ordering: .relaxed)
        #expect(!early)
        await first.close()
        await second.close()
        // It is let in; whether it is served depends on which of the two had left by then.
        _ = await answer.result
        test.server.close()
    }

    @Test("an answer in one piece that does not fit a frame is not collected to its end")
    func flood() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let error = await #expect(throws: ClientError.self) {
            let _: GenerateResponse = try await client.unary("t", "Flood", count(1))
        }
        guard case .rpc(let refusal) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(refusal.code == .resourceExhausted)
        #expect(refusal.reason == "ANSWER_TOO_LARGE")
        // 4 MiB hold 419 of them.
        #expect(test.sent.withLock { $0.count } == 419)
        test.server.close()
    }

    @Test("a bug gets a number that its log has too, and says no more")
    func bug() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let error = await #expect(throws: ClientError.self) {
            let _: DetokenizeResponse = try await client.unary("t", "Bug", text(""))
        }
        guard case .rpc(let refusal) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(refusal.code == .internal)
        let logged = test.bugs.withLock { $0 }
        #expect(logged.count == 1)
        let number = try #require(logged.first?.split(separator: " ").last)
        #expect(refusal.message == "a bug in the daemon; its log has it as \(number)")
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
        test.server.close()
    }
}
