// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import Logging
import ModelStore
import RPC
import Synchronization
import SystemPackage

/// The sessions, for any thread: the book, and the memory that its records are in.
package final class SessionStore: Sendable {
    private struct State {
        var book = SessionBook()
        let memory: SessionMemory
    }
    private let state: Mutex<State>
    private let accounts: Accounts
    private let configuration: ServingConfiguration
    private let logger: Logger
    /// CLOCK_REALTIME in nanoseconds.
    private let clock: @Sendable () -> UInt64
    /// The memory's descriptor, for the service manager to keep.
    package let descriptor: Int32
    /// Whether the memory is an earlier process's.
    package let isAdopted: Bool

    /// CLOCK_REALTIME, nanoseconds.
    package static let now: @Sendable () -> UInt64 = {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// - Parameters:
    ///   - bytes: the most that all sessions take.
    ///   - kept: the descriptor of an earlier process's memory, which is taken over.
    init(
        _ configuration: ServingConfiguration, accounts: Accounts, bytes: Int, kept: Int32? = nil,
        logger: Logger, clock: @escaping @Sendable () -> UInt64
    ) throws(ModelError) {
        self.configuration = configuration
        self.accounts = accounts
        self.logger = logger
        self.clock = clock
        let old = kept.flatMap { SessionMemory(adopting: $0) }
        if kept != nil, old == nil {
            logger.error(
                "the memory that the service manager kept holds no sessions of this version: all of them are lost"
            )
        }
        let adopts = old.map { $0.size >= SessionMemory.size(bytes: bytes) } ?? false
        guard let memory = adopts ? old : SessionMemory(bytes: bytes) else {
            throw .store(.io(Errno(rawValue: errno), doing: "make memory for", "sessions"))
        }
        isAdopted = adopts
        descriptor = memory.descriptor
        state = Mutex(State(memory: memory))
        if let old { recover(from: old, to: memory) }
    }

    package var isEmpty: Bool {
        tidy()
        return state.withLock { $0.book.count } == 0
    }

    struct Stats: Sendable, Equatable {
        var sessions = 0
        var bytes = 0
        var turns: UInt64 = 0
        var expired: UInt64 = 0
    }

    var stats: Stats {
        let (count, stats) = state.withLock { ($0.book.count, $0.book.stats) }
        return Stats(
            sessions: count, bytes: accounts.stateBytes, turns: stats.turns, expired: stats.expired)
    }

    /// Takes the sessions of an earlier process. What is damaged is lost, and nothing else.
    private func recover(from old: SessionMemory, to memory: SessionMemory) {
        var records: [String: (place: SessionMemory.Place, record: SessionRecord)] = [:]
        var (found, damage) = old.recover { bytes throws(SessionRecord.Damage) in
            var record = try SessionRecord(decoding: bytes)
            // Read again when it is used: thousands of sessions need not be in memory twice.
            if old === memory { record.state = [] }
            return record
        }
        for (place, record) in found {
            guard let other = records[record.id] else {
                records[record.id] = (place, record)
                continue
            }
            // The process ended between a turn's record and the removal of the one before it.
            let isNewer = other.record.generation < record.generation
            old.remove(isNewer ? other.place : place)
            if isNewer { records[record.id] = (place, record) }
        }
        found = []
        for (place, record) in records.values.sorted(by: { $0.record.created < $1.record.created })
        {
            var place = place
            if old !== memory {
                guard let copy = memory.add(record.encoded()) else {
                    damage.append("there is no room for session \(record.id)")
                    continue
                }
                place = copy
            }
            let charge = accounts.restoreSession(
                place.byteCount, of: Account(uid: record.uid))
            state.withLock {
                $0.book.insert(
                    SessionBook.Entry(
                        id: record.id, name: record.name, model: record.model,
                        digest: record.digest, charge: charge, ttl: record.ttl,
                        created: record.created, used: record.used, place: place,
                        generation: record.generation, history: record.history))
            }
        }
        for one in damage.prefix(10) {
            logger.error("a session is lost, for its record is damaged: \(one)")
        }
        logger.notice(
            "\(state.withLock { $0.book.count }) sessions were kept over the restart, \(damage.count) are lost"
        )
    }

    // MARK: What callers do

    /// A new session in a state.
    func create(
        name: String, model: String, digest: String, state: SessionState, bytes: Int,
        ttl: UInt64, for peer: Peer
    ) throws(RPCError) -> SessionInfo {
        guard name.utf8.count <= 256 else {
            throw .invalid("name", "\(name.utf8.count) bytes; at most 256 are allowed")
        }
        let now = tidy()
        let charge = try accounts.chargeSession(bytes, to: peer.account)
        let record = SessionRecord(
            id: Self.newID(), name: name, model: model, digest: digest, uid: peer.uid,
            generation: 1, ttl: ttl == 0 ? configuration.sessionTime : ttl, created: now,
            used: now, history: state.history,
            state: SavedState(modelDigest: digest, state: state).encoded())
        let encoded = record.encoded()
        let entry: SessionBook.Entry? = self.state.withLock { shared in
            guard let place = shared.memory.add(encoded) else { return nil }
            let entry = SessionBook.Entry(
                id: record.id, name: name, model: model, digest: digest, charge: charge,
                ttl: record.ttl, created: now, used: now, place: place, generation: 1,
                history: state.history)
            shared.book.insert(entry)
            return entry
        }
        guard let entry else {
            throw RPCError(
                .resourceExhausted, "there is no memory for another session", reason: "NO_MEMORY"
            ).retrying(after: 1_000_000_000)
        }
        return entry.info(now: now)
    }

    func fork(
        _ id: String, name: String, ttl: UInt64, for peer: Peer
    ) throws(RPCError) -> SessionInfo {
        let entry = try find(id, for: peer)
        return try create(
            name: name.isEmpty ? entry.name : name, model: entry.model, digest: entry.digest,
            state: try read(id), bytes: entry.charge.bytes, ttl: ttl == 0 ? entry.ttl : ttl,
            for: peer)
    }

    func find(_ id: String, for peer: Peer) throws(RPCError) -> SessionBook.Entry {
        tidy()
        return try state.withLock { state throws(RPCError) in try state.book.find(id, for: peer) }
    }

    func info(_ id: String, for peer: Peer) throws(RPCError) -> SessionInfo {
        try find(id, for: peer).info(now: clock())
    }

    func list(for peer: Peer) -> [SessionInfo] {
        let now = tidy()
        return state.withLock { $0.book.list(for: peer) }.map { $0.info(now: now) }
    }

    func drop(_ id: String, for peer: Peer) throws(RPCError) {
        _ = try find(id, for: peer)
        state.withLock { state in
            if let entry = state.book.remove(id) { state.memory.remove(entry.place) }
        }
    }

    /// A session's state at its last complete turn. One that is damaged is dropped.
    func read(_ id: String) throws(RPCError) -> SessionState {
        let bytes: [UInt8]? = try state.withLock { state throws(RPCError) in
            state.memory.read(try state.book.find(id).place)
        }
        let damage: String
        do {
            guard let bytes else { throw SessionRecord.Damage("it cannot be read") }
            let record = try SessionRecord(decoding: bytes)
            return try SavedState(decoding: record.state).state
        } catch { damage = "\(error)" }
        logger.error("session \(id) is lost, for its record is damaged: \(damage)")
        state.withLock { state in
            if let entry = state.book.remove(id) { state.memory.remove(entry.place) }
        }
        throw RPCError(
            .dataLoss, "session '\(id)' is lost, for its state is damaged: \(damage)",
            reason: "SESSION_DAMAGED")
    }

    // MARK: Turns

    /// A turn of a session, which is busy until it ends.
    ///
    /// - Parameter opening: the token that the first turn of all begins with.
    func beginTurn(
        _ id: String, opening: UInt32?, refusesBusy: Bool, for peer: Peer
    ) throws(RPCError) -> SessionTurn {
        tidy()
        _ = try state.withLock { state throws(RPCError) in
            try state.book.beginTurn(id, for: peer, refusesBusy: refusesBusy)
        }
        return SessionTurn(id: id, opening: opening, store: self)
    }

    fileprivate func commit(_ id: String, _ new: SessionState) -> Bool {
        guard let entry = try? state.withLock({ state throws(RPCError) in try state.book.find(id) })
        else { return false }
        let generation = entry.generation + 1
        let record = SessionRecord(
            id: id, name: entry.name, model: entry.model, digest: entry.digest,
            uid: entry.owner.uid, generation: generation, ttl: entry.ttl, created: entry.created,
            used: clock(), history: new.history,
            state: SavedState(modelDigest: entry.digest, state: new).encoded())
        let encoded = record.encoded()
        let isKept = state.withLock { state in
            guard let place = state.memory.add(encoded) else { return false }
            guard let old = state.book.commit(id, place, generation, new.history) else {
                // Dropped meanwhile.
                state.memory.remove(place)
                return false
            }
            state.memory.remove(old)
            return true
        }
        if !isKept { logger.error("a turn of session \(id) is lost: dropped, or no memory for it") }
        return isKept
    }

    fileprivate func endTurn(_ id: String) {
        let now = clock()
        state.withLock { $0.book.endTurn(id, now: now) }
    }

    /// Drops what is over.
    @discardableResult
    private func tidy() -> UInt64 {
        let now = clock()
        state.withLock { state in
            for entry in state.book.expire(now: now) { state.memory.remove(entry.place) }
        }
        return now
    }

    private static func newID() -> String {
        "s" + String(UInt64.random(in: .min ... .max) >> 4, radix: 36)
    }
}

/// One turn of a session: the right to its state, in the order in which turns came in.
final class SessionTurn: Sendable {
    let id: String
    /// What a text begins with in a session that has read nothing.
    let opening: UInt32?
    private let store: SessionStore
    private let isOver = Atomic<Bool>(false)

    fileprivate init(id: String, opening: UInt32?, store: SessionStore) {
        self.id = id
        self.opening = opening
        self.store = store
    }

    /// Where the session is when this turn comes to run.
    func state() throws(RPCError) -> SessionState { try store.read(id) }

    /// - Returns: whether the session has this state now.
    func commit(_ state: SessionState) -> Bool { store.commit(id, state) }

    func end() {
        if !isOver.exchange(true, ordering: .relaxed) { store.endTurn(id) }
    }

    deinit { end() }
}
