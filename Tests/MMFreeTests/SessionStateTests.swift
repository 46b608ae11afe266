// SPDX-License-Identifier: Apache-2.0

import RPC
import Synchronization
import TestSupport
import Testing

@testable import MMFree

@Suite("a client and states larger than a frame", .fewAtOnce, .bounded)
struct SessionStateTests {
    /// 5 MB, in which no part is as another.
    private let state = (0..<5_000_000).map { UInt8(truncatingIfNeeded: $0 / 9973 ^ $0) }

    private func withFake(
        _ options: Client.Options = Client.Options(),
        _ body: (FakeDaemon, Client) async throws -> Void
    ) async throws {
        let daemon = FakeDaemon()
        try daemon.start()
        try await withClient(socket: daemon.socket, options: options) {
            try await body(daemon, $0)
        }
    }

    /// Parts of any size, and then perhaps an error.
    private struct Parts: AsyncSequence, Sendable {
        let parts: [[UInt8]]
        var breaks = false

        struct Broken: Error {}

        func makeAsyncIterator() -> Iterator { Iterator(parts: self) }

        struct Iterator: AsyncIteratorProtocol {
            let parts: Parts
            var place = 0

            mutating func next() async throws -> [UInt8]? {
                guard place < parts.parts.count else {
                    if parts.breaks { throw Broken() }
                    return nil
                }
                place += 1
                return parts.parts[place - 1]
            }
        }
    }

    @Test("is saved whole, and part by part with the size of the whole")
    func save() async throws {
        try await withFake { daemon, client in
            daemon.states.withLock { $0["s"] = state }
            #expect(try await client.saveSession("s") == state)
            var found: [UInt8] = []
            for try await part in client.sessionState("s") {
                #expect(part.stateBytes == state.count)
                found += part.bytes
            }
            #expect(found == state)
        }
    }

    @Test(
        "a daemon's word on a state's size reserves 64 MiB at most",
        arguments: [(0, 0), (5_000_000, 5_000_000), (1 << 33, 64 << 20), (UInt64.max, 64 << 20)])
    func room(_ said: UInt64, _ reserved: Int) {
        #expect(Client.room(for: said) == reserved)
    }

    @Test("is restored in requests of 1 MiB; a smaller one in one")
    func restore() async throws {
        try await withFake { daemon, client in
            let session = try await client.restoreSession(state)
            #expect(session.id == "s1" && !session.isIncomplete)
            #expect(daemon.states.withLock { $0["s1"] } == state)
            #expect(daemon.count("Restore") == 5)
            daemon.states.withLock { $0 = [:] }
            let small = Array(state[..<4_000_000])
            _ = try await client.restoreSession(small)
            #expect(daemon.states.withLock { $0["s1"] } == small)
            #expect(daemon.count("Restore") == 6)
        }
    }

    @Test("is restored from parts of any size", arguments: [1 << 20, 70_001, 5_000_000])
    func parts(_ size: Int) async throws {
        try await withFake { daemon, client in
            let parts = stride(from: 0, to: state.count, by: size).map {
                Array(state[$0..<min(state.count, $0 + size)])
            }
            _ = try await client.restoreSession(from: Parts(parts: parts + [[]]))
            #expect(daemon.states.withLock { $0["s1"] } == state)
            #expect(daemon.count("Restore") == 5 && daemon.count("Drop") == 0)
        }
    }

    @Test("whose parts break off leaves no session")
    func broken() async throws {
        try await withFake { daemon, client in
            let parts = Parts(parts: [Array(state[..<3_000_000])], breaks: true)
            #expect(
                await failure { _ = try await client.restoreSession(from: parts) } is Parts.Broken)
            #expect(daemon.count("Drop") == 1)
            #expect(daemon.states.withLock { $0.isEmpty })
        }
    }

    @Test("goes on after an answer that was lost, where calls are made again")
    func lost() async throws {
        let options = Client.Options(retries: .idempotent(attempts: 3))
        try await withFake(options) { daemon, client in
            daemon.lostAnswers.withLock { $0 = 1 }
            _ = try await client.restoreSession(state)
            #expect(daemon.states.withLock { $0["s1"] } == state)
            #expect(daemon.count("Get") == 1 && daemon.count("Drop") == 0)
        }
    }
}
