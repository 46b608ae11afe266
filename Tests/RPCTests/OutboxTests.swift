// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging
import Synchronization
import TestSupport
import Testing

@testable import RPC

/// A message that counts how often it is encoded.
private struct Counted: MergeableMessage {
    static let encodings = Mutex(0)
    var inner = GenerateResponse()

    init() {}
    init(_ text: String) { inner.text = text }

    init(decoding bytes: some Collection<UInt8>, budget: Int) throws(WireError) {
        inner = try GenerateResponse(decoding: bytes, budget: budget)
    }

    func encoded() -> [UInt8] {
        Self.encodings.withLock { $0 += 1 }
        return inner.encoded()
    }

    mutating func merge(_ next: Counted) { inner.merge(next.inner) }
}

/// A server whose one method, Hold, leaves its outboxes to the test.
private final class OutboxServer: Sendable {
    let path = UnixSocket.newPath()
    let server: RPCServer

    init(_ hold: @escaping @Sendable (Outbox<Counted>) -> Void) throws {
        var services = Services()
        services.stream("t", "Hold") { (_: GenerateRequest, _, outbox: Outbox<Counted>) in
            hold(outbox)
        }
        server = RPCServer(
            services: services, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try server.listen(on: .path(path, mode: 0o600))
    }

    func hold() async throws -> RawSocket {
        let socket = try RawSocket(path)
        try await socket.send(frame(1, "Hold", count(1).encoded(), flags: 1))
        return socket
    }
}

// One after another: they count encodings in one number.
@Suite("Answers wait in an outbox", .serialized, .fewAtOnce, .bounded)
struct OutboxTests {
    private static let large = String(repeating: "x", count: 100_000)

    /// More than a socket holds and the server gives it, so that some must wait for the reader.
    private func fill(_ outbox: Outbox<Counted>) {
        for _ in 0..<10 { outbox.send(Counted(Self.large)) }
    }

    @Test("each message is encoded once, all arrive in order, and the end after them")
    func once() async throws {
        let held = Mutex<Outbox<Counted>?>(nil)
        let test = try OutboxServer { outbox in held.withLock { $0 = outbox } }
        let socket = try await test.hold()
        try await eventually { held.withLock { $0 != nil } }
        let outbox = try #require(held.withLock { $0 })
        Counted.encodings.withLock { $0 = 0 }
        for number in 0..<60 { outbox.send(Counted("\(number) " + Self.large)) }
        #expect(outbox.stalledSince != 0)
        outbox.finish()
        for number in 0..<60 {
            let text = try GenerateResponse(decoding: try await socket.frame().data).text
            #expect(text.hasPrefix("\(number) "))
        }
        #expect(try await socket.frame().data == [])
        #expect(Counted.encodings.withLock { $0 } == 60)
        #expect(outbox.stalledSince == 0)
        #expect(outbox.send(Counted("late")) == .closed)
        test.server.close()
    }

    @Test("a reader that catches up wakes its own request, and no other")
    func ownReader() async throws {
        let held = Mutex<[Outbox<Counted>]>([])
        let drained = Mutex<[Int]>([])
        let test = try OutboxServer { outbox in
            held.withLock { held in
                let number = held.count
                outbox.onDrain { drained.withLock { $0.append(number) } }
                held.append(outbox)
            }
        }
        let first = try await test.hold()
        try await eventually { held.withLock { $0.count } == 1 }
        let second = try await test.hold()
        try await eventually { held.withLock { $0.count } == 2 }
        let outboxes = held.withLock { $0 }
        for outbox in outboxes { fill(outbox) }
        #expect(outboxes.allSatisfy { $0.stalledSince != 0 })
        drained.withLock { $0 = [] }
        for _ in 0..<10 { _ = try await first.frame() }
        try await eventually { drained.withLock { $0 } == [0] }
        #expect(outboxes.map { $0.stalledSince != 0 } == [false, true])
        #expect(outboxes[0].send(Counted("more")) == .accepted)
        withExtendedLifetime(second) {}
        test.server.close()
    }

    @Test("an error takes the place of what waits")
    func failed() async throws {
        let held = Mutex<Outbox<Counted>?>(nil)
        let test = try OutboxServer { outbox in held.withLock { $0 = outbox } }
        let socket = try await test.hold()
        try await eventually { held.withLock { $0 != nil } }
        let outbox = try #require(held.withLock { $0 })
        fill(outbox)
        outbox.fail(RPCError(.aborted, "enough"))
        #expect(outbox.stalledSince == 0)
        var (frames, last) = (0, try await socket.frame())
        while last.kind != 2 { (frames, last) = (frames + 1, try await socket.frame()) }
        #expect(frames < 10)
        #expect(try Response(decoding: last.data).status?.code == RPCCode.aborted.rawValue)
        test.server.close()
    }

    @Test(
        "bytes that wait for a reader are charged to its account until they are read, dropped or the outbox is gone",
        arguments: 0..<3)
    func charged(_ end: Int) async throws {
        let held = Mutex<Outbox<Counted>?>(nil)
        let test = try OutboxServer { outbox in held.withLock { $0 = outbox } }
        var socket: RawSocket? = try await test.hold()
        try await eventually { held.withLock { $0 != nil } }
        let accounts = test.server.accounts
        #expect(accounts.answerBytes == 0)
        held.withLock { held in for _ in 0..<60 { held?.send(Counted(Self.large)) } }
        // All but what the system has taken.
        try await eventually { accounts.answerBytes > 5_000_000 }
        switch end {
        case 0: for _ in 0..<60 { _ = try await socket?.frame() }
        case 1: held.withLock { $0?.fail(RPCError(.aborted, "enough")) }
        default:
            held.withLock { $0 = nil }
            socket = nil
        }
        if end == 1 {
            try await eventually { accounts.answerBytes < 1_000_000 }
            while try await socket?.frame().kind != 2 {}
        }
        try await eventually { accounts.answerBytes == 0 }
        test.server.close()
    }
}
