// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import TestSupport
import Testing

@testable import Serving

/// A client that reads only when it is told to.
struct RawClient {
    private let socket: RawSocket

    init(path: String) throws { socket = try RawSocket(path) }

    func send(_ method: String, _ question: some WireMessage, timeout: Int64 = 0) async throws {
        var request = Request()
        request.service = ServiceName.inference
        request.method = method
        request.payload = question.encoded()
        request.timeoutNano = timeout
        try await socket.send(RawSocket.frame(1, kind: 1, flags: 1, request.encoded()))
    }

    /// Reads all messages up to the end of the stream, and its status if it failed.
    func readAll<Answer: WireMessage>() async throws -> ([Answer], Status?) {
        var answers: [Answer] = []
        while true {
            let frame = try await socket.frame()
            let flags = FrameHeader.Flags(rawValue: frame.flags)
            if frame.kind == FrameHeader.Kind.response.rawValue {
                return (answers, try Response(decoding: frame.data).status)
            }
            if !flags.contains(.noData) { answers.append(try Answer(decoding: frame.data)) }
            if flags.contains(.remoteClosed) { return (answers, nil) }
        }
    }
}

@Suite("A reader who does not read", .fewAtOnce, .bounded)
struct SlowReaderTests {
    /// An answer of several megabytes.
    private static let long = GenerateRequest("abc", count: 4000, logprobs: 64)

    private static func patience(_ seconds: UInt64, slots: Int = 2) -> ServingConfiguration {
        var configuration = ServingConfiguration.testing
        configuration.slots = slots
        configuration.slowReaderTimeout = seconds * 1_000_000_000
        return configuration
    }

    /// Waits until the one call there was has been answered, or cut.
    private func over(_ daemon: Daemon) async throws {
        try await eventually {
            daemon.service.server.callsBegun == 1 && daemon.service.server.openCalls == 0
        }
    }

    @Test("it pauses alone: others are answered meanwhile, and it gets everything once it reads")
    func paused() async throws {
        try await withDaemon(["tiny": 1], Self.patience(3600)) { daemon in
            let slow = try RawClient(path: daemon.socket)
            try await slow.send("Generate", Self.long)
            #expect(try await daemon.stalled().completionTokens < 4000)
            let other = try await daemon.withClient { inference, _ in
                try await inference.collect(GenerateRequest("xyz", count: 30))
            }
            #expect(other.tokens.count == 30)
            let (parts, failure): ([GenerateResponse], Status?) = try await slow.readAll()
            #expect(failure == nil)
            #expect(parts.reduce(0) { $0 + $1.tokens.count } == 4000)
            #expect(parts.last?.finished?.reason == .length)
        }
    }

    @Test("it is cut after the time limit, and its slot is free")
    func cut() async throws {
        try await withDaemon(["tiny": 1], Self.patience(1000)) { daemon in
            let slow = try RawClient(path: daemon.socket)
            try await slow.send("Generate", Self.long)
            _ = try await daemon.stalled()
            daemon.pass(1000)
            try await over(daemon)
            let (parts, failure): ([GenerateResponse], Status?) = try await slow.readAll()
            #expect(failure?.code == RPCCode.aborted.rawValue)
            #expect(failure?.message.contains("read") == true)
            #expect(parts.reduce(0) { $0 + $1.tokens.count } < 4000)
        }
    }

    @Test("an answer that ends while nobody reads is cut too")
    func endUnread() async throws {
        try await withDaemon(["tiny": 1], Self.patience(1000)) { daemon in
            let slow = try RawClient(path: daemon.socket)
            try await slow.send("Generate", Self.long)
            let id = try await daemon.stalled().id
            // Its reader is behind: the end waits to be read.
            let cancelled = try await daemon.withClient { inference, _ in
                try await inference.cancel(id)
            }
            #expect(cancelled)
            try await daemon.wait(active: 0)
            try await eventually { daemon.service.server.openCalls == 1 }
            daemon.pass(1000)
            try await eventually { daemon.service.server.openCalls == 0 }
        }
    }

    @Test("an answer past its deadline waits to be read")
    func deadlineUnread() async throws {
        try await withDaemon(["tiny": 1], Self.patience(3600)) { daemon in
            let slow = try RawClient(path: daemon.socket)
            try await slow.send("Generate", Self.long, timeout: 1_000_000_000_000)
            _ = try await daemon.stalled()
            daemon.pass(1000)
            try await daemon.wait(active: 0)
            let (parts, failure): ([GenerateResponse], Status?) = try await slow.readAll()
            #expect(failure == nil)
            #expect(parts.last?.finished?.reason == .deadline)
        }
    }

    @Test("vectors that nobody reads are cut too")
    func embeddings() async throws {
        try await withDaemon(["tiny": 1], Self.patience(1000)) { daemon in
            var request = EmbedRequest()
            request.pooling = .none
            request.input = (0..<60).map { _ in
                var input = EmbedInput()
                input.input = .tokens([UInt32](repeating: 40, count: 400))
                return input
            }
            let slow = try RawClient(path: daemon.socket)
            try await slow.send("Embed", request)
            _ = try await daemon.stalled()
            daemon.pass(1000)
            try await over(daemon)
            let (parts, failure): ([EmbedResponse], Status?) = try await slow.readAll()
            #expect(failure?.code == RPCCode.aborted.rawValue)
            #expect(parts.count < 60)
        }
    }

    @Test("vectors of unlike sizes all arrive at a reader who begins late")
    func late() async throws {
        try await withDaemon(["tiny": 1], Self.patience(3600, slots: 1)) { daemon in
            // 100 kB and 205 kB by turns: the second does not fit behind the first, which is under half the buffer.
            var request = EmbedRequest()
            request.pooling = .none
            request.input = (0..<12).map { number in
                var input = EmbedInput()
                input.input = .tokens([UInt32](repeating: 40, count: number % 2 == 0 ? 312 : 640))
                return input
            }
            let slow = try RawClient(path: daemon.socket)
            try await slow.send("Embed", request)
            _ = try await daemon.stalled()
            let (parts, failure): ([EmbedResponse], Status?) = try await slow.readAll()
            #expect(failure == nil)
            #expect(parts.reduce(0) { $0 + $1.embeddings.count } == 12)
        }
    }
}
