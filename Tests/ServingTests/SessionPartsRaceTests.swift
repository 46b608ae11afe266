// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import Logging
import TestSupport
import Testing

@testable import RPC
@testable import Serving

/// Many callers and one session that is restored in parts.
@Suite("Parts of a state that come at once", .fewAtOnce, .bounded)
struct SessionPartsRaceTests {
    /// A state of so many numbers, all `value`.
    private func bytes(_ values: Int, _ value: Float) -> [UInt8] {
        let snapshot = StateSnapshot(
            modelDigest: "m", history: TokenHistory([1]),
            values: [Float](repeating: value, count: values))
        return SavedState(
            modelDigest: "m", state: SessionState(snapshot: snapshot, unread: [])
        ).encoded()
    }

    private func begin(_ store: SessionStore, _ bytes: [UInt8], _ count: Int) throws -> String {
        var reader = SavedStateReader()
        try reader.take(bytes.prefix(SavedStateHeader.mostBytes))
        return try store.restore(
            #require(reader.header), Array(bytes[..<count]), name: "", model: "tiny", ttl: 0,
            for: peer(1)
        ).session
    }

    private func store() throws -> SessionStore {
        try SessionStore(
            .testing, accounts: Accounts(), bytes: 16 << 20,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, clock: { 1 })
    }

    @Test("one of several that are the same is taken, and the others are told where to go on")
    func same() async throws {
        let store = try store()
        let state = bytes(20_000, 1)
        let id = try begin(store, state, 200)
        var offset = 200
        while offset < state.count {
            let end = min(state.count, offset + 20_000)
            let (part, start) = (Array(state[offset..<end]), offset)
            let reasons = await withTaskGroup(of: String?.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        do throws(RPCError) {
                            _ = try store.restore(
                                id, part, at: UInt64(start), isLast: false, for: peer(1))
                            return nil
                        } catch { return error.reason }
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(reasons.filter { $0 == nil }.count == 1)
            #expect(
                reasons.allSatisfy { [nil, "WRONG_OFFSET", "SESSION_COMPLETE"].contains($0) })
            offset = end
        }
        let values = try store.read(id).state.snapshot?.values
        #expect(values == [Float](repeating: 1, count: 20_000))
    }

    @Test("of one that is dropped meanwhile nothing is written over another's record")
    func dropped() async throws {
        let store = try store()
        let (state, other) = (bytes(100_000, 1), bytes(100_000, 2))
        for _ in 0..<20 {
            let id = try begin(store, state, 200)
            async let parts: Void = {
                for start in stride(from: 200, to: state.count, by: 50_000) {
                    let part = Array(state[start..<min(state.count, start + 50_000)])
                    _ = try? store.restore(
                        id, part, at: UInt64(start), isLast: false, for: peer(1))
                }
            }()
            try store.drop(id, for: peer(1))
            // First fit: it gets the place that has become free.
            let next = try begin(store, other, other.count)
            await parts
            let values = try store.read(next).state.snapshot?.values
            #expect(values == [Float](repeating: 2, count: 100_000))
            try store.drop(next, for: peer(1))
        }
        #expect(store.stats.sessions == 0 && store.stats.bytes == 0)
    }

    @Test(
        "of a state whose reader waits, less than 1 MiB is in the daemon; it goes on when the reader does"
    )
    func slowReader() async throws {
        try await withDaemon { daemon in
            let state = bytes(2_000_000, 1)
            let id = try session(state, daemon)
            let client = try await daemon.connect()
            let answer: AnswerStream<SaveSessionResponse> = client.stream(
                ServiceName.session, "Save", SaveSessionRequest(session: id), timeout: nil)
            var parts = answer.makeAsyncIterator()
            var found = try await parts.next()?.state ?? []
            let accounts = daemon.service.server.accounts
            try await eventually { accounts.answerBytes > 256 << 10 }
            #expect(accounts.answerBytes < 1 << 20)
            while let part = try await parts.next() { found += part.state }
            #expect(found == state)
            try await eventually { accounts.answerBytes == 0 }
            await client.close()
        }
    }

    @Test("of a state that nobody reads, nothing waits in the daemon once the call's time is up")
    func unread() async throws {
        try await withDaemon(timeout: 5_000_000_000) { daemon in
            let id = try session(bytes(2_000_000, 1), daemon)
            let client = try await daemon.connect()
            let answer: AnswerStream<SaveSessionResponse> = client.stream(
                ServiceName.session, "Save", SaveSessionRequest(session: id), timeout: nil)
            var parts = answer.makeAsyncIterator()
            _ = try await parts.next()
            let accounts = daemon.service.server.accounts
            // A part is on its way, and one waits.
            try await eventually { accounts.answerBytes > 500_000 }
            try await eventually { accounts.answerBytes < 300_000 }
            do {
                while try await parts.next() != nil {}
                Issue.record("the whole state came")
            } catch ClientError.rpc(let why) {
                #expect(why.code == .deadlineExceeded && why.reason == "DEADLINE")
            }
            await client.close()
        }
    }

    /// This user's session in a state.
    private func session(_ state: [UInt8], _ daemon: Daemon) throws -> String {
        var reader = SavedStateReader()
        try reader.take(state.prefix(SavedStateHeader.mostBytes))
        let user = Peer(uid: getuid(), gid: getgid(), pid: 0)
        return try daemon.service.sessions.restore(
            #require(reader.header), state, name: "", model: "tiny", ttl: 0, for: user
        ).session
    }
}
