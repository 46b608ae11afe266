// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import Logging
import RPC
import Synchronization
import TestSupport
import Testing

@testable import Serving

final class Clock: Sendable {
    let time = Atomic<UInt64>(1_000_000_000)
    var now: UInt64 { time.load(ordering: .relaxed) }
    func pass(seconds: UInt64) { time.add(seconds * 1_000_000_000, ordering: .relaxed) }
}

func peer(_ uid: UInt32) -> Peer { Peer(uid: uid, gid: 0, pid: 0) }

func state(_ tokens: [UInt32]) -> SessionState {
    SessionState(
        snapshot: StateSnapshot(
            modelDigest: "m", history: TokenHistory(tokens),
            values: tokens.map { Float($0) }), unread: [])
}

@Suite("The store of sessions")
struct SessionStoreTests {
    private let clock = Clock()
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func store(
        bytes: Int = 1 << 20, accounts: Accounts = Accounts(), kept: Int32? = nil
    ) throws -> SessionStore {
        try SessionStore(
            .testing, accounts: accounts, bytes: bytes, kept: kept, logger: logger,
            clock: { [clock] in clock.now })
    }

    private func create(
        _ store: SessionStore, _ uid: UInt32, _ tokens: [UInt32] = [1], ttl: UInt64 = 0
    ) throws -> String {
        try store.create(
            name: "n", model: "tiny", digest: "m", state: state(tokens), bytes: 4096, ttl: ttl,
            for: peer(uid)
        ).session
    }

    @Test("a session is its owner's and root's")
    func owner() throws {
        let store = try store()
        let id = try create(store, 1)
        _ = try create(store, 2)
        #expect(try store.info(id, for: peer(1)).uid == 1)
        #expect(try store.info(id, for: peer(0)).uid == 1)
        for body: () throws -> Void in [
            { _ = try store.info(id, for: peer(2)) }, { try store.drop(id, for: peer(2)) },
            { _ = try store.fork(id, name: "", ttl: 0, for: peer(2)) },
            {
                _ = try store.beginTurn(id, opening: nil, refusesBusy: false, for: peer(2))
            },
        ] {
            let error = #expect(throws: RPCError.self) { try body() }
            #expect(error?.code == .permissionDenied)
        }
        #expect(store.list(for: peer(1)).map(\.session) == [id])
        #expect(store.list(for: peer(0)).count == 2)
        #expect(store.list(for: peer(3)).isEmpty)
    }

    @Test(
        "a session is dropped when its time is over, counted from its last turn; not while it has one"
    )
    func expiry() throws {
        let store = try store()
        let id = try create(store, 1, ttl: 10_000_000_000)
        clock.pass(seconds: 9)
        let turn = try store.beginTurn(id, opening: nil, refusesBusy: false, for: peer(1))
        clock.pass(seconds: 100)
        #expect(try store.info(id, for: peer(1)).turns == 1)
        turn.end()
        clock.pass(seconds: 9)
        #expect(try store.info(id, for: peer(1)).idle == 9_000_000_000)
        clock.pass(seconds: 1)
        let error = #expect(throws: RPCError.self) { try store.info(id, for: peer(1)) }
        #expect(error?.reason == "NO_SUCH_SESSION")
        #expect(store.stats == .init(sessions: 0, bytes: 0, turns: 0, expired: 1))
    }

    @Test("sessions and their bytes are bounded for an account and for all, and given back")
    func quota() throws {
        var limits = Accounts.Limits()
        limits.sessionsPerAccount = 3
        limits.stateBytes = 10 * 4096
        let store = try store(accounts: Accounts(limits))
        let ids = try (0..<3).map { _ in try create(store, 1) }
        let error = #expect(throws: RPCError.self) { try create(store, 1) }
        #expect(error?.code == .resourceExhausted && error?.quota?.field == "uid:1")
        var others = 0
        for uid: UInt32 in 2...20 { while (try? create(store, uid)) != nil { others += 1 } }
        #expect(others == 7, "3 + 7 of 10: each new account gets one as long as there is one")
        try store.drop(ids[0], for: peer(1))
        #expect(store.stats.sessions == 9 && store.stats.bytes == 9 * 4096)
    }

    @Test("what an earlier process had is where its last complete turn left it")
    func restart() throws {
        let first = try store()
        let a = try create(first, 1, [1, 2])
        let b = try create(first, 2, [3])
        let turn = try first.beginTurn(a, opening: nil, refusesBusy: false, for: peer(1))
        #expect(turn.commit(state([1, 2, 9])))
        let dropped = try create(first, 1)
        try first.drop(dropped, for: peer(1))
        // The first goes on with a turn as the process ends.
        let accounts = Accounts()
        let second = try store(accounts: accounts, kept: dup(first.descriptor))
        #expect(second.isAdopted)
        #expect(second.list(for: peer(0)).map(\.session).sorted() == [a, b].sorted())
        let info = try second.info(a, for: peer(1))
        #expect(info.tokens == 3 && info.tokensDigest == TokenHistory([1, 2, 9]).digest)
        #expect(info.name == "n" && info.model == "tiny" && info.turns == 0)
        #expect(try second.read(a).state.snapshot?.values == [1, 2, 9])
        #expect(try second.read(b).state.snapshot?.values == [3])
        #expect(accounts.sessions == 2 && accounts.stateBytes == 2 * 4096)
    }

    @Test("a larger memory takes what a smaller one has")
    func grown() throws {
        let first = try store(bytes: 1 << 20)
        let a = try create(first, 1, [1, 2])
        let second = try store(bytes: 1 << 24, kept: dup(first.descriptor))
        #expect(!second.isAdopted)
        #expect(try second.read(a).state.snapshot?.values == [1, 2])
    }

    @Test("damage loses what is damaged and nothing else", arguments: 0..<20)
    func damage(_ seed: UInt64) throws {
        var random = SeededGenerator(seed)
        let first = try store()
        let ids = try (0..<10).map { try create(first, 1, [UInt32($0), 7]) }
        var status = stat()
        fstat(first.descriptor, &status)
        // Some bytes of the records, or of the table that leads to them.
        let table = 4096..<4096 + 160
        let records = 4096 + (1 << 20)..<4096 + (1 << 20) + 40960
        for _ in 0..<3 {
            let range = Bool.random(using: &random) ? table : records
            var byte = UInt8.random(in: .min ... .max, using: &random)
            pwrite(first.descriptor, &byte, 1, off_t(Int.random(in: range, using: &random)))
        }
        let second = try store(kept: dup(first.descriptor))
        let left = second.list(for: peer(0))
        #expect(left.count >= 7 && left.count <= 10)
        for info in left {
            let number = try #require(ids.firstIndex(of: info.session))
            #expect(try second.read(info.session).state.snapshot?.values == [Float(number), 7])
        }
        _ = try create(second, 1)
    }

    @Test("what is no memory of sessions is given up, and there are none")
    func foreign() throws {
        let other = open("/dev/null", O_RDWR)
        let store = try store(kept: other)
        #expect(!store.isAdopted && store.isEmpty)
    }
}

@Suite("Free pages")
struct ExtentTests {
    @Test("are taken first fit, come back as one, and are never given twice", arguments: 0..<10)
    func random(_ seed: UInt64) {
        var random = SeededGenerator(seed)
        var map = ExtentMap(pages: 10..<200)
        var held: [Range<Int>] = []
        for _ in 0..<500 {
            if Bool.random(using: &random), let index = held.indices.randomElement(using: &random) {
                map.give(back: held.remove(at: index))
            } else if let extent = map.take(Int.random(in: 1...20, using: &random)) {
                #expect(held.allSatisfy { !$0.overlaps(extent) })
                #expect(extent.lowerBound >= 10 && extent.upperBound <= 200)
                held.append(extent)
            }
            #expect(map.free.reduce(0) { $0 + $1.count } + held.reduce(0) { $0 + $1.count } == 190)
        }
        for extent in held { map.give(back: extent) }
        #expect(map.free == [10..<200])
    }
}
