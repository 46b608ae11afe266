// SPDX-License-Identifier: Apache-2.0

import ModelStore
import TestSupport

struct HTTPAnswer {
    var status = 0
    var headers: [String: String] = [:]
    var body: [UInt8] = []
    /// Whether the connection was closed after it.
    var text: String { String(decoding: body, as: UTF8.self) }
    var json: JSON { get throws { try JSON(parsing: body) } }

    /// The documents of a stream of events; the last may be the word [DONE].
    var events: [String] {
        text.split(separator: "\n\n", omittingEmptySubsequences: true).map {
            String($0.dropFirst($0.hasPrefix("data: ") ? 6 : 0))
        }
    }

    /// The error's members, as OpenAI's SDKs read them.
    var error: (message: String?, type: String?, param: String?, code: String?) {
        let error = (try? json)?["error"]
        return (
            error?["message"]?.string, error?["type"]?.string, error?["param"]?.string,
            error?["code"]?.string
        )
    }
}

/// A connection on which HTTP is written by hand.
final class HTTPSocket: Sendable {
    let raw: RawSocket
    private let buffer = Buffer()

    /// What has been read and not taken yet. One task reads.
    private final class Buffer: @unchecked Sendable { var bytes: [UInt8] = [] }

    struct Closed: Error {}

    init(_ raw: RawSocket) { self.raw = raw }

    func send(_ text: String) async throws { try await raw.send(Array(text.utf8)) }

    func send(
        _ method: String, _ path: String, _ headers: [String] = [], body: String = "",
        host: String? = "localhost"
    ) async throws {
        var lines = ["\(method) \(path) HTTP/1.1"]
        if let host { lines.append("Host: \(host)") }
        if method == "POST" {
            lines.append("Content-Length: \(body.utf8.count)")
            if !headers.contains(where: { $0.lowercased().hasPrefix("content-type") }) {
                lines.append("Content-Type: application/json")
            }
        }
        try await send((lines + headers).joined(separator: "\r\n") + "\r\n\r\n" + body)
    }

    private func fill() async throws {
        let more = try await raw.some()
        if more.isEmpty { throw Closed() }
        buffer.bytes += more
    }

    /// A line without its end.
    func line() async throws -> String {
        while true {
            if let end = buffer.bytes.firstIndex(of: 10) {
                defer { buffer.bytes.removeFirst(end + 1) }
                return String(decoding: buffer.bytes[..<end].filter { $0 != 13 }, as: UTF8.self)
            }
            try await fill()
        }
    }

    private func take(_ count: Int) async throws -> [UInt8] {
        while buffer.bytes.count < count { try await fill() }
        defer { buffer.bytes.removeFirst(count) }
        return Array(buffer.bytes[..<count])
    }

    func head() async throws -> HTTPAnswer {
        var answer = HTTPAnswer()
        let words = try await line().split(separator: " ")
        answer.status = words.count > 1 ? Int(words[1]) ?? 0 : 0
        while true {
            let line = try await line()
            if line.isEmpty { return answer }
            let parts = line.split(separator: ":", maxSplits: 1)
            answer.headers[parts[0].lowercased()] = String(
                parts.count > 1 ? parts[1].drop { $0 == " " } : "")
        }
    }

    /// The next chunk of a body; empty for the last.
    func chunk() async throws -> [UInt8] {
        let count = Int(try await line(), radix: 16) ?? 0
        let bytes = try await take(count)
        _ = try await line()
        return bytes
    }

    func answer(isHead: Bool = false) async throws -> HTTPAnswer {
        var answer = try await head()
        if isHead || answer.status == 204 || answer.status == 100 { return answer }
        if answer.headers["transfer-encoding"] == "chunked" {
            while true {
                let chunk = try await chunk()
                if chunk.isEmpty { return answer }
                answer.body += chunk
            }
        }
        if let length = answer.headers["content-length"].flatMap({ Int($0) }) {
            answer.body = try await take(length)
        } else {
            // HTTP/1.0
            answer.body = try await rest()
        }
        return answer
    }

    /// Everything until the other end closes the connection.
    func rest() async throws -> [UInt8] {
        do { while true { try await fill() } } catch is Closed {}
        defer { buffer.bytes = [] }
        return buffer.bytes
    }
}
