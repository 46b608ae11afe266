// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import RPC

@Suite("A server and its clients on a socket", .fewAtOnce, .bounded)
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
        let stream: AnswerStream<GenerateResponse> = client.stream(
            "t", "Count", count(100))
        for try await part in stream { pieces.append(part.text) }
        #expect(pieces == (0..<100).map { "\($0) " })
        let whole: GenerateResponse = try await client.unary("t", "Count", count(100))
        #expect(whole.text == pieces.joined())
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

    @Test("a stream has one last frame, also when its client sends what it must not")
    func oneEnd() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        try await socket.send(frame(1, "Hold", count(1).encoded(), flags: 1))
        try await eventually { test.held.withLock { $0.count } == 1 }
        // A message on a stream that takes none, twice.
        for _ in 0..<2 { try await socket.send([0, 0, 0, 1, 0, 0, 0, 1, 3, 0, 7]) }
        let refusal = try await socket.response()
        #expect(refusal.stream == 1)
        #expect(refusal.response.status?.code == RPCCode.unimplemented.rawValue)
        try await eventually { test.server.openCalls == 0 }
        let sink = test.held.withLock { $0[0] }
        #expect(sink.send(GenerateResponse()) == .closed)
        sink.finish()
        try await socket.send(frame(3, "Echo", text("next").encoded(), flags: 0))
        #expect(try await socket.response().stream == 3)
        test.server.close()
    }

    @Test("noise on a connection ends that connection alone")
    func noise() async throws {
        let test = TestServer()
        try test.start()
        var random = SeededGenerator(9)
        for _ in 0..<200 {
            let socket = try RawSocket(test.path)
            try await socket.send(
                (0..<Int.random(in: 0...200, using: &random)).map { _ in
                    .random(in: 0...255, using: &random)
                })
        }
        let client = try await RPCClient.connect(path: test.path)
        let answer: DetokenizeResponse = try await client.unary("t", "Echo", text("alive"))
        #expect(answer.text.hasPrefix("alive"))
        test.server.close()
    }
}
