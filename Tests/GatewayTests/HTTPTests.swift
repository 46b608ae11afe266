// SPDX-License-Identifier: Apache-2.0

import ModelStore
import ServiceLifecycle
import Serving
import TestSupport
import Testing

@testable import Gateway

@Suite("HTTP", .fewAtOnce, .bounded)
struct HTTPTests {
    @Test("models are listed and named")
    func models() async throws {
        try await withGateway(["tiny": 1, "other": 2]) { rig in
            let list = try await rig.get("/v1/models").json
            #expect(list["object"]?.string == "list")
            #expect(
                Set(list["data"]?.array?.compactMap { $0["id"]?.string } ?? []) == [
                    "tiny", "other",
                ])
            #expect(list["data"]?.array?.allSatisfy { $0["created"]?.integer != nil } == true)
            let one = try await rig.get("/v1/models/tiny").json
            #expect(one["id"]?.string == "tiny")
            #expect(one["object"]?.string == "model")
            let none = try await rig.get("/v1/models/tin%79x")
            #expect(none.status == 404)
            #expect(none.error.code == "model_not_found")
            #expect(none.error.message?.contains("'tinyx'") == true)
        }
    }

    @Test("a path that is not there is 404, a method that is not 405, with those there are")
    func paths() async throws {
        try await withGateway { rig in
            let socket = try rig.connect()
            try await socket.send("POST", "/v1/nothing", body: "{}")
            #expect(try await socket.answer().status == 404)
            // The connection goes on.
            try await socket.send("GET", "/v1/completions?x=1")
            let answer = try await socket.answer()
            #expect(answer.status == 405)
            #expect(answer.headers["allow"] == "POST")
            try await socket.send("GET", "/health")
            #expect(try await socket.answer().text == #"{"status":"ok"}"#)
        }
    }

    @Test("HEAD has the headers of GET, and no body")
    func headOnly() async throws {
        try await withGateway { rig in
            let socket = try rig.connect()
            try await socket.send("HEAD", "/v1/models")
            let answer = try await socket.answer(isHead: true)
            #expect(answer.status == 200)
            #expect((answer.headers["content-length"].flatMap { Int($0) } ?? 0) > 10)
            try await socket.send("GET", "/health")
            #expect(try await socket.answer().status == 200)
        }
    }

    @Test("a Host that is not this machine's is refused on TCP; a Unix socket has none")
    func host() async throws {
        try await withGateway { rig in
            for (host, status) in [
                ("localhost:\(rig.port)", 200), ("127.0.0.1", 200), ("evil.example", 403),
                ("localhost.evil.example", 403),
            ] {
                let socket = try rig.connectTCP()
                try await socket.send("GET", "/v1/models", host: host)
                let answer = try await socket.answer()
                #expect(answer.status == status, "\(host)")
                if status == 403 { #expect(answer.error.code == "host_not_allowed") }
            }
            let unix = try rig.connect()
            try await unix.send("GET", "/v1/models", host: "whatever")
            #expect(try await unix.answer().status == 200)
        }
    }

    @Test("pages of allowed origins may send what they ask for; others are refused before any work")
    func origins() async throws {
        try await withGateway {
            $0.origins = OriginList(["http://localhost:3000"])
        } _: { rig in
            let socket = try rig.connect()
            try await socket.send(
                "OPTIONS", "/v1/completions",
                [
                    "Origin: http://localhost:3000", "Access-Control-Request-Method: POST",
                    "Access-Control-Request-Headers: authorization, content-type, x-stainless-os",
                    "Access-Control-Request-Private-Network: true",
                ])
            let preflight = try await socket.answer()
            #expect(preflight.status == 204)
            #expect(preflight.headers["access-control-allow-origin"] == "http://localhost:3000")
            #expect(
                preflight.headers["access-control-allow-headers"]
                    == "authorization, content-type, x-stainless-os")
            #expect(preflight.headers["access-control-allow-methods"] == "POST")
            #expect(preflight.headers["access-control-allow-private-network"] == "true")
            let allowed = try await rig.get("/v1/models", ["Origin: http://localhost:3000"])
            #expect(allowed.status == 200)
            #expect(allowed.headers["access-control-allow-origin"] == "http://localhost:3000")
            #expect(allowed.headers["vary"] == "Origin")
            for origin in ["http://localhost:3001", "null", "https://evil.example"] {
                let answer = try await rig.get("/v1/models", ["Origin: \(origin)"])
                #expect(answer.status == 403)
                #expect(answer.error.code == "origin_not_allowed")
                #expect(answer.headers["access-control-allow-origin"] == nil)
            }
            #expect(try await rig.get("/v1/models").headers["access-control-allow-origin"] == nil)
        }
    }

    @Test("with a file of keys a request needs one; /health and browsers' questions do not")
    func keys() async throws {
        let key = "0123456789abcdef"
        let keys = try KeyList(key)
        try await withGateway {
            $0.keys = keys
        } _: { rig in
            let none = try await rig.get("/v1/models")
            #expect(none.status == 401)
            #expect(none.error.code == "invalid_api_key")
            #expect(none.headers["www-authenticate"] == "Bearer")
            #expect(try await rig.get("/v1/models", ["Authorization: Bearer x"]).status == 401)
            #expect(try await rig.get("/v1/models", ["Authorization: Bearer \(key)"]).status == 200)
            #expect(try await rig.get("/health").status == 200)
        }
    }

    @Test("a body beyond the limit is 413, announced or not, and the answer is read")
    func largeBody() async throws {
        try await withGateway {
            $0.bodyBytes = 10_000
        } _: { rig in
            let large = String(repeating: " ", count: 200_000)
            let announced = try await rig.post("/v1/completions", large)
            #expect(announced.status == 413)
            let socket = try rig.connect()
            try await socket.send(
                "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in 0..<20 { try? await socket.send("2710\r\n" + large.prefix(10_000) + "\r\n") }
            let chunked = try await socket.answer()
            #expect(chunked.status == 413)
            #expect(chunked.error.code == "request_too_large")
            #expect(rig.gateway.bodies.bytes == 0)
        }
    }

    @Test("bodies of all requests together have a limit, and give back what they took")
    func allBodies() async throws {
        try await withGateway {
            ($0.bodyBytes, $0.allBodyBytes) = (10_000, 12_000)
        } _: { rig in
            let first = try rig.connect()
            try await first.send(
                "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n"
                    + String(repeating: " ", count: 9_000))
            try await eventually { rig.gateway.bodies.bytes == 9_000 }
            let second = try await rig.post(
                "/v1/completions", String(repeating: " ", count: 9_000))
            #expect(second.status == 503)
            #expect(second.headers["x-should-retry"] == "true")
            #expect(second.headers["retry-after"] == "1")
            first.raw.shutdown()
            try await eventually { rig.gateway.bodies.bytes == 0 }
            #expect(
                try await rig.post("/v1/completions", String(repeating: " ", count: 9_000)).status
                    == 400)
        }
    }

    @Test("a client that waits to be asked for its body is asked")
    func expectContinue() async throws {
        try await withGateway { rig in
            let socket = try rig.connect()
            let body = #"{"model":"tiny","prompt":"a","max_tokens":1}"#
            try await socket.send(
                "POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: \(body.utf8.count)\r\n\r\n"
            )
            #expect(try await socket.answer().status == 100)
            try await socket.send(body)
            #expect(try await socket.answer().status == 200)
        }
    }

    @Test("requests that are sent without waiting are answered in their order")
    func pipelined() async throws {
        try await withGateway { rig in
            let socket = try rig.connect()
            let body = #"{"model":"tiny","prompt":"a","max_tokens":2,"stream":true}"#
            let post =
                "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
            let get = "GET /v1/models/tiny HTTP/1.1\r\nHost: x\r\n\r\n"
            try await socket.send(String(repeating: get + post, count: 20))
            for _ in 0..<20 {
                #expect(try await socket.answer().json["id"]?.string == "tiny")
                #expect(try await socket.answer().events.last == "[DONE]")
            }
        }
    }

    @Test("HTTP/1.0 gets no chunks, and the end of the connection")
    func old() async throws {
        try await withGateway { rig in
            let socket = try rig.connect()
            let body = #"{"model":"tiny","prompt":"a","max_tokens":2,"stream":true}"#
            try await socket.send(
                "POST /v1/completions HTTP/1.0\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
            )
            let answer = try await socket.answer()
            #expect(answer.status == 200)
            #expect(answer.headers["transfer-encoding"] == nil)
            #expect(answer.events.last == "[DONE]")
        }
    }

    @Test("Connection: close closes it after the answer")
    func close() async throws {
        try await withGateway { rig in
            let socket = try rig.connect()
            try await socket.send("GET", "/health", ["Connection: close"])
            let answer = try await socket.answer()
            #expect(answer.headers["connection"] == "close")
            #expect(try await socket.rest().isEmpty)
        }
    }

    @Test("other content than JSON is 415")
    func contentType() async throws {
        try await withGateway { rig in
            let answer = try await rig.post(
                "/v1/completions", "prompt=a", ["Content-Type: text/plain"])
            #expect(answer.status == 415)
        }
    }

    @Test("without a daemon the answer is 503, with the time after which to try again")
    func noDaemon() async throws {
        try await withGateway {
            $0.daemon = "/nonexistent/mmfreed.sock"
        } _: { rig in
            let answer = try await rig.get("/health")
            #expect(answer.status == 503)
            #expect(answer.error.code == "no_socket")
            #expect(answer.headers["x-should-retry"] == "true")
            #expect(answer.headers["retry-after"] == "1")
        }
    }

    @Test("stopping finishes the answers that have begun")
    func drain() async throws {
        try await withGateway { rig in
            let idle = try rig.connect()
            try await idle.send("GET", "/health")
            _ = try await idle.answer()
            let busy = try rig.connect()
            try await busy.send(
                "POST", "/v1/completions",
                body:
                    #"{"model":"tiny","prompt":"a","max_tokens":400,"stream":true,"logit_bias":{"2":-100}}"#
            )
            #expect(try await busy.head().status == 200)
            await rig.group.triggerGracefulShutdown()
            #expect(try await idle.rest().isEmpty)
            let rest = String(decoding: try await busy.rest(), as: UTF8.self)
            #expect(rest.contains("data: [DONE]"))
            #expect(throws: (any Error).self) { try rig.connect() }
        }
    }

    @Test("an answer that is complete and has not been read yet when the gateway stops is not lost")
    func unread() async throws {
        try await withGateway { rig in
            let socket = try rig.connect()
            // More than a socket holds, and less than an answer waits for.
            try await socket.send(
                "POST", "/v1/completions",
                body:
                    #"{"model":"tiny","prompt":"a","max_tokens":400,"stream":true,"logit_bias":{"2":-100}}"#
            )
            #expect(try await socket.head().status == 200)
            try await eventually { rig.service.load.active == 0 }
            await rig.group.triggerGracefulShutdown()
            #expect(String(decoding: try await socket.rest(), as: UTF8.self).contains("[DONE]"))
        }
    }

    @Test("stopping ends answers that take longer than is allowed")
    func drainLimit() async throws {
        try await withGateway(drainTime: .milliseconds(50)) { rig in
            let socket = try rig.connect()
            try await socket.send(
                "POST", "/v1/completions",
                body:
                    #"{"model":"tiny","prompt":"a","max_tokens":60000,"stream":true,"logit_bias":{"2":-100}}"#
            )
            #expect(try await socket.head().status == 200)
            await rig.group.triggerGracefulShutdown()
            #expect(!String(decoding: try await socket.rest(), as: UTF8.self).contains("[DONE]"))
            try await eventually { rig.service.load.active == 0 }
        }
    }
}

@Suite("abuse of HTTP", .fewAtOnce, .bounded)
struct AbuseTests {
    @Test(
        "what is not HTTP/1.1 is told so, and its connection ends",
        arguments: [
            "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n", "hello\r\n\r\n", "GET /\r\n\r\n",
            "GET / HTTP/3.7\r\nHost: x\r\n\r\n", "G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost x\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        ])
    func notHTTP(_ bytes: String) async throws {
        try await withGateway { rig in
            let socket = try rig.connect()
            try await socket.send(bytes)
            let answer = try await socket.answer()
            #expect(answer.status == 400)
            #expect(answer.error.code == "bad_request")
            #expect(try await socket.rest().isEmpty)
            #expect(try await rig.get("/health").status == 200)
        }
    }

    @Test(
        "headers beyond their limits are 431",
        arguments: [
            "GET / HTTP/1.1\r\nHost: x\r\nA: \(String(repeating: "a", count: 20_000))\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n"
                + (0..<200).map { "A\($0): b\r\n" }.joined() + "\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n"
                + (0..<50).map { "A\($0): \(String(repeating: "b", count: 2_000))\r\n" }.joined()
                + "\r\n",
            "GET /\(String(repeating: "a", count: 200_000)) HTTP/1.1\r\nHost: x\r\n\r\n",
        ])
    func largeHeaders(_ bytes: String) async throws {
        try await withGateway { rig in
            let socket = try rig.connect()
            try? await socket.send(bytes)
            #expect([431, 400].contains(try await socket.answer().status))
            #expect(try await rig.get("/health").status == 200)
        }
    }

    @Test("a head that does not end, and a body that does not, end with their time")
    func slow() async throws {
        var (ofHead, ofBody) = (ConnectionLimits.unhurried, ConnectionLimits.unhurried)
        ofHead.idleTime = .milliseconds(200)
        ofBody.bodyTime = .milliseconds(200)
        try await withGateway(limits: ofHead) { rig in
            let head = try rig.connect()
            try await head.send("GET /health HTTP/1.1\r\nHost: x\r\nA: ")
            // A byte from time to time does not help; all of them together stay below the bounds of a head.
            let drip = Task {
                for _ in 0..<1_000 {
                    try await head.send("a")
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            #expect(try await head.rest().isEmpty)
            drip.cancel()
        }
        try await withGateway(limits: ofBody) { rig in
            let body = try rig.connect()
            try await body.send(
                "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            let answer = try await body.answer()
            #expect(answer.status == 408)
            #expect(try await body.rest().isEmpty)
        }
    }

    @Test("a reader that leaves the end of the last answer loses its connection")
    func lastAnswerUnread() async throws {
        var limits = ConnectionLimits.unhurried
        limits.stallTime = .milliseconds(200)
        try await withGateway(limits: limits) { rig in
            let socket = try rig.connect()
            // More than a socket holds, and less than an answer waits for.
            let body =
                #"{"model":"tiny","prompt":"a","max_tokens":400,"stream":true,"logit_bias":{"2":-100}}"#
            try await socket.send(
                "POST", "/v1/completions", ["connection: close"], body: body)
            try await eventually { (try? await socket.send("x")) == nil }
            #expect(!String(decoding: try await socket.rest(), as: UTF8.self).contains("[DONE]"))
        }
    }

    @Test("a reader that does not read loses its connection, and its request ends")
    func slowReader() async throws {
        var limits = ConnectionLimits.unhurried
        limits.stallTime = .milliseconds(200)
        try await withGateway(limits: limits) { rig in
            let socket = try rig.connect()
            let body =
                #"{"model":"tiny","prompt":"a","max_tokens":60000,"stream":true,"logprobs":20,"logit_bias":{"2":-100}}"#
            try await socket.send("POST", "/v1/completions", body: body)
            try await eventually { rig.service.load.active == 1 }
            try await eventually { rig.service.load.active == 0 }
            #expect(!String(decoding: try await socket.rest(), as: UTF8.self).contains("[DONE]"))
        }
    }

    @Test("an error after complete requests comes after their answers")
    func lateError() async throws {
        try await withGateway { rig in
            let socket = try rig.connect()
            try await socket.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n")
            #expect(try await socket.answer().status == 200)
            #expect(try await socket.answer().status == 400)
            #expect(try await socket.rest().isEmpty)
        }
    }

    @Test("one user has half of the connections at most; an ended one makes room")
    func tooMany() async throws {
        try await withGateway(mostConnections: 4) { rig in
            let (one, two) = (try rig.connect(), try rig.connectTCP())
            for socket in [one, two] {
                try await socket.send("GET", "/health")
                #expect(try await socket.answer().status == 200)
            }
            #expect(try await rig.connect().rest().isEmpty)
            one.raw.shutdown()
            try await eventually { (try? await rig.get("/health"))?.status == 200 }
        }
    }
}
