// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import HummingbirdCore
import ModelStore
import NIOCore

/// The answer to one request: whole, or a stream. A handler sends one, once.
final class Reply {
    private var writer: ResponseWriter?
    private var body: (any ResponseBodyWriter)?
    private let isHead: Bool
    /// Headers of every answer.
    private let headers: HTTPFields
    /// Whether its head is written: then errors are the stream's affair.
    private(set) var isBegun = false

    init(_ writer: consuming ResponseWriter, isHead: Bool, headers: HTTPFields) {
        self.writer = consume writer
        self.isHead = isHead
        self.headers = headers
    }

    /// Tells a client that waits for it to send its body.
    func askForBody() async throws {
        try await writer?.writeInformationalHead(HTTPResponse(status: .continue))
    }

    private func head(_ status: Int, _ type: String?, _ more: [HTTPField]) -> HTTPResponse {
        var head = HTTPResponse(
            status: HTTPResponse.Status(code: status), headerFields: headers)
        if let type { head.headerFields[.contentType] = type }
        for field in more { head.headerFields[field.name] = field.value }
        return head
    }

    func send(
        _ status: Int = 200, bytes: [UInt8], type: String? = "application/json",
        headers: [HTTPField] = []
    ) async throws {
        guard let writer = writer.take() else { return }
        isBegun = true
        var head = head(status, type, headers)
        // RFC 9110: an answer without content has no length.
        if status != 204 { head.headerFields[.contentLength] = "\(bytes.count)" }
        if isHead || bytes.isEmpty {
            try await writer.writeResponse(head)
        } else {
            try await writer.write(
                response: head, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
        }
    }

    func send(_ json: JSON) async throws { try await send(bytes: json.writtenCompactly()) }

    func send(_ error: APIError, _ face: Face) async throws {
        try await send(error.status, bytes: error.body(face), headers: error.headers)
    }

    /// Begins a stream of parts.
    func begin(_ type: String) async throws {
        guard let writer = writer.take() else { return }
        isBegun = true
        // Proxies that collect answers would defeat streaming.
        let fields = [
            HTTPField(name: .cacheControl, value: "no-cache"),
            HTTPField(name: .init("x-accel-buffering")!, value: "no"),
        ]
        body = try await writer.writeHead(head(200, type, fields))
    }

    /// Waits until the connection takes it.
    func write(_ bytes: [UInt8]) async throws { try await body?.write(ByteBuffer(bytes: bytes)) }

    func finish() async throws {
        guard let body = body.take() else { return }
        try await body.finish(nil)
    }
}
