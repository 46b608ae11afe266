// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging
import RPC
import Synchronization
import TestSupport

/// A server that speaks mmfree.v1 and does what a test wants.
final class FakeDaemon: Sendable {
    let socket: String
    let server: RPCServer
    /// Calls of any method that were begun, by method.
    let calls = Mutex<[String: Int]>([:])
    /// What the next calls are refused with, the first first.
    let refusals = Mutex<[RPCError]>([])
    /// Answers that end only when a test ends them.
    let held = Mutex<[Outbox<GenerateResponse>]>([])
    /// Calls whose caller has gone.
    let cancelled = Mutex(0)
    /// Messages of "flood" that the outbox took at once; it is full now.
    let flooded = Mutex(0)
    let isFull = Mutex(false)
    /// What sessions have of their states.
    let states = Mutex<[String: [UInt8]]>([:])
    /// Parts that the next Restore takes and loses the answers of.
    let lostAnswers = Mutex(0)

    init(_ socket: String? = nil) {
        self.socket =
            socket ?? "/tmp/mmfree-\(getpid())-\(UInt32.random(in: 0 ... .max)).sock"
        var configuration = RPCServer.Configuration()
        configuration.administrator = nil
        // Readers are slow where many tests run at once; no test here is about those.
        configuration.slowReaderTimeout = 3_600_000_000_000
        configuration.frameTime = 3_600_000_000_000
        nonisolated(unsafe) var owner: (() -> FakeDaemon?)?
        @Sendable func enter(_ method: String) throws(RPCError) {
            try owner?()?.enter(method)
        }
        var services = Services { _, _, _ in }
        services.unary(ServiceName.health, "Check") { (_: HealthCheckRequest, _) in
            try enter("Check")
            return HealthCheckResponse(status: .serving)
        }
        services.unary(ServiceName.control, "Reload") { (_: ReloadRequest, _) in
            try enter("Reload")
            return ReloadResponse(added: ["a"])
        }
        services.unary(ServiceName.inference, "Detokenize") { (request: DetokenizeRequest, _) in
            try enter("Detokenize")
            return DetokenizeResponse(text: "\(request.tokens.count)")
        }
        services.unary(ServiceName.inference, "Cancel") { (_: CancelRequest, _) in
            try enter("Cancel")
            return CancelResponse(cancelled: true)
        }
        services.stream(ServiceName.inference, "Embed") {
            (request: EmbedRequest, _, outbox: Outbox<EmbedResponse>) in
            try enter("Embed")
            for (index, input) in request.input.enumerated() {
                guard case .text(let text) = input.input else { continue }
                if text == "wrong" { throw RPCError.invalid("input[\(index)]", "wrong") }
                outbox.send(
                    EmbedResponse(embeddings: [
                        Embedding(index: UInt32(index), dimensions: 1, values: [Float(text) ?? 0])
                    ]))
            }
            outbox.finish()
        }
        services.stream(ServiceName.session, "Save") {
            (request: SaveSessionRequest, _, outbox: Outbox<SaveSessionResponse>) in
            try enter("Save")
            let state = owner?()?.states.withLock { $0[request.session] } ?? []
            for start in stride(from: 0, to: state.count, by: 300_000) {
                let part = state[start..<min(state.count, start + 300_000)]
                outbox.send(
                    SaveSessionResponse(
                        state: Array(part), stateBytes: start == 0 ? UInt64(state.count) : 0))
            }
            outbox.finish()
        }
        services.unary(ServiceName.session, "Restore") { (request: RestoreSessionRequest, _) in
            try enter("Restore")
            return try owner?()?.restore(request) ?? SessionInfo()
        }
        services.unary(ServiceName.session, "Get") { (request: GetSessionRequest, _) in
            try enter("Get")
            let count = owner?()?.states.withLock { $0[request.session]?.count } ?? 0
            return SessionInfo(
                session: request.session, incomplete: true, receivedBytes: UInt64(count))
        }
        services.unary(ServiceName.session, "Drop") { (request: DropSessionRequest, _) in
            try enter("Drop")
            owner?()?.states.withLock { $0[request.session] = nil }
            return DropSessionResponse()
        }
        services.stream(ServiceName.inference, "Generate") {
            (request: GenerateRequest, call, outbox: Outbox<GenerateResponse>) in
            try enter("Generate")
            owner?()?.answer(request, call, outbox)
        }
        server = RPCServer(
            services: services, configuration: configuration,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        owner = { [weak self] in self }
    }

    deinit { server.close() }

    func start() throws { try server.listen(on: .path(socket, mode: 0o600)) }

    func count(_ method: String) -> Int { calls.withLock { $0[method, default: 0] } }

    private func enter(_ method: String) throws(RPCError) {
        calls.withLock { $0[method, default: 0] += 1 }
        if let refusal = refusals.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) {
            throw refusal
        }
    }

    private func restore(_ request: RestoreSessionRequest) throws(RPCError) -> SessionInfo {
        let id = request.session.isEmpty ? "s1" : request.session
        let count = try states.withLock { states throws(RPCError) in
            let state = states[id] ?? []
            guard request.offset == state.count else {
                throw RPCError(
                    .failedPrecondition, "\(state.count) have come", reason: "WRONG_OFFSET")
            }
            states[id] = state + request.state
            return state.count + request.state.count
        }
        let isLost = lostAnswers.withLock { lost in
            guard request.offset > 0, lost > 0 else { return false }
            lost -= 1
            return true
        }
        guard !isLost else {
            throw RPCError(.unavailable, "lost").retrying(after: 1_000_000)
        }
        return SessionInfo(
            session: id, incomplete: request.more, receivedBytes: UInt64(request.more ? count : 0))
    }

    private func answer(
        _ request: GenerateRequest, _ call: Call, _ outbox: Outbox<GenerateResponse>
    ) {
        call.onCancel { [weak self] in self?.cancelled.withLock { $0 += 1 } }
        switch request.prompt {
        case .text("hold"):
            outbox.send(GenerateResponse(started: Started(requestID: "r", seed: 5)))
            held.withLock { $0.append(outbox) }
        case .text("flood"):
            outbox.onDrain { [weak self] in self?.flood(outbox, request.maxTokens) }
            flood(outbox, request.maxTokens)
        default:
            for number in 0..<request.maxTokens {
                outbox.send(GenerateResponse(text: "\(number) ", tokens: [number]))
            }
            outbox.send(GenerateResponse(finished: Finished(reason: .length)))
            outbox.finish()
        }
    }

    /// Sends ten kilobytes at a time, `count` in all, for as long as the reader keeps up.
    private func flood(_ outbox: Outbox<GenerateResponse>, _ count: UInt32) {
        isFull.withLock { $0 = false }
        while flooded.withLock({ $0 }) < count {
            flooded.withLock { $0 += 1 }
            let part = GenerateResponse(text: String(repeating: "x", count: 10_000))
            guard outbox.send(part) == .accepted else { return isFull.withLock { $0 = true } }
        }
        outbox.send(GenerateResponse(finished: Finished(reason: .length)))
        outbox.finish()
    }
}

/// The error that `body` ends with.
func failure(_ body: () async throws -> Void) async -> (any Error)? {
    do { try await body() } catch { return error }
    return nil
}
