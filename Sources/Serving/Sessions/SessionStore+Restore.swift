// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import Synchronization

/// Restoring a state that comes in parts.
extension SessionStore {
    /// A new session whose state is to come: all that it will take is charged now, and becomes memory as it comes.
    ///
    /// - Parameters:
    ///   - header: of the state, which is one of the model.
    ///   - bytes: the first part.
    func restore(
        _ header: SavedStateHeader, _ bytes: [UInt8], name: String, model: String, ttl: UInt64,
        for peer: Peer
    ) throws(RPCError) -> SessionInfo {
        try Self.check(name: name)
        // Refused later, it would leave a session of which the caller knows nothing.
        guard bytes.count <= header.byteCount else {
            throw .invalid(
                "state",
                "\(SavedStateError.truncated(expected: header.byteCount, found: bytes.count))")
        }
        let now = tidy()
        let charge = try accounts.chargeSession(
            SessionMemory.bytes(header.byteCount), to: peer.account)
        let record = SessionRecord(
            id: Self.newID(), name: name, model: model, digest: header.modelDigest, uid: peer.uid,
            generation: 1, ttl: time(ttl), created: now, used: now, history: header.tokens)
        let front = record.front(stateBytes: header.byteCount)
        let length = front.count + header.byteCount + SessionRecord.endBytes
        try state.withLock { state throws(RPCError) in
            guard let place = state.memory.reserve(length) else { throw Self.noMemory }
            let partial = PartialState(place, byteCount: header.byteCount, front: front)
            guard front.withUnsafeBytes({ state.memory.write($0, at: 0, in: place) }) else {
                state.memory.remove(place)
                throw Self.noMemory
            }
            state.book.insert(
                SessionBook.Entry(
                    id: record.id, name: name, model: model, digest: header.modelDigest,
                    charge: charge, ttl: record.ttl, created: now, used: now, place: place,
                    generation: 1, history: header.tokens, partial: partial))
        }
        return try restore(record.id, bytes, at: 0, isLast: false, for: peer)
    }

    /// The next part of a session's state, which begins at `offset` of it. With the last one the session is as any other.
    ///
    /// - Parameter isLast: whether the caller has no others.
    /// - Throws: what is wrong; the session is dropped where its state can be none.
    func restore(
        _ id: String, _ bytes: [UInt8], at offset: UInt64, isLast: Bool, for peer: Peer
    ) throws(RPCError) -> SessionInfo {
        let entry = try find(id, for: peer)
        guard let partial = entry.partial else {
            throw RPCError(
                .failedPrecondition, "session '\(id)' has all of its state",
                reason: "SESSION_COMPLETE")
        }
        return try partial.take(bytes, at: offset, isLast: isLast, of: id) {
            bytes, offset throws(RPCError) in
            let isWritten = try self.state.withLock { state throws(RPCError) in
                // Its place is another's if it was dropped meanwhile.
                guard try state.book.find(id).partial === partial else { throw .noSession(id) }
                return state.memory.write(bytes, at: offset, in: partial.place)
            }
            guard isWritten else { throw self.abandon(id, Self.noMemory) }
        } then: { result throws(RPCError) in
            let isComplete: Bool
            do throws(SavedStateError) { isComplete = try result.get() } catch {
                var refusal = RPCError(error)
                refusal.message += "; session '\(id)', which it was for, is dropped"
                throw self.abandon(id, refusal)
            }
            let now = self.clock()
            return try self.state.withLock { state throws(RPCError) in
                let isKept = !isComplete || state.memory.publish(partial.place)
                guard isKept,
                    let entry = state.book.receive(id, partial, isComplete: isComplete, now: now)
                else { throw isKept ? .noSession(id) : Self.noMemory }
                if isComplete { self.keep(id, entry.generation) }
                return entry.info(now: now)
            }
        }
    }

    /// Takes out a session whose state cannot be had; who asks for it is told `error`.
    private func abandon(_ id: String, _ error: RPCError) -> RPCError {
        state.withLock { state in
            if let entry = state.book.lose(id, error) { state.memory.remove(entry.place) }
        }
        return error
    }
}
