// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import HummingbirdCore
import Logging
package import MMFree
import ModelStore
import NIOCore

import class RPC.LoopExecutor

/// One request, read, and the way to the daemon for its caller: what a handler works on.
package struct IncomingCall: Sendable {
    package var client: Client
    package var body: [UInt8]
    /// Names the request in the answer and in the log.
    package var id: String
    let loop: LoopExecutor

    /// Does what hands an answer on part by part: on the loop of its connection, where nothing long is done.
    func relay<R: Sendable>(_ body: () async throws -> R) async throws -> R {
        try await withTaskExecutorPreference(loop, operation: body)
    }
}

/// Takes requests in: decides whether they are answered at all, reads their bodies, and answers with an error where a handler
/// does not answer.
struct Exchange: Sendable {
    private let gateway: Gateway
    private let logger: Logger

    init(_ gateway: Gateway, _ logger: Logger) {
        self.gateway = gateway
        self.logger = logger
    }

    func answer(
        _ request: Request, _ writer: consuming ResponseWriter, _ caller: Caller,
        on loop: LoopExecutor
    ) async throws {
        let id = "req-" + randomHexadecimal()
        let path = String((request.head.path ?? "").prefix { $0 != "?" })
        let face: Face = path.hasPrefix("/api/") ? .ollama : .openAI
        let configuration = gateway.configuration
        var headers: HTTPFields = [.requestID: id]
        let origin = request.headers[.origin]
        if let origin, configuration.origins.allows(origin) {
            for field in configuration.origins.fields(origin) { headers.append(field) }
        }
        let reply = Reply(writer, isHead: request.method == .head, headers: headers)
        do {
            try Self.admit(request.head, origin, caller, configuration)
            if origin != nil, let fields = configuration.origins.preflight(request.head) {
                return try await reply.send(204, bytes: [], type: nil, headers: fields)
            }
            try Self.authorize(request.head, path, configuration)
            let route = try Route(request.method, path)
            let charge = gateway.bodies.charge()
            let body = request.method == .post ? try await read(request, reply, charge) : []
            try Task.checkCancellation()
            try await gateway.clients.with(try gateway.account(caller)) { client in
                let call = IncomingCall(client: client, body: body, id: id, loop: loop)
                try await withTaskExecutorPreference(gateway.workers) {
                    try await gateway.answer(route, call, reply)
                }
            }
        } catch {
            let refusal = APIError(any: error)
            log(refusal, id, request.head, caller)
            // A client that has gone reads no answer, and a stream has said itself what was wrong.
            guard !reply.isBegun, !Task.isCancelled else { return }
            try await reply.send(refusal, face)
        }
    }

    /// Refuses web pages, of whatever name, that are not on the lists.
    private static func admit(
        _ head: HTTPRequest, _ origin: String?, _ caller: Caller,
        _ configuration: GatewayConfiguration
    ) throws(APIError) {
        // No browser speaks on a Unix socket.
        if caller.transport == .tcp, let host = head.authority, !configuration.hosts.allows(host) {
            throw APIError(
                403, "host_not_allowed",
                "the Host header '\(printable(host))' is not a name of this machine that is allowed; see the setting hosts"
            )
        }
        if let origin, !configuration.origins.allows(origin) {
            throw APIError(
                403, "origin_not_allowed",
                "web pages of '\(printable(origin))' are not allowed here; see the setting origins")
        }
    }

    private static func authorize(
        _ head: HTTPRequest, _ path: String, _ configuration: GatewayConfiguration
    ) throws(APIError) {
        guard let keys = configuration.keys, path != "/health" else { return }
        guard keys.allows(head.headerFields[.authorization]) else {
            throw APIError(
                401, "invalid_api_key",
                head.headerFields[.authorization] == nil
                    ? "a key is wanted: Authorization: Bearer KEY"
                    : "the key is not one of those allowed"
            )
        }
    }

    private func read(
        _ request: Request, _ reply: Reply, _ charge: borrowing BodyBudget.Charge
    ) async throws -> [UInt8] {
        let limit = gateway.configuration.bodyBytes
        let tooLarge = APIError(
            413, "request_too_large", "the request's body has more than \(limit) bytes, the most")
        let length = request.headers[.contentLength].flatMap { Int($0) }
        if let length, length > limit { throw tooLarge }
        guard Self.isJSON(request.headers[.contentType]) else {
            throw APIError(
                415, "unsupported_media_type",
                "the body is JSON: send content-type: application/json")
        }
        if request.headers[.expect]?.lowercased() == "100-continue" { try await reply.askForBody() }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(length ?? 0, 64 << 10))
        for try await buffer in request.body {
            guard bytes.count + buffer.readableBytes <= limit else { throw tooLarge }
            guard charge.add(buffer.readableBytes) else {
                throw APIError(
                    503, "too_many_bodies",
                    "bodies of other requests take all the memory there is for them",
                    retryAfter: .seconds(1))
            }
            bytes += buffer.readableBytesView
        }
        if let length, bytes.count < length { throw CancellationError() }
        return bytes
    }

    /// Clients that send none, or curl's default, mean JSON. A web page can send forms and plain text without asking first; those of
    /// origins that are not allowed have been refused already.
    private static func isJSON(_ type: String?) -> Bool {
        guard let type else { return true }
        let essence = type.prefix { $0 != ";" }.lowercased().filter { $0 != " " }
        return essence == "application/json" || essence.hasSuffix("+json")
            || essence == "application/x-www-form-urlencoded"
    }

    private func log(_ error: APIError, _ id: String, _ head: HTTPRequest, _ caller: Caller) {
        logger.log(
            level: error.status >= 500 && error.status != 503 && error.status != 504
                ? .warning : .debug,
            "\(head.method) \(printable(head.path ?? "")): \(error.status) \(error.message)",
            metadata: ["request": "\(id)", "uid": "\(caller.uid.map { "\($0)" } ?? "unknown")"])
    }
}

/// The beginning of a text from outside, without what a terminal would act upon.
func printable(_ text: String) -> String { String(text.prefix(100)).quoted }

/// 96 bits.
func randomHexadecimal() -> String {
    let digits = "0123456789abcdef".utf8.map { $0 }
    var random = SystemRandomNumberGenerator()
    return String(
        decoding: (0..<24).map { _ in digits[Int.random(in: 0..<16, using: &random)] },
        as: UTF8.self)
}
