// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import Logging
import ModelStore
import RPC
import Testing

@testable import Serving

@Suite("A session's turn has its memory before its state is read")
struct SessionMemoryTests {
    private let accounts = Accounts()
    private let store: SessionStore
    private let user = Peer(uid: 66, gid: 0, pid: 0)

    init() throws {
        store = try SessionStore(
            .testing, accounts: accounts, bytes: 16 << 20,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, clock: { 1 })
    }

    /// A token takes a number; memory is set aside for 16 tokens at a time, of which there is so much.
    private func turns(_ tokens: Int = 64, context: Int = 200_000) -> Turns {
        Turns(
            slots: 4, keyValueBytes: tokens * 4,
            memory: .attention(numbersPerToken: 1, context: context))
    }

    /// User B's session of so many tokens, the first of all in the memory of sessions.
    private func session(_ tokens: Int, _ layout: StateLayout = .keysAndValues) throws -> String {
        let snapshot = StateSnapshot(
            modelDigest: "0", history: TokenHistory((0..<tokens).map { UInt32($0) }),
            values: (0..<tokens).map { Float($0) }, layout: layout)
        return try store.create(
            name: "", model: "m", digest: "0",
            state: SessionState(snapshot: snapshot, unread: []), bytes: 4096, ttl: 0, for: user
        ).session
    }

    private func turn(_ id: String) throws -> SessionTurn {
        try store.beginTurn(id, opening: nil, refusesBusy: false, for: user)
    }

    /// Changes the last number of the first record there is: before it are the number's padding, if there is some, and two checksums.
    private func damage() {
        var place: (offset: UInt64, length: UInt64) = (0, 0)
        pread(store.descriptor, &place, 16, 4096)
        var byte: UInt8 = 0x5A
        let end = Int(place.offset + place.length)
        #expect(pwrite(store.descriptor, &byte, 1, off_t(end - 8 - 8 - 4)) == 1)
    }

    @Test("one that waits for memory has not read its values; once it has memory, it has")
    func waits() throws {
        var turns = turns()
        turns.generate("A", prompt: 16, count: 16)
        turns.turn()
        let id = try session(20)
        let answer = turns.generate("B", prompt: 5, count: 20, in: try turn(id))
        for _ in 0..<15 { #expect(turns.running() == ["A0"]) }
        #expect(turns.states.read == 0)
        #expect(answer.record.sessionTokens == 20, "what it waits with is known")
        #expect(turns.running() == ["B0"])
        #expect(turns.states.read == 1)
        turns.turns(19)
        #expect(answer.log == ["length"])
        #expect(try store.info(id, for: user).tokens == 44, "the last one nobody has read")
        #expect(
            try store.read(id).state.snapshot?.values.prefix(20).map { $0 }
                == (0..<20).map { Float($0) })
    }

    @Test("one that will never have memory is refused, and its values are not read")
    func never() throws {
        var turns = turns()
        let answer = turns.generate("B", prompt: 5, count: 40, in: try turn(session(20)))
        turns.turn()
        #expect(answer.error?.reason == "KEY_VALUE_MEMORY")
        #expect(answer.error.map { "\($0)" }?.contains("65 tokens") == true)
        #expect(turns.states.read == 0)
    }

    @Test("one whose record is damaged gives its memory back, and is told so")
    func damaged() throws {
        var turns = turns()
        // Its numbers end behind the bytes that a header can have.
        let id = try session(40)
        damage()
        let answer = turns.generate("B", prompt: 5, count: 19, in: try turn(id))
        turns.turn()
        #expect(answer.error?.code == .dataLoss && answer.error?.reason == "SESSION_DAMAGED")
        #expect(turns.states.read == 1)
        // All there is.
        turns.generate("A", prompt: 32, count: 32)
        #expect(turns.running() == ["A0"])
        #expect(
            throws: RPCError.self, "it is lost"
        ) { try store.info(id, for: user) }
    }

    @Test("one whose session is dropped while it waits is told that, and others have the memory")
    func dropped() throws {
        var turns = turns()
        turns.generate("A", prompt: 16, count: 16)
        turns.turn()
        let id = try session(20)
        let answer = turns.generate("B", prompt: 5, count: 20, in: try turn(id))
        #expect(turns.running() == ["A0"])
        try store.drop(id, for: user)
        #expect(accounts.sessions == 0, "nobody is charged for it any more")
        turns.generate("C", prompt: 32, count: 32)
        for _ in 0..<14 { #expect(turns.running() == ["A0"]) }
        #expect(turns.running() == ["C0"])
        #expect(answer.error?.reason == "NO_SUCH_SESSION")
    }

    @Test("a small state does not wait for a large one")
    func small() throws {
        // 512 KiB are read in a turn; the large state has 1.6 MB.
        var turns = turns(800_000, context: 500_000)
        turns.generate("B", prompt: 5, count: 20, in: try turn(session(400_000)))
        turns.generate("C", prompt: 5, count: 20, in: try turn(session(20)))
        #expect(turns.running() == [])
        #expect(turns.running() == ["C0"])
    }

    @Test("one with keys and values of the other type is refused before it waits")
    func otherType() throws {
        var turns = turns()
        turns.generate("A", prompt: 32, count: 32)
        turns.turn()
        let id = try session(20, .halfKeysAndValues)
        let answer = turns.generate("B", prompt: 5, count: 20, in: try turn(id))
        #expect(turns.running() == ["A0"])
        #expect(answer.error?.reason == "KEY_VALUE_TYPE")
    }

    @Test("a large state is read beside others' answers, 512 KiB of it in a turn here")
    func large() throws {
        var turns = turns(200_000)
        turns.generate("A", prompt: 16, count: 100)
        turns.turn()
        let large = turns.generate("B", prompt: 5, count: 20, in: try turn(session(150_000)))
        turns.generate("C", prompt: 1, count: 100)
        #expect(turns.running() == ["A0", "C0"])
        #expect(turns.states.read == 1)
        #expect(turns.running() == ["A0", "C0", "B0"])
        turns.turns(20)
        #expect(large.log == ["length"] && turns.states.read == 1)
    }

    @Test("the thread does not sleep while there is nothing but a state to be read")
    func alone() throws {
        var turns = turns(200_000)
        let id = try session(150_000)
        turns.generate("B", prompt: 5, count: 1, in: try turn(id))
        #expect(turns.running() == [])
        #expect(turns.core.wakeTime == 0)
        #expect(turns.running() == ["B0"])
        #expect(turns.core.wakeTime == nil)
        #expect(try store.info(id, for: user).tokens == 150_005)
    }

    @Test("one that is cancelled while its state is read gives its memory back")
    func cancelled() throws {
        var turns = turns(200_000)
        let id = try session(150_000)
        let large = turns.generate("B", prompt: 5, count: 20, in: try turn(id))
        let all = turns.generate("C", prompt: 1, count: 199_999)
        #expect(turns.running() == [])
        turns.gone("B0")
        #expect(large.log == ["cancelled"])
        #expect(turns.running() == ["C0"])
        #expect(all.log.isEmpty)
        #expect(try store.info(id, for: user).tokens == 150_000, "the session is as it was")
    }

    @Test("one whose session is dropped while it is read gives its memory back, and is told so")
    func droppedMeanwhile() throws {
        var turns = turns(200_000)
        let id = try session(150_000)
        let large = turns.generate("B", prompt: 5, count: 20, in: try turn(id))
        #expect(turns.running() == [])
        try store.drop(id, for: user)
        turns.generate("C", prompt: 1, count: 199_999)
        #expect(turns.running() == ["C0"])
        #expect(large.error?.reason == "NO_SUCH_SESSION")
    }
}
