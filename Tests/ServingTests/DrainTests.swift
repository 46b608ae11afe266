// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import TestSupport
import Testing

@testable import Serving

@Suite("The end", .fewAtOnce, .bounded)
struct DrainTests {
    @Test("what is under way is finished, and what comes is refused with a time to try again")
    func finishes() async throws {
        try await withDaemon { daemon in
            let second = try await daemon.connect()
            let first = try RawClient(path: daemon.socket)
            try await first.send(
                "Generate", GenerateRequest("abc", count: 4000, logprobs: 64))
            // It cannot be done before it is read.
            _ = try await daemon.stalled()
            let drain = Task { await daemon.drain(limit: .seconds(3600)) }
            try await eventually {
                let error = try await refusal {
                    _ = try await InferenceClient(second).collect(
                        GenerateRequest("abc", count: 1))
                }
                guard let error else { return false }
                #expect(error.code == .unavailable)
                #expect((error.retryAfter ?? 0) > 0)
                return true
            }
            daemon.stopTime()
            let (parts, failure): ([GenerateResponse], Status?) = try await first.readAll()
            #expect(failure == nil)
            #expect(parts.reduce(0) { $0 + $1.tokens.count } == 4000)
            await drain.value
        }
    }

    @Test(
        "meanwhile it says that it is stopping, lets requests be cancelled, and does no other work")
    func meanwhile() async throws {
        try await withDaemon { daemon in
            let (first, second) = (try await daemon.connect(), try await daemon.connect())
            let answer = Task { try await InferenceClient(first).collect(.endless) }
            try await daemon.wait(active: 1)
            let (inference, control) = (InferenceClient(second), ControlClient(second))
            #expect(try await control.health(of: "tiny") == .serving)
            let drain = Task { await daemon.drain(limit: .seconds(3600)) }
            try await eventually { try await control.status().state == "draining" }
            for name in ["", ServiceName.inference, "tiny"] {
                #expect(try await control.health(of: name) == .notServing)
            }
            #expect(try await control.models().map(\.name) == ["tiny"])
            #expect(try await control.info().threads == 2)
            let refusals = [
                try await refusal { _ = try await control.reload() },
                try await refusal { _ = try await inference.tokenize(TokenizeRequest()) },
                try await refusal { _ = try await inference.embedWhole(EmbedRequest()) },
            ]
            #expect(refusals.map { $0?.reason } == ["DRAINING", "DRAINING", "DRAINING"])
            let id = try #require(try await control.status().requests.first?.requestID)
            #expect(try await inference.cancel(id))
            #expect(try await answer.value.finished?.reason == .cancelled)
            await drain.value
        }
    }

    @Test("who goes on asking how it is does not keep it from stopping")
    func askedForEver() async throws {
        try await withDaemon { daemon in
            let client = try await daemon.connect()
            // Always one of them is open.
            let asking = (0..<8).map { _ in
                Task { while (try? await ControlClient(client).status()) != nil {} }
            }
            let began = ContinuousClock.now
            await daemon.drain(limit: .seconds(600))
            #expect(ContinuousClock.now - began < .seconds(300))
            for task in asking { await task.value }
        }
    }

    @Test("an answer that was complete before is read to its end")
    func readLate() async throws {
        try await withDaemon { daemon in
            let slow = try RawClient(path: daemon.socket)
            // More than a socket holds, less than the daemon keeps for a reader.
            try await slow.send("Generate", GenerateRequest("abc", count: 9000))
            try await eventually { daemon.service.server.unreadAnswers == 1 }
            daemon.stopTime()
            let drain = Task { await daemon.drain(limit: .seconds(30)) }
            let (parts, failure): ([GenerateResponse], Status?) = try await slow.readAll()
            #expect(failure == nil)
            #expect(parts.reduce(0) { $0 + $1.tokens.count } == 9000)
            await drain.value
        }
    }

    @Test("what is not done at the time limit is cut: with what there is, or turned away")
    func cuts() async throws {
        try await withDaemon(["tiny": 1], .oneSlot) { daemon in
            let client = try await daemon.connect()
            let active = InferenceClient(client).generate(.endless)
            var parts = active.makeAsyncIterator()
            var answer = GenerateResponse()
            while answer.tokens.isEmpty { answer.merge(try #require(try await parts.next())) }
            let queued = Task {
                try await refusal { _ = try await InferenceClient(client).collect(.endless) }
            }
            try await daemon.wait(active: 1, queued: 1)
            await daemon.drain(limit: .milliseconds(100))
            while let part = try await parts.next() { answer.merge(part) }
            #expect(answer.finished?.reason == .cancelled)
            #expect(try await queued.value?.code == .unavailable)
        }
    }

    @Test("a turn of a session that is cut leaves the tokens it has answered")
    func session() async throws {
        try await withDaemon { daemon in
            let client = try await daemon.connect()
            let inference = InferenceClient(client)
            let id = try await SessionClient(client: client).create().session
            var request = GenerateRequest.endless
            request.session = id
            let prompt = try await inference.tokenize(
                TokenizeRequest(text: "on and on", addBOS: true))
            var parts = inference.generate(request).makeAsyncIterator()
            var answer = GenerateResponse()
            while answer.tokens.isEmpty { answer.merge(try #require(try await parts.next())) }
            await daemon.drain(limit: .milliseconds(1))
            while let part = try await parts.next() { answer.merge(part) }
            #expect(answer.finished?.reason == .cancelled)
            let history = TokenHistory(prompt.tokens + answer.tokens)
            #expect(answer.finished?.sessionTokens == UInt64(history.count))
            #expect(try daemon.service.sessions.read(id).state.history.digest == history.digest)
        }
    }

    @Test("an idle daemon takes a turn when nudged")
    func heartbeat() async throws {
        try await withDaemon { daemon in
            let before = daemon.service.progress
            daemon.service.nudge()
            try await eventually { daemon.service.progress > before }
        }
    }
}
