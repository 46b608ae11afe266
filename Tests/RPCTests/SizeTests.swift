// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing

@testable import RPC

@Suite("What is too large", .fewAtOnce, .bounded)
struct SizeTests {
    @Test("a method's one answer that does not fit a frame is refused, called as a stream too")
    func tooLargeAnswer() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let size = UInt32(FrameHeader.dataLimit)
        var errors: [ClientError?] = []
        errors.append(
            await #expect(throws: ClientError.self) {
                let _: DetokenizeResponse = try await client.unary("t", "Large", count(size))
            })
        errors.append(
            await #expect(throws: ClientError.self) {
                let stream: AnswerStream<DetokenizeResponse> = client.stream(
                    "t", "Large", count(size))
                for try await _ in stream {}
            })
        for error in errors {
            guard case .rpc(let refusal) = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
            #expect(refusal.reason == "ANSWER_TOO_LARGE")
            #expect(refusal.message.hasSuffix("ask for less at a time"))
        }
        test.server.close()
    }

    @Test("an answer in one piece that does not fit a frame is not collected to its end")
    func flood() async throws {
        let test = TestServer()
        try test.start()
        let client = try await RPCClient.connect(path: test.path)
        let error = await #expect(throws: ClientError.self) {
            let _: GenerateResponse = try await client.unary("t", "Flood", count(1))
        }
        guard case .rpc(let refusal) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(refusal.code == .resourceExhausted)
        #expect(refusal.reason == "ANSWER_TOO_LARGE")
        // 4 MiB hold 419 of them.
        #expect(test.sent.withLock { $0.count } == 419)
        test.server.close()
    }

    @Test("a frame that is too large is refused by name and the connection goes on")
    func oversize() async throws {
        let test = TestServer()
        try test.start()
        let socket = try RawSocket(test.path)
        let length = FrameHeader.dataLimit + 1
        try await socket.send(
            RawSocket.frame(1, kind: 1, flags: 0, [UInt8](repeating: 0, count: length)))
        try await socket.send(frame(3, "Echo", text("still here").encoded(), flags: 0))
        let first = try await socket.response()
        #expect(first.stream == 1)
        #expect(first.response.status?.code == RPCCode.resourceExhausted.rawValue)
        #expect(first.response.status?.message.contains("\(length)") == true)
        let second = try await socket.response()
        #expect(second.stream == 3)
        #expect(
            try DetokenizeResponse(decoding: second.response.payload).text
                == "still here \(getuid())")
        test.server.close()
    }
}
