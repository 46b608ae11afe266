// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import TestSupport
import Testing

@testable import Serving

/// A session's turns, as they are when nothing else goes on, and the same among everything else.
struct Conversation: Sendable {
    static let kinds = 4
    /// Turns of some of the endless answer that are known.
    private static let known = 2000

    let kind: Int
    let model: String
    /// The first two turns.
    let turns: [GenerateResponse]
    /// The tokens after each of them.
    let tokens: [[UInt32]]
    /// What an endless turn after the first one is asked, and how its answer begins.
    let question, answer: [UInt32]

    init(_ kind: Int, _ daemon: Daemon) async throws {
        self.kind = kind
        model = kind % 2 == 0 ? "tiny" : "other"
        let client = try await daemon.connect()
        let (inference, sessions) = (InferenceClient(client), SessionClient(client: client))
        let id = try await sessions.create(CreateSessionRequest(model: model)).session
        var (turns, tokens): ([GenerateResponse], [[UInt32]]) = ([], [])
        for number in 0..<2 {
            let answer = try await inference.collect(Self.turn(kind, number, id))
            let question = try await inference.tokenize(
                TokenizeRequest(
                    model: model, text: Self.text(kind, number), addBOS: number == 0))
            turns.append(answer)
            tokens.append((tokens.last ?? []) + question.tokens + answer.tokens)
        }
        (self.turns, self.tokens) = (turns, tokens)
        let other = try await sessions.create(CreateSessionRequest(model: model)).session
        _ = try await inference.collect(Self.turn(kind, 0, other))
        var endless = Self.endless(kind, other)
        endless.maxTokens = UInt32(Self.known)
        answer = try await inference.collect(endless).tokens
        question = try await inference.tokenize(
            TokenizeRequest(model: model, text: "on and on \(kind)")
        ).tokens
        try await sessions.drop(id)
        try await sessions.drop(other)
        await client.close()
    }

    private static func text(_ kind: Int, _ number: Int) -> String {
        String(repeating: "turn \(number) of \(kind), ", count: 1 + (kind + number) % 3)
    }

    private static func turn(_ kind: Int, _ number: Int, _ session: String) -> GenerateRequest {
        GenerateRequest(text(kind, number), in: session, count: 5 + kind)
    }

    /// One conversation, and whatever may happen to it: forks, saved and restored states, turns that are cut.
    static func talk(
        _ daemon: Daemon, _ client: RPCClient, _ expected: Conversation,
        _ random: inout SeededGenerator
    ) async throws {
        let (inference, sessions) = (InferenceClient(client), SessionClient(client: client))
        var ids = [
            try await sessions.create(CreateSessionRequest(model: expected.model)).session
        ]
        let way = Int.random(in: 0..<4, using: &random)
        let parts = Int.random(in: 0...5, using: &random)
        let result: Result<Void, any Error>
        do {
            try await expected.check(0, inference, ids[0])
            switch way {
            case 0: ids.append(try await sessions.fork(ids[0]).session)
            case 1:
                let state = try await sessions.saved(ids[0]).flatMap(\.state)
                ids.append(try await sessions.restore(.init(state: state)).session)
                let count = Int.random(in: 184..<state.count, using: &random)
                ids.append(try await sessions.begin(state[..<count]).session)
                _ = try await sessions.add(state[count...], to: ids[2], at: count, more: false)
            case 2:
                try await cut(daemon, ids[0], after: parts, expected)
                try await goOn(inference, sessions, ids[0], expected)
            default: break
            }
            if way != 2 { for id in ids { try await expected.check(1, inference, id) } }
            result = .success(())
        } catch { result = .failure(error) }
        for id in ids { try await sessions.drop(id) }
        try result.get()
    }

    /// A turn, which must be what it is alone.
    private func check(_ number: Int, _ inference: InferenceClient, _ id: String) async throws {
        let answer = try await inference.collect(Self.turn(kind, number, id))
        #expect(answer.tokens == turns[number].tokens)
        #expect(answer.logprobs == turns[number].logprobs)
        #expect(answer.finished?.sessionTokens == UInt64(tokens[number].count))
    }

    /// Begins an endless turn on another connection, which is closed after some parts of its answer.
    private static func cut(
        _ daemon: Daemon, _ id: String, after count: Int, _ expected: Conversation
    ) async throws {
        let client = try await daemon.connect()
        let request = endless(expected.kind, id)
        let reading = Task {
            var parts = 0
            for try await _ in InferenceClient(client).generate(request) {
                parts += 1
                if parts >= count { break }
            }
        }
        if count > 0 { _ = await reading.result }
        await client.close()
        // Refused, or closed before there was anything.
        _ = await reading.result
    }

    private static func endless(_ kind: Int, _ session: String) -> GenerateRequest {
        var request = StressTests.endless(kind)
        request.session = session
        return request
    }

    /// Where the session is then, it says; and it goes on like a prompt of all its tokens.
    private static func goOn(
        _ inference: InferenceClient, _ sessions: SessionClient, _ id: String,
        _ expected: Conversation
    ) async throws {
        try await eventually { try await sessions.get(id).turns == 0 }
        let info = try await sessions.get(id)
        var tokens = expected.tokens[0]
        let added = Int(info.tokens) - tokens.count
        if added > 0 {
            let answered = added - expected.question.count
            #expect(answered >= 0)
            guard answered <= expected.answer.count else { return }
            tokens += expected.question + expected.answer.prefix(answered)
        }
        #expect(info.tokensDigest == TokenHistory(tokens).digest)
        let next = try await inference.collect(turn(expected.kind, 1, id))
        let text = try await inference.tokenize(
            TokenizeRequest(model: expected.model, text: text(expected.kind, 1)))
        var whole = turn(expected.kind, 1, "")
        whole.model = expected.model
        whole.prompt = .tokens(tokens + text.tokens)
        let alone = try await inference.collect(whole)
        #expect(next.tokens == alone.tokens && next.logprobs == alone.logprobs)
    }
}
