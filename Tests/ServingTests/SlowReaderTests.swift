// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import NIOCore
import RPC
import Serving
import SystemPackage
import TestSupport
import Testing

/// A client that reads only when it is told to.
final class RawClient: Sendable {
    private let descriptor: SystemPackage.FileDescriptor

    init(path: String) throws {
        let raw = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard raw >= 0 else { throw Errno(rawValue: errno) }
        descriptor = .init(rawValue: raw)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else { throw Errno(rawValue: errno) }
    }

    deinit { try? descriptor.close() }

    func send(_ method: String, _ question: some WireMessage, timeout: Int64 = 0) throws {
        var request = Request()
        request.service = ServiceName.inference
        request.method = method
        request.payload = question.encoded()
        request.timeoutNano = timeout
        var buffer = ByteBuffer()
        Frame(stream: 1, kind: .request, flags: .remoteClosed, data: request.encoded())
            .write(to: &buffer)
        try descriptor.writeAll(buffer.readableBytesView)
    }

    /// Reads all messages up to the end of the stream, and its status if it failed. On a thread that may block.
    func readAll<Answer: WireMessage>() async throws -> ([Answer], Status?) {
        try await withCheckedThrowingContinuation { continuation in
            startThread(name: "reader") { [self] in
                continuation.resume(with: Result { try read() })
            }
        }
    }

    private func read<Answer: WireMessage>() throws -> ([Answer], Status?) {
        var answers: [Answer] = []
        var decoder = FrameDecoder()
        while true {
            var bytes = [UInt8](repeating: 0, count: 1 << 16)
            let count = try bytes.withUnsafeMutableBytes { try descriptor.read(into: $0) }
            guard count > 0 else { throw ClientError.disconnected }
            decoder.append(ByteBuffer(bytes: bytes[..<count]))
            while let event = try decoder.next() {
                guard case .frame(let frame) = event else { continue }
                if frame.header.kind == .response {
                    let status = try Response(decoding: frame.data).status
                    return (answers, status)
                }
                if !frame.header.flags.contains(.noData) {
                    answers.append(try Answer(decoding: frame.data))
                }
                if frame.header.flags.contains(.remoteClosed) { return (answers, nil) }
            }
        }
    }
}

@Suite("A reader who does not read", .timeLimit(.minutes(10)))
struct SlowReaderTests {
    /// An answer of several megabytes.
    private static let long = GenerateRequest("abc", count: 4000, logprobs: 64)

    private static func patience(_ milliseconds: UInt64) -> ServingConfiguration {
        var configuration = ServingConfiguration.testing
        configuration.slots = 2
        configuration.slowReaderTimeout = milliseconds * 1_000_000
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
        try await withDaemon(["tiny": 1], Self.patience(30_000)) { daemon in
            let slow = try RawClient(path: daemon.socket)
            try slow.send("Generate", Self.long)
            #expect(try await standstill(daemon).completionTokens < 4000)
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
        try await withDaemon(["tiny": 1], Self.patience(200)) { daemon in
            let slow = try RawClient(path: daemon.socket)
            try slow.send("Generate", Self.long)
            try await over(daemon)
            let (parts, failure): ([GenerateResponse], Status?) = try await slow.readAll()
            #expect(failure?.code == RPCCode.aborted.rawValue)
            #expect(failure?.message.contains("read") == true)
            #expect(parts.reduce(0) { $0 + $1.tokens.count } < 4000)
        }
    }

    @Test("an answer that ends while nobody reads is cut too")
    func endUnread() async throws {
        try await withDaemon(["tiny": 1], Self.patience(8000)) { daemon in
            let slow = try RawClient(path: daemon.socket)
            try slow.send("Generate", Self.long)
            try await daemon.wait(active: 1)
            let id = try await standstill(daemon).requestID
            // Its reader is behind: the end waits to be read.
            let cancelled = try await daemon.withClient { inference, _ in
                try await inference.cancel(id)
            }
            #expect(cancelled)
            try await daemon.wait(active: 0)
            try await eventually { daemon.service.server.openCalls == 0 }
        }
    }

    @Test("an answer past its deadline waits to be read")
    func deadlineUnread() async throws {
        try await withDaemon(["tiny": 1], Self.patience(30_000)) { daemon in
            let slow = try RawClient(path: daemon.socket)
            try slow.send("Generate", Self.long, timeout: 10_000_000_000)
            try await daemon.wait(active: 1)
            _ = try await standstill(daemon)
            try await daemon.wait(active: 0)
            let (parts, failure): ([GenerateResponse], Status?) = try await slow.readAll()
            #expect(failure == nil)
            #expect(parts.last?.finished?.reason == .deadline)
        }
    }

    @Test("vectors that nobody reads are cut too")
    func embeddings() async throws {
        try await withDaemon(["tiny": 1], Self.patience(200)) { daemon in
            var request = EmbedRequest()
            request.pooling = .none
            request.input = (0..<60).map { _ in
                var input = EmbedInput()
                input.input = .tokens([UInt32](repeating: 40, count: 400))
                return input
            }
            let slow = try RawClient(path: daemon.socket)
            try slow.send("Embed", request)
            try await over(daemon)
            let (parts, failure): ([EmbedResponse], Status?) = try await slow.readAll()
            #expect(failure?.code == RPCCode.aborted.rawValue)
            #expect(parts.count < 60)
        }
    }

    @Test("vectors of unlike sizes all arrive at a reader who begins late")
    func late() async throws {
        var configuration = Self.patience(20_000)
        configuration.slots = 1
        try await withDaemon(["tiny": 1], configuration) { daemon in
            // 100 kB and 205 kB by turns: the second does not fit behind the first, which is under half the buffer.
            var request = EmbedRequest()
            request.pooling = .none
            request.input = (0..<12).map { number in
                var input = EmbedInput()
                input.input = .tokens([UInt32](repeating: 40, count: number % 2 == 0 ? 312 : 640))
                return input
            }
            let slow = try RawClient(path: daemon.socket)
            try slow.send("Embed", request)
            try await daemon.wait(active: 1)
            let (parts, failure): ([EmbedResponse], Status?) = try await slow.readAll()
            #expect(failure == nil)
            #expect(parts.reduce(0) { $0 + $1.embeddings.count } == 12)
        }
    }

    /// The only request, once it has stopped growing.
    private func standstill(_ daemon: Daemon) async throws -> RequestStatus {
        var last = RequestStatus()
        try await eventually {
            try await Task.sleep(for: .milliseconds(50))
            let now = try #require(try await daemon.requests().first)
            defer { last = now }
            return now.completionTokens > 0 && now.completionTokens == last.completionTokens
        }
        return last
    }
}

extension Daemon {
    func requests() async throws -> [RequestStatus] {
        try await withClient { _, control in try await control.status().requests }
    }
}
