// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing

@testable import RPC

@Suite("calls on behalf of another user", .fewAtOnce, .bounded)
struct OnBehalfTests {
    private func with(
        gateway: UInt32?, _ body: (TestServer) async throws -> Void
    ) async throws {
        let test = TestServer { $0.gateway = gateway }
        try test.start()
        defer { test.server.close() }
        try await body(test)
    }

    private func echo(_ client: RPCClient) async throws -> String {
        let answer: DetokenizeResponse = try await client.unary("t", "Echo", text("x"))
        return answer.text
    }

    @Test("the gateway's calls are that user's, on each connection another's")
    func trusted() async throws {
        try await with(gateway: getuid()) { test in
            for user: UInt32 in [4711, 4712, 0] {
                let client = try await RPCClient.connect(path: test.path, onBehalfOf: user)
                #expect(try await echo(client) == "x \(user)")
                #expect(try await echo(client) == "x \(user)")
            }
            let own = try await RPCClient.connect(path: test.path)
            #expect(try await echo(own) == "x \(getuid())")
        }
    }

    @Test(
        "nobody else's are: not another user's, not where there is no gateway", arguments: [nil, 1])
    func untrusted(_ offset: UInt32?) async throws {
        try await with(gateway: offset.map { getuid() + $0 }) { test in
            let client = try await RPCClient.connect(path: test.path, onBehalfOf: 4711)
            do {
                _ = try await echo(client)
                Issue.record("it was answered")
            } catch ClientError.rpc(let error) {
                #expect(error.code == .permissionDenied)
                #expect(error.reason == "NOT_A_GATEWAY")
            }
        }
    }

    /// A unary Echo with this metadata, by hand.
    private func send(
        _ socket: RawSocket, _ stream: UInt32, _ metadata: [UInt8]
    ) async throws -> Int32 {
        let request = Request(service: "t", method: "Echo", payload: text("x").encoded())
        try await socket.send(
            RawSocket.frame(stream, kind: 1, flags: 0, request.encoded() + metadata))
        return try Response(decoding: try await socket.frame().data).status?.code ?? 0
    }

    @Test("a connection is for one user: its first call's")
    func oneUser() async throws {
        try await with(gateway: getuid()) { test in
            let socket = try RawSocket(test.path)
            let first = RequestHead.metadata(onBehalfOf: 4711)
            #expect(try await send(socket, 1, first) == 0)
            let other = try await send(socket, 3, RequestHead.metadata(onBehalfOf: 4712))
            #expect(other == RPCCode.invalidArgument.rawValue)
            #expect(try await send(socket, 5, []) == RPCCode.invalidArgument.rawValue)
            #expect(try await send(socket, 7, first) == 0)
            let late = try RawSocket(test.path)
            #expect(try await send(late, 1, []) == 0)
            #expect(try await send(late, 3, first) == RPCCode.invalidArgument.rawValue)
        }
    }

    @Test(
        "a value that is no uid is refused",
        arguments: ["", "x", "-1", "+1", "4294967295", "4294967296", "1 ", "0x1"])
    func badValue(_ value: String) {
        func field(_ number: UInt8, _ text: [UInt8]) -> [UInt8] {
            [number << 3 | 2, UInt8(text.count)] + text
        }
        let entry = field(1, Array(RequestHead.onBehalfKey.utf8)) + field(2, Array(value.utf8))
        #expect(throws: RPCError.self) { try RequestHead(field(5, entry)) }
    }

    @Test("said twice it is refused; other metadata are passed over")
    func twice() throws {
        let one = RequestHead.metadata(onBehalfOf: 7)
        #expect(throws: RPCError.self) { try RequestHead(one + one) }
        #expect(try RequestHead(one).onBehalfOf == 7)
        #expect(try RequestHead([5 << 3 | 2, 2, 10, 0]).onBehalfOf == nil)
    }
}
