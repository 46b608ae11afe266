// SPDX-License-Identifier: Apache-2.0
//
// The sessions there are, as a value: who owns them, how long they live, who may do what. No thread, no clock, no model; times
// come from outside. Of each session it knows where the record of its last complete turn is; turns under way have their own state.

import DequeModule
import Engine
import RPC

struct SessionBook {
    struct Entry {
        let id: String
        let name: String
        let model: String
        let digest: String
        let charge: SessionCharge
        /// Nanoseconds.
        let ttl: UInt64
        /// CLOCK_REALTIME, nanoseconds: it is kept over restarts.
        let created: UInt64
        var used: UInt64
        /// Its record, which has this number, and all the session's tokens.
        var place: SessionMemory.Place
        var generation: UInt64
        var history: TokenHistory
        /// Of the versions of its model that turns were computed with and that are still being compared with their digests.
        var proofs: [ModelProof] = []
        /// An earlier process computed turns with a version of which nobody knows.
        var isUnproven = false
        /// The record that is on disk; 0 if none is.
        var stored: UInt64 = 0
        /// Turns that run or wait.
        var turns = 0
        /// What is still to come of its state, if Restore is given it in parts and some are missing.
        var partial: PartialState?

        var owner: Account { charge.account }

        /// Whether it is still to be found out if some turn was computed right.
        var isProvisional: Bool { isUnproven || proofs.contains { $0.verdict == .open } }

        /// What is still to be found out, once a turn was computed with a version that has this proof.
        mutating func prove(_ proof: ModelProof) {
            proofs.removeAll { $0.verdict != .open }
            switch proof.verdict {
            case .open: if !proofs.contains(where: { $0 === proof }) { proofs.append(proof) }
            // The file is what its digests tell, so it was before.
            case .sound: isUnproven = false
            case .unknown, .damaged: break
            }
        }

        /// Refuses a session of whose state some is missing.
        func checkWhole() throws(RPCError) {
            guard let partial else { return }
            throw RPCError(
                .failedPrecondition,
                "session '\(id)' is incomplete: \(partial.received) of the \(partial.byteCount) bytes of its state have come; restore the others, or drop it",
                reason: "SESSION_INCOMPLETE")
        }

        func info(now: UInt64) -> SessionInfo {
            var info = SessionInfo()
            info.session = id
            info.name = name
            info.model = model
            info.modelDigest = digest
            info.tokens = UInt64(history.count)
            info.tokensDigest = history.digest
            info.bytes = UInt64(charge.bytes)
            info.ttl = ttl
            info.idle = turns > 0 ? 0 : now &- min(used, now)
            info.age = now &- min(created, now)
            info.uid = owner.uid
            info.turns = UInt32(clamping: turns)
            info.onDisk = stored == generation
            info.incomplete = partial != nil
            info.receivedBytes = UInt64(partial?.received ?? 0)
            return info
        }
    }

    struct Stats: Sendable, Equatable {
        var turns: UInt64 = 0
        var expired: UInt64 = 0
    }

    /// A session that was found to be of no use.
    private struct Loss {
        let owner: Account
        let error: RPCError
    }

    private var entries: [String: Entry] = [:]
    /// The latest losses, so that who asks for one is told; by id, and in their order.
    private var losses: [String: Loss] = [:]
    private var lost: Deque<String> = []
    private static let mostLosses = 1024
    /// When each is over, if nobody uses it.
    private var ends = PriorityMap<String, UInt64>()
    private(set) var stats = Stats()

    var count: Int { entries.count }

    mutating func insert(_ entry: Entry) {
        entries[entry.id] = entry
        rest(entry.id)
    }

    /// A session that `peer` may use.
    func find(_ id: String, for peer: Peer) throws(RPCError) -> Entry {
        if let loss = losses[id], !Permissions.mayUse(peer, sessionOf: loss.owner) {
            throw .noSession(id)
        }
        let entry = try find(id)
        guard Permissions.mayUse(peer, sessionOf: entry.owner) else {
            throw RPCError(
                .permissionDenied, "session '\(id)' is another user's; you are user \(peer.uid)",
                reason: "NOT_YOURS")
        }
        return entry
    }

    func find(_ id: String) throws(RPCError) -> Entry {
        guard let entry = entries[id] else { throw losses[id]?.error ?? RPCError.noSession(id) }
        return entry
    }

    /// Those that `peer` may use, oldest first.
    func list(for peer: Peer) -> [Entry] {
        entries.values.filter { Permissions.mayUse(peer, sessionOf: $0.owner) }
            .sorted { ($0.created, $0.id) < ($1.created, $1.id) }
    }

    var all: [Entry] { Array(entries.values) }

    mutating func remove(_ id: String) -> Entry? {
        ends.remove(id)
        return entries.removeValue(forKey: id)
    }

    /// Takes out a session that is of no use: who asks for it is told `error`.
    mutating func lose(_ id: String, _ error: RPCError) -> Entry? {
        guard let entry = remove(id) else { return nil }
        losses[id] = Loss(owner: entry.owner, error: error)
        lost.append(id)
        if lost.count > Self.mostLosses, let oldest = lost.popFirst() { losses[oldest] = nil }
        return entry
    }

    /// The sessions that a version of a model has computed turns of which turns out to be damaged.
    func computed(by proof: ModelProof, digest: String) -> [Entry] {
        entries.values.filter { entry in
            entry.digest == digest
                && (entry.isUnproven || entry.proofs.contains { $0 === proof })
        }
    }

    mutating func stored(_ id: String, _ generation: UInt64) {
        entries[id]?.stored = generation
    }

    /// A turn comes in.
    mutating func beginTurn(
        _ id: String, for peer: Peer, refusesBusy: Bool
    ) throws(RPCError) -> Entry {
        let entry = try find(id, for: peer)
        try entry.checkWhole()
        guard entry.turns == 0 || !refusesBusy else {
            throw RPCError(
                .aborted, "\(entry.turns) turns of session '\(id)' run or wait",
                reason: "SESSION_BUSY"
            ).retrying(after: 1_000_000_000)
        }
        entries[id]?.turns += 1
        ends.remove(id)
        return entry
    }

    /// A turn has left this record.
    ///
    /// - Returns: where the one before it is.
    mutating func commit(
        _ id: String, _ place: SessionMemory.Place, _ generation: UInt64, _ history: TokenHistory,
        _ proof: ModelProof
    ) -> SessionMemory.Place? {
        guard let old = entries[id]?.place else { return nil }
        entries[id]?.prove(proof)
        entries[id]?.place = place
        entries[id]?.generation = generation
        entries[id]?.history = history
        stats.turns += 1
        return old
    }

    mutating func endTurn(_ id: String, now: UInt64) {
        guard entries[id] != nil else { return }
        entries[id]?.turns -= 1
        entries[id]?.used = now
        rest(id)
    }

    /// A part of its state has come; with the last one it is complete.
    ///
    /// - Returns: the session, if it still waits for parts of this one.
    mutating func receive(_ id: String, _ partial: PartialState, isComplete: Bool, now: UInt64)
        -> Entry?
    {
        guard entries[id]?.partial === partial else { return nil }
        entries[id]?.used = now
        if isComplete { entries[id]?.partial = nil }
        rest(id)
        return entries[id]
    }

    /// Takes out what has not been used for its time to live. What has turns stays.
    mutating func expire(now: UInt64) -> [Entry] {
        var gone: [Entry] = []
        while let (id, end) = ends.first, end <= now {
            if let entry = remove(id) { gone.append(entry) }
            stats.expired += 1
        }
        return gone
    }

    private mutating func rest(_ id: String) {
        guard let entry = entries[id], entry.turns == 0 else { return }
        let (end, isOver) = entry.used.addingReportingOverflow(entry.ttl)
        ends.set(id, isOver ? .max : end)
    }

}

extension RPCError {
    static func noSession(_ id: String) -> RPCError {
        RPCError(
            .notFound, "no session '\(id)': it was dropped, or its time to live was over",
            reason: "NO_SUCH_SESSION")
    }
}
