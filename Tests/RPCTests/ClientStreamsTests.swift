// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import RPC

@Suite("A client's calls")
struct ClientStreamsTests {
    private var streams = ClientStreams()

    private mutating func open(_ id: ClientStreams.ID, isStreaming: Bool = true) throws -> UInt32 {
        streams.begin(id, isStreaming: isStreaming)
        let stream = streams.open(id)
        return try #require(stream)
    }

    private func data(_ stream: UInt32, _ count: Int) -> Frame {
        Frame(stream: stream, kind: .data, data: [UInt8](repeating: 7, count: count))
    }

    private func last(_ stream: UInt32) -> Frame {
        Frame(stream: stream, kind: .data, flags: [.remoteClosed, .noData], data: [])
    }

    private func response(_ stream: UInt32, _ status: Status?, _ payload: [UInt8] = []) -> Frame {
        Frame(
            stream: stream, kind: .response,
            data: Response(status: status, payload: payload).encoded())
    }

    @Test("a call's messages come in their order, then its end, once")
    mutating func order() throws {
        let stream = try open(1)
        #expect(stream == 1)
        #expect(streams.take(1) == nil)
        #expect(streams.receive(data(stream, 1)) == 1)
        #expect(streams.receive(data(stream, 2)) == 1)
        #expect(streams.receive(last(stream)) == 1)
        #expect(streams.take(1) == .messages([[7], [7, 7]]))
        #expect(streams.take(1) == .end(.success([])))
        // Frames after the end are nobody's.
        #expect(streams.receive(data(stream, 1)) == nil)
        #expect(!streams.isOwed)
    }

    @Test("a call that ends before its request is written needs no stream, and nobody is told")
    mutating func neverWritten() {
        streams.begin(1, isStreaming: true)
        #expect(streams.cancel(1) == nil)
        #expect(streams.open(1) == nil)
        #expect(streams.take(1) == .end(.failure(.cancelled)))
        streams.begin(2, isStreaming: true)
        #expect(streams.open(2) == 1)
    }

    @Test("a unary call ends with its payload, its status or what makes no sense")
    mutating func unary() throws {
        let streams = try (1...4).map { try open($0, isStreaming: false) }
        #expect(self.streams.receive(response(streams[0], nil, [1, 2])) == 1)
        #expect(self.streams.take(1) == .end(.success([1, 2])))
        let busy = RPCError(.unavailable, "busy").retrying(after: 5)
        #expect(self.streams.receive(response(streams[1], busy.status)) == 2)
        #expect(self.streams.take(2) == .end(.failure(.rpc(busy))))
        let nonsense = Frame(stream: streams[2], kind: .response, data: [0xff])
        #expect(self.streams.receive(nonsense) == 3)
        #expect(self.streams.take(3) == .end(.failure(.garbled("the payload is not a Response"))))
        let huge = FrameHeader(length: 5 << 20, stream: streams[3], kind: .response)
        #expect(self.streams.receiveOversize(huge) == 4)
        #expect(self.streams.take(4) == .end(.failure(.garbled("a frame of 5242880 bytes"))))
    }

    @Test("with 256 KiB unread the connection is not read, until the consumer comes again")
    mutating func window() throws {
        let stream = try open(1)
        for _ in 0..<63 { _ = streams.receive(data(stream, 4096)) }
        #expect(streams.readsOn)
        _ = streams.receive(data(stream, 4096))
        #expect(!streams.readsOn)
        // The consumer has them in its hands: they still count.
        guard case .messages(let messages) = streams.take(1) else {
            Issue.record("nothing to take")
            return
        }
        #expect(messages.count == 64)
        #expect(!streams.readsOn)
        #expect(streams.take(1) == nil)
        #expect(streams.readsOn)
    }

    @Test("empty messages count, too")
    mutating func empty() throws {
        let stream = try open(1)
        for _ in 0..<4096 { _ = streams.receive(data(stream, 0)) }
        #expect(!streams.readsOn)
    }

    @Test("while another call is waited for the connection is read on, up to 8 MiB")
    mutating func others() throws {
        let slow = try open(1)
        _ = try open(2, isStreaming: false)
        #expect(streams.take(2) == nil)
        for _ in 0..<7 { _ = streams.receive(data(slow, 1 << 20)) }
        #expect(streams.readsOn)
        _ = streams.receive(data(slow, 1 << 20))
        #expect(!streams.readsOn)
    }

    @Test("a cancelled call gives up what waits, tells its stream once, and ends as cancelled")
    mutating func cancel() throws {
        let (first, second) = (try open(1), try open(2))
        _ = streams.receive(data(first, 1 << 20))
        #expect(!streams.readsOn)
        #expect(streams.cancel(1) == first)
        #expect(streams.cancel(1) == nil)
        #expect(streams.readsOn)
        #expect(streams.receive(data(first, 1)) == nil)
        #expect(streams.take(1) == .end(.failure(.cancelled)))
        #expect(streams.receive(data(second, 1)) == 2)
        #expect(streams.take(2) == .messages([[7]]))
        // A call that has ended by itself has nothing left to tell.
        _ = streams.receive(last(second))
        #expect(streams.cancel(2) == nil)
        #expect(streams.take(2) == .end(.failure(.cancelled)))
    }

    @Test(
        "whose time is up, or whose connection breaks, gets what came before, then the error, once")
    mutating func ends() throws {
        let stream = try open(1)
        _ = try open(2)
        _ = streams.receive(data(stream, 1))
        #expect(streams.expire(1) == stream)
        #expect(streams.expire(1) == nil)
        #expect(streams.take(1) == .messages([[7]]))
        #expect(streams.take(1) == .end(.failure(.timeout)))
        #expect(streams.fail(.disconnected) == [2])
        #expect(streams.fail(.disconnected) == [])
        #expect(streams.take(2) == .end(.failure(.disconnected)))
    }

    @Test("a silent daemon that owes an answer is asked after 10 s and given up 20 s later")
    func liveness() {
        let second: UInt64 = 1_000_000_000
        var liveness = Liveness(Patience())
        liveness.hear(now: 100 * second)
        #expect(liveness.check(now: 104 * second) == .wait(6 * second))
        #expect(liveness.check(now: 110 * second) == .ask)
        #expect(liveness.check(now: 115 * second) == .wait(15 * second))
        // Any byte will do.
        liveness.hear(now: 120 * second)
        #expect(liveness.check(now: 120 * second) == .wait(10 * second))
        #expect(liveness.check(now: 131 * second) == .ask)
        #expect(liveness.check(now: 151 * second) == .dead)
    }

    @Test("errors say whether and when to try again")
    func retry() {
        #expect(ClientError.rpc(RPCError(.invalidArgument, "no")).retry == .never)
        #expect(
            ClientError.rpc(RPCError(.resourceExhausted, "full").retrying(after: 7)).retry
                == .after(7))
        let stopping = RPCError(.unavailable, "stopping", reason: "DRAINING").retrying(after: 7)
        #expect(ClientError.rpc(stopping).retry == .reconnect(after: 7))
        #expect(ClientError.disconnected.retry == .reconnect(after: 100_000_000))
        #expect(ClientError.cancelled.retry == .never)
    }
}
