// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import Logging
import ModelStore
import RPC
import Synchronization
import SystemPackage

/// The sessions, for any thread: the book, the memory that its records are in, and the disk if they are to be there too.
package final class SessionStore: Sendable {
    struct State {
        var book = SessionBook()
        let memory: SessionMemory
    }
    let state: Mutex<State>
    let accounts: Accounts
    private let configuration: ServingConfiguration
    let disk: SessionDisk?
    let logger: Logger
    /// CLOCK_REALTIME in nanoseconds.
    let clock: @Sendable () -> UInt64
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
        do throws(StoreError) {
            disk = try configuration.sessionDirectory.map { path throws(StoreError) in
                SessionDisk(try SessionDirectory(FilePath(path)), logger)
            }
        } catch { throw .store(error) }
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
        if let disk { recover(from: disk, most: bytes) }
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

    // MARK: What callers do

    /// A new session in a state.
    ///
    /// - Parameter origin: the session whose state it is.
    func create(
        name: String, model: String, digest: String, state: SessionState, bytes: Int,
        ttl: UInt64, for peer: Peer, origin: SessionBook.Entry? = nil
    ) throws(RPCError) -> SessionInfo {
        try Self.check(name: name)
        let now = tidy()
        let charge = try accounts.chargeSession(bytes, to: peer.account)
        let record = SessionRecord(
            id: Self.newID(), name: name, model: model, digest: digest, uid: peer.uid,
            generation: 1, ttl: time(ttl), created: now,
            used: now, history: state.history, isUnproven: origin?.isProvisional ?? false)
        guard let place = write(record, SavedState(modelDigest: digest, state: state)) else {
            throw Self.noMemory
        }
        return try self.state.withLock { shared throws(RPCError) in
            do throws(RPCError) {
                // It may have been lost meanwhile.
                if let origin { _ = try shared.book.find(origin.id) }
                guard shared.memory.publish(place) else { throw Self.noMemory }
            } catch {
                shared.memory.remove(place)
                throw error
            }
            let entry = SessionBook.Entry(
                id: record.id, name: name, model: model, digest: digest, charge: charge,
                ttl: record.ttl, created: now, used: now, place: place, generation: 1,
                history: state.history, proofs: origin?.proofs ?? [],
                isUnproven: origin?.isUnproven ?? false)
            shared.book.insert(entry)
            keep(record.id, 1)
            return entry.info(now: now)
        }
    }

    static func check(name: String) throws(RPCError) {
        guard name.utf8.count <= 256 else {
            throw .invalid("name", "\(name.utf8.count) bytes; at most 256 are allowed")
        }
    }

    /// The time to live for one that is asked for; 0 leaves it to the settings.
    func time(_ ttl: UInt64) -> UInt64 { ttl == 0 ? configuration.sessionTime : ttl }

    static let noMemory = RPCError(
        .resourceExhausted, "there is no memory for another session", reason: "NO_MEMORY"
    ).retrying(after: 1_000_000_000)

    func fork(
        _ id: String, name: String, ttl: UInt64, for peer: Peer
    ) throws(RPCError) -> SessionInfo {
        _ = try find(id, for: peer)
        let (entry, state) = try read(id)
        return try create(
            name: name.isEmpty ? entry.name : name, model: entry.model, digest: entry.digest,
            state: state, bytes: entry.charge.bytes, ttl: ttl == 0 ? entry.ttl : ttl,
            for: peer, origin: entry)
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
            guard let entry = state.book.remove(id) else { return }
            state.memory.remove(entry.place)
            disk?.remove(id)
        }
    }

    /// Takes out a session whose record is of no use, unless it has another one now.
    func lose(_ entry: SessionBook.Entry, _ why: String) -> RPCError {
        state.withLock { state in
            do throws(RPCError) {
                guard try state.book.find(entry.id).generation == entry.generation else {
                    return refusal(.gone, entry)
                }
            } catch { return error }
            // The file, where there is one, is read again at the next start.
            return lose(entry.id, why, in: &state)
        }
    }

    /// Takes out a session that is of no use, and says so.
    private func lose(_ id: String, _ why: String, in state: inout State) -> RPCError {
        let error = RPCError(
            .dataLoss, "session '\(id)' is lost, for \(why)", reason: "SESSION_DAMAGED")
        logger.error("session \(id) is lost, for \(why)")
        if let entry = state.book.lose(id, error) { state.memory.remove(entry.place) }
        return error
    }

    /// A version of a model turns out to be damaged: sessions that it has computed turns of may have wrong bits, and are lost.
    func condemn(_ proof: ModelProof, digest: String) {
        state.withLock { state in
            for entry in state.book.computed(by: proof, digest: digest) {
                _ = lose(
                    entry.id,
                    "turns of it were computed with a file of model '\(entry.model)' that was damaged",
                    in: &state)
                disk?.remove(entry.id)
            }
        }
    }

    // MARK: The disk

    /// Has a record written to the disk, if sessions are to be there. With the lock held, so that writing and removing are in
    /// the order of what they follow from.
    func keep(_ id: String, _ generation: UInt64) {
        disk?.keep(id) { [weak self] in
            self?.part(id, generation, $0..<$0 + Self.partBytes)
        } done: { [weak self] in
            self?.state.withLock { $0.book.stored(id, generation) }
        }
    }

    /// Calls `body` when all that was asked of the disk before is done; at once where nothing is.
    func whenKept(_ body: @escaping @Sendable () -> Void) {
        if let disk { disk.after(body) } else { body() }
    }

    /// Returns when all that was asked of the disk is done.
    func finish() { disk?.finish() }

    /// The last use of the disk.
    func close() { disk?.close() }

    func isOnDisk(_ id: String) -> Bool {
        state.withLock { state in
            guard let entry = try? state.book.find(id) else { return false }
            return entry.stored == entry.generation
        }
    }

    // MARK: Turns

    /// A turn of a session, which is busy until it ends.
    ///
    /// - Parameters:
    ///   - opening: the token that the first turn of all begins with.
    ///   - proof: of the version of the model that computes it.
    ///   - growth: bytes that it may add to the state.
    func beginTurn(
        _ id: String, opening: UInt32?, refusesBusy: Bool, proof: ModelProof = ModelProof(.sound),
        growth: Int = 0, for peer: Peer
    ) throws(RPCError) -> SessionTurn {
        tidy()
        let reservation = try state.withLock { state throws(RPCError) in
            let reservation = try state.book.find(id, for: peer).charge.reserve(growth)
            _ = try state.book.beginTurn(id, for: peer, refusesBusy: refusesBusy)
            return reservation
        }
        return SessionTurn(
            id: id, opening: opening, proof: proof, store: self, reservation: reservation)
    }

    func commit(_ id: String, _ new: SessionState, _ proof: ModelProof) -> Bool {
        guard
            var entry = try? state.withLock({ state throws(RPCError) in try state.book.find(id) })
        else { return false }
        let generation = entry.generation + 1
        entry.prove(proof)
        let record = SessionRecord(
            id: id, name: entry.name, model: entry.model, digest: entry.digest,
            uid: entry.owner.uid, generation: generation, ttl: entry.ttl, created: entry.created,
            used: clock(), history: new.history, isUnproven: entry.isProvisional)
        let place = write(record, SavedState(modelDigest: entry.digest, state: new))
        let isKept = state.withLock { state in
            guard let place else { return false }
            guard proof.verdict != .damaged, state.memory.publish(place),
                let old = state.book.commit(id, place, generation, new.history, proof)
            else {
                // Or dropped meanwhile.
                state.memory.remove(place)
                return false
            }
            state.memory.remove(old)
            entry.charge.grow(to: place.byteCount)
            keep(id, generation)
            return true
        }
        if !isKept {
            logger.error(
                "a turn of session \(id) is lost: dropped, its model damaged, or no memory for it")
        }
        return isKept
    }

    func endTurn(_ id: String) {
        let now = clock()
        state.withLock { $0.book.endTurn(id, now: now) }
    }

    /// Drops what is over.
    @discardableResult
    func tidy() -> UInt64 {
        let now = clock()
        state.withLock { state in
            for entry in state.book.expire(now: now) {
                state.memory.remove(entry.place)
                disk?.remove(entry.id)
            }
        }
        return now
    }

    static func newID() -> String {
        "s" + String(UInt64.random(in: .min ... .max) >> 4, radix: 36)
    }
}
