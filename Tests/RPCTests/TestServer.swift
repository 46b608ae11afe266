// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging
import Synchronization
import TestSupport
import Testing

@testable import RPC

/// A server on a socket of its own with a few methods that show what servers do.
final class TestServer: Sendable {
    let path = UnixSocket.newPath()
    let server: RPCServer
    /// Calls that were told their caller had gone.
    let cancelled = Mutex(0)
    let held = Mutex<[Outbox<GenerateResponse>]>([])
    /// What was no RPCError, and its number.
    let bugs = Bugs()
    /// Messages the method Flood could send, and calls that Large and Block began.
    let sent = Bugs()
    let gate = Gate()

    final class Gate: Sendable {
        private let isOpen = Mutex(false)
        func withLock<R>(_ body: (inout Bool) -> R) -> R { isOpen.withLock { body(&$0) } }
    }

    final class Bugs: Sendable {
        private let list = Mutex<[String]>([])
        func withLock<R>(_ body: (inout [String]) -> R) -> R { list.withLock { body(&$0) } }
    }

    init(_ change: (inout RPCServer.Configuration) -> Void = { _ in }) {
        var configuration = RPCServer.Configuration()
        configuration.administrator = nil
        // Readers are slow where many tests run at once. Tests about those say another time.
        configuration.slowReaderTimeout = 3_600_000_000_000
        configuration.frameTime = 3_600_000_000_000
        change(&configuration)
        var services = Services { [bugs] error, _, number in
            bugs.withLock { $0.append("\(error) \(number)") }
        }
        nonisolated(unsafe) var cancel: (@Sendable () -> Void)?
        nonisolated(unsafe) var hold: (@Sendable (Outbox<GenerateResponse>) -> Void)?
        services.unary(ServiceName.health, "Check") { (_: HealthCheckRequest, _) in
            HealthCheckResponse(status: .serving)
        }
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
            (request: GenerateRequest, _, sink: Outbox<GenerateResponse>) in
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
            [sent] (_: GenerateRequest, _, sink: Outbox<GenerateResponse>) in
            var part = GenerateResponse()
            part.text = String(repeating: "x", count: 10_000)
            while sink.send(part) == .accepted { sent.withLock { $0.append("") } }
            sink.finish()
        }
        // Answers with as many bytes as max_tokens says.
        services.unary("t", "Large") { [sent] (request: GenerateRequest, _) in
            sent.withLock { $0.append("") }
            var response = DetokenizeResponse()
            response.text = String(repeating: "x", count: Int(request.maxTokens))
            return response
        }
        // Keeps its handler until the gate is open.
        services.unary("t", "Block") { [gate, sent] (request: TokenizeRequest, _) in
            sent.withLock { $0.append(request.text) }
            while !gate.withLock({ $0 }) { usleep(1000) }
            return DetokenizeResponse()
        }
        services.unary("t", "Quick", isQuick: true) { (_: TokenizeRequest, _) in
            DetokenizeResponse()
        }
        // Never answers by itself.
        services.stream("t", "Hold") {
            (_: GenerateRequest, call, sink: Outbox<GenerateResponse>) in
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
}

extension RawSocket {
    /// The next frame, which must be a Response.
    func response() async throws -> (stream: UInt32, response: Response) {
        let frame = try await frame()
        try #require(frame.kind == 2)
        return (frame.stream, try Response(decoding: frame.data))
    }

    /// The next frame, which must be a Request.
    func request() async throws -> Request {
        let frame = try await frame()
        try #require(frame.kind == 1)
        return try Request(decoding: frame.data)
    }
}

func text(_ text: String) -> TokenizeRequest {
    var request = TokenizeRequest()
    request.text = text
    return request
}

func count(_ tokens: UInt32) -> GenerateRequest {
    var request = GenerateRequest()
    request.maxTokens = tokens
    return request
}

/// A request for a method of "t" as a client would frame it.
func frame(
    _ stream: UInt32, _ method: String, _ payload: [UInt8], flags: UInt8, timeout: Int64 = 0
) -> [UInt8] {
    var request = Request()
    request.service = "t"
    request.method = method
    request.payload = payload
    request.timeoutNano = timeout
    return RawSocket.frame(stream, kind: 1, flags: flags, request.encoded())
}
