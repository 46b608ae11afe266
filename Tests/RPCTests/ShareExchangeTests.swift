// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import RPC

@Suite("A connection of the share socket, as a value")
struct ShareExchangeTests {
    private static let patience: UInt64 = 60
    private func exchange(refusal: RPCError? = nil) -> ShareExchange {
        ShareExchange(refusal: refusal, patience: Self.patience, at: 100)
    }

    private func status(_ action: ShareExchange.Action) throws -> (RPCError, isLast: Bool) {
        guard case .send(let answer) = action else {
            Issue.record("\(action)")
            throw CancellationError()
        }
        #expect(answer.descriptor == -1)
        return (RPCError(try Status(decoding: answer.bytes)), answer.isLast)
    }

    private var answer: ShareAnswer {
        ShareAnswer(.success(SharedFile(ShareResponse(name: "m"), descriptor: 9, owner: 0)))
    }

    @Test("a request is handled, its answer sent, and the next is read when there is room again")
    func round() {
        var exchange = exchange()
        #expect(exchange.events == POLLIN)
        #expect(exchange.deadline == 160)
        let request = ShareRequest(model: "m", digest: "d")
        guard case .handle(request) = exchange.receive(.datagram(request.encoded())) else {
            Issue.record("not handled")
            return
        }
        #expect(exchange.events == 0)
        #expect(exchange.deadline == nil, "it waits for us")
        exchange.hold(answer, at: 200)
        #expect(exchange.events == POLLOUT)
        #expect(exchange.deadline == 260)
        exchange.hold(answer, at: 210)
        #expect(exchange.deadline == 260, "trying again gives no more time")
        guard case .send(let sent) = exchange.writable(at: 220) else {
            Issue.record("not sent")
            return
        }
        #expect(sent.descriptor == 9)
        exchange.sent(sent, at: 220)
        #expect(exchange.events == POLLOUT)
        #expect(exchange.deadline == 280)
        guard case .nothing = exchange.writable(at: 230) else {
            Issue.record("it acts")
            return
        }
        #expect(exchange.events == POLLIN)
        #expect(exchange.deadline == 290)
    }

    @Test("an empty datagram is an empty request; the end is the end")
    func empty() {
        var exchange = exchange()
        guard case .handle(ShareRequest()) = exchange.receive(.datagram([])) else {

            Issue.record("not handled")
            return

        }
        var other = self.exchange()
        guard case .nothing = other.receive(.end) else {
            Issue.record("it acts")
            return
        }
        #expect(other.isOver)
    }

    static let nonsense: [(ShareExchange.Received, String)] = [
        (.datagram([0xff]), "ShareRequest"), (.datagram([10, 1, 0xff]), "UTF-8"),
        (.datagram([10, 1, 0]), "NUL"), (.tooLong, "4096"), (.withDescriptors, "descriptors"),
    ]

    @Test(
        "what is no request is answered with why, and the connection closed", arguments: nonsense)
    func malformed(_ received: ShareExchange.Received, _ word: String) throws {
        var exchange = exchange()
        let action = exchange.receive(received)
        let (error, isLast) = try status(action)
        #expect(error.code == .invalidArgument)
        #expect(error.message.contains(word))
        #expect(isLast)
        guard case .send(let answer) = action else { return }
        exchange.sent(answer, at: 100)
        #expect(exchange.isOver)
    }

    @Test(
        "one connection too many is told so, whatever it asks",
        arguments: nonsense.map(\.0) + [.datagram([])])
    func refused(_ received: ShareExchange.Received) throws {
        var exchange = exchange(refusal: RPCError(.resourceExhausted, "too many"))
        let (error, isLast) = try status(exchange.receive(received))
        #expect(error.message == "too many")
        #expect(isLast)
    }
}
