// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import RPC
import Synchronization

/// The sessions, for any thread.
package final class SessionStore: Sendable {
    private let book = Mutex(SessionBook())
    private let accounts: Accounts
    private let configuration: ServingConfiguration
    /// CLOCK_REALTIME in nanoseconds.
    private let clock: @Sendable () -> UInt64

    init(
        _ configuration: ServingConfiguration, accounts: Accounts,
        clock: @escaping @Sendable () -> UInt64
    ) {
        self.configuration = configuration
        self.accounts = accounts
        self.clock = clock
    }

    /// CLOCK_REALTIME, nanoseconds.
    package static let now: @Sendable () -> UInt64 = {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    struct Stats: Sendable, Equatable {
        var sessions = 0
        var bytes = 0
        var turns: UInt64 = 0
        var expired: UInt64 = 0
    }

    var stats: Stats {
        let (count, stats) = book.withLock { ($0.count, $0.stats) }
        return Stats(
            sessions: count, bytes: accounts.stateBytes, turns: stats.turns, expired: stats.expired)
    }

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
        let entry = SessionBook.Entry(
            id: Self.newID(), name: name, model: model, digest: digest, charge: charge,
            ttl: ttl == 0 ? configuration.sessionTime : ttl, created: now, used: now, state: state)
        book.withLock { $0.insert(entry) }
        return entry.info(now: now)
    }

    func fork(
        _ id: String, name: String, ttl: UInt64, for peer: Peer
    ) throws(RPCError) -> SessionInfo {
        let entry = try find(id, for: peer)
        return try create(
            name: name.isEmpty ? entry.name : name, model: entry.model, digest: entry.digest,
            state: entry.state, bytes: entry.charge.bytes, ttl: ttl == 0 ? entry.ttl : ttl,
            for: peer)
    }

    func find(_ id: String, for peer: Peer) throws(RPCError) -> SessionBook.Entry {
        tidy()
        return try book.withLock { book throws(RPCError) in try book.find(id, for: peer) }
    }

    func info(_ id: String, for peer: Peer) throws(RPCError) -> SessionInfo {
        try find(id, for: peer).info(now: clock())
    }

    func list(for peer: Peer) -> [SessionInfo] {
        let now = tidy()
        return book.withLock { $0.list(for: peer) }.map { $0.info(now: now) }
    }

    func drop(_ id: String, for peer: Peer) throws(RPCError) {
        _ = try find(id, for: peer)
        _ = book.withLock { $0.remove(id) }
    }

    /// A turn of a session, which is busy until it ends.
    ///
    /// - Parameter opening: the token that the first turn of all begins with.
    func beginTurn(
        _ id: String, opening: UInt32?, refusesBusy: Bool, for peer: Peer
    ) throws(RPCError) -> SessionTurn {
        tidy()
        _ = try book.withLock { book throws(RPCError) in
            try book.beginTurn(id, for: peer, refusesBusy: refusesBusy)
        }
        return SessionTurn(id: id, opening: opening, store: self)
    }

    fileprivate func state(of id: String) throws(RPCError) -> SessionState {
        try book.withLock { book throws(RPCError) in try book.state(of: id) }
    }

    fileprivate func commit(_ id: String, _ state: SessionState) -> Bool {
        book.withLock { $0.commit(id, state) }
    }

    fileprivate func endTurn(_ id: String) {
        let now = clock()
        book.withLock { $0.endTurn(id, now: now) }
    }

    /// Drops what is over.
    @discardableResult
    private func tidy() -> UInt64 {
        let now = clock()
        _ = book.withLock { $0.expire(now: now) }
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
    func state() throws(RPCError) -> SessionState { try store.state(of: id) }

    /// - Returns: whether the session has this state now.
    func commit(_ state: SessionState) -> Bool { store.commit(id, state) }

    func end() {
        if !isOver.exchange(true, ordering: .relaxed) { store.endTurn(id) }
    }

    deinit { end() }
}
