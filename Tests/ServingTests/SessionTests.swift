// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import SystemPackage
import TestSupport
import Testing

@testable import Serving

/// mmfree.v1.Session, called.
struct SessionClient: Sendable {
    let client: RPCClient

    func create(_ request: CreateSessionRequest = .init()) async throws -> SessionInfo {
        try await client.unary(ServiceName.session, "Create", request)
    }
    func fork(_ id: String) async throws -> SessionInfo {
        try await client.unary(ServiceName.session, "Fork", ForkSessionRequest(session: id))
    }
    func save(_ id: String) async throws -> [UInt8] {
        let answer: SaveSessionResponse = try await client.unary(
            ServiceName.session, "Save", SaveSessionRequest(session: id))
        return answer.state
    }
    func restore(_ request: RestoreSessionRequest) async throws -> SessionInfo {
        try await client.unary(ServiceName.session, "Restore", request)
    }
    func drop(_ id: String) async throws {
        let _: DropSessionResponse = try await client.unary(
            ServiceName.session, "Drop", DropSessionRequest(session: id))
    }
    func list() async throws -> [SessionInfo] {
        let answer: ListSessionsResponse = try await client.unary(
            ServiceName.session, "List", ListSessionsRequest())
        return answer.sessions
    }
    func get(_ id: String) async throws -> SessionInfo {
        try await client.unary(ServiceName.session, "Get", GetSessionRequest(session: id))
    }
}

extension GenerateRequest {
    /// A turn of a session.
    init(_ text: String, in session: String, count: Int = 6) {
        self.init(text, count: count, logprobs: 2)
        self.session = session
    }
}

@Suite("Sessions", .fewAtOnce, .bounded)
struct SessionTests {
    private func withSessions<R>(
        _ configuration: ServingConfiguration = .testing, _ models: [String: UInt64] = ["tiny": 1],
        _ body: (Daemon, InferenceClient, SessionClient) async throws -> R
    ) async throws -> R {
        try await withDaemon(models, configuration) { daemon in
            let client = try await daemon.connect()
            let result: Result<R, any Error>
            do {
                result = .success(
                    try await body(daemon, InferenceClient(client), SessionClient(client: client)))
            } catch { result = .failure(error) }
            await client.close()
            return try result.get()
        }
    }

    @Test("turns of a session are the bits of one long prompt")
    func turns() async throws {
        try await withSessions { _, inference, sessions in
            let id = try await sessions.create().session
            let first = try await inference.collect(GenerateRequest("abc def", in: id))
            let second = try await inference.collect(GenerateRequest("ghi", in: id))
            let tokenized = try await inference.tokenize(
                TokenizeRequest(text: "abc def", addBOS: true))
            let appended = try await inference.tokenize(TokenizeRequest(text: "ghi"))
            var whole = GenerateRequest("", count: 6, logprobs: 2)
            whole.prompt = .tokens(tokenized.tokens + first.tokens + appended.tokens)
            let expected = try await inference.collect(whole)
            #expect(second.tokens == expected.tokens && second.logprobs == expected.logprobs)
            let all = tokenized.tokens + first.tokens + appended.tokens + second.tokens
            #expect(second.finished?.sessionTokens == UInt64(all.count))
            let info = try await sessions.get(id)
            #expect(info.tokens == UInt64(all.count))
            #expect(info.tokensDigest == TokenHistory(all).digest)
            #expect(info.turns == 0 && info.model == "tiny")
        }
    }

    @Test("a fork goes on like its origin, and neither knows of the other")
    func fork() async throws {
        try await withSessions { _, inference, sessions in
            let a = try await sessions.create().session
            _ = try await inference.collect(GenerateRequest("once", in: a))
            let b = try await sessions.fork(a).session
            let fromB = try await inference.collect(GenerateRequest("more", in: b))
            let fromA = try await inference.collect(GenerateRequest("more", in: a))
            #expect(fromA.tokens == fromB.tokens && fromA.logprobs == fromB.logprobs)
            try await sessions.drop(a)
            _ = try await inference.collect(GenerateRequest("and more", in: b))
            #expect(try await sessions.list().map(\.session) == [b])
        }
    }

    @Test(
        "a saved state restored goes on with the same bits, after a restart too; saved again it is the same bytes"
    )
    func saved() async throws {
        let (bytes, expected) = try await withSessions { _, inference, sessions in
            let id = try await sessions.create().session
            _ = try await inference.collect(GenerateRequest("once upon", in: id))
            let bytes = try await sessions.save(id)
            return (bytes, try await inference.collect(GenerateRequest("a time", in: id)))
        }
        try await withSessions { _, inference, sessions in
            let id = try await sessions.restore(.init(state: bytes)).session
            #expect(try await sessions.save(id) == bytes)
            let found = try await inference.collect(GenerateRequest("a time", in: id))
            #expect(found.tokens == expected.tokens && found.logprobs == expected.logprobs)
        }
        try await withSessions(.testing, ["other": 2]) { _, _, sessions in
            let unknown = try await refusal {
                _ = try await sessions.restore(.init(state: bytes))
            }
            #expect(unknown?.code == .notFound)
            let other = try await refusal {
                _ = try await sessions.restore(.init(state: bytes, model: "other"))
            }
            #expect(other?.code == .failedPrecondition, "\(other.map { "\($0)" } ?? "nothing")")
            #expect(other?.reason == "STATE_OF_ANOTHER_MODEL")
        }
    }

    @Test("a turn that is cancelled in its answer leaves what it has answered, and says so")
    func cancelled() async throws {
        try await withSessions { _, inference, sessions in
            let id = try await sessions.create().session
            var request = GenerateRequest.endless
            request.session = id
            var answer = GenerateResponse()
            var isCancelled = false
            for try await part in inference.generate(request) {
                answer.merge(part)
                if answer.tokens.count > 20, let started = answer.started, !isCancelled {
                    isCancelled = true
                    _ = try await inference.cancel(started.requestID)
                }
            }
            #expect(answer.finished?.reason == .cancelled)
            let prompt = try await inference.tokenize(
                TokenizeRequest(text: "on and on", addBOS: true))
            let all = prompt.tokens + answer.tokens
            #expect(answer.finished?.sessionTokens == UInt64(all.count))
            let info = try await sessions.get(id)
            #expect(
                info.tokens == UInt64(all.count) && info.tokensDigest == TokenHistory(all).digest)
        }
    }

    @Test("one turn at a time: a second waits, or is refused if it asks for that")
    func busy() async throws {
        try await withSessions { daemon, inference, sessions in
            let id = try await sessions.create().session
            var endless = GenerateRequest.endless
            endless.session = id
            let first = inference.generate(endless)
            var iterator = first.makeAsyncIterator()
            let started = try #require(try await iterator.next()?.started)
            var refused = GenerateRequest("no", in: id)
            refused.refuseIfBusy = true
            let error = try await refusal { [refused] in _ = try await inference.collect(refused) }
            #expect(error?.code == .aborted && error?.reason == "SESSION_BUSY")
            async let second = inference.collect(GenerateRequest("then", in: id))
            try await daemon.wait(active: 1, queued: 1)
            #expect(try await sessions.get(id).turns == 2)
            _ = try await inference.cancel(started.requestID)
            var end: Finished?
            while let part = try await iterator.next() { end = part.finished ?? end }
            let after = try #require(end?.sessionTokens)
            let next = try await second
            #expect(next.finished?.sessionTokens == after + 5 + UInt64(next.tokens.count))
        }
    }

    @Test("a turn of a session that is dropped before it runs is told so")
    func dropped() async throws {
        try await withSessions { daemon, inference, sessions in
            let id = try await sessions.create().session
            var endless = GenerateRequest.endless
            endless.session = id
            var iterator = inference.generate(endless).makeAsyncIterator()
            let started = try #require(try await iterator.next()?.started)
            async let second: RPCError? = refusal {
                _ = try await inference.collect(GenerateRequest("then", in: id))
            }
            try await daemon.wait(active: 1, queued: 1)
            try await sessions.drop(id)
            _ = try await inference.cancel(started.requestID)
            while try await iterator.next() != nil {}
            #expect(try await second?.reason == "NO_SUCH_SESSION")
            #expect(daemon.service.sessions.stats.bytes == 0)
        }
    }

    @Test("a model's sessions begin with the state beside it, unless that cannot be used")
    func initial() async throws {
        try await withSessions { daemon, inference, sessions in
            let id = try await sessions.create().session
            _ = try await inference.collect(GenerateRequest("you are a pirate", in: id))
            let state = try await sessions.save(id)
            let path = daemon.directory.appending("tiny.state")
            try write(state, to: path)
            let persona = try await sessions.create()
            #expect(try await sessions.save(persona.session) == state)
            var blank = CreateSessionRequest()
            blank.blank = true
            #expect(try await sessions.create(blank).tokens == 0)
            try write(Array(state.dropLast()), to: path)
            let error = try await refusal { _ = try await sessions.create() }
            #expect(
                error?.reason == "INITIAL_STATE_REFUSED"
                    && error?.message.contains("tiny.state") == true)
        }
    }
}
