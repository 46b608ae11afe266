// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import Synchronization

/// One turn of a session: the right to its state, in the order in which turns came in.
final class SessionTurn: Sendable {
    let id: String
    /// What a text begins with in a session that has read nothing.
    let opening: UInt32?
    private let proof: ModelProof
    private let store: SessionStore
    /// Of what it may add to the state, until it ends.
    private let reservation: Mutex<StateReservation?>
    private let isOver = Atomic<Bool>(false)

    init(
        id: String, opening: UInt32?, proof: ModelProof, store: SessionStore,
        reservation: StateReservation
    ) {
        self.id = id
        self.opening = opening
        self.proof = proof
        self.store = store
        self.reservation = Mutex(reservation)
    }

    /// Where the session is when this turn comes to run: what there is to decide by, and none of its numbers.
    func outline() throws(RPCError) -> SessionOutline { try store.outline(id) }

    /// The state that was outlined, to be read.
    ///
    /// - Parameter builder: takes its numbers.
    func reading(
        _ outline: SessionOutline, _ builder: StateBuilder
    ) throws(RPCError) -> SessionReading { try SessionReading(store, outline, builder) }

    /// - Returns: whether the session has this state now.
    func commit(_ state: SessionState) -> Bool { store.commit(id, state, proof) }

    /// Whether turns are to be on disk before their callers are told of their ends.
    var isKeptOnDisk: Bool { store.disk != nil }

    /// Calls `body` when what was committed has been written to the disk, or cannot be.
    ///
    /// - Parameter body: told whether the session's last complete turn is there.
    func whenKept(_ body: @escaping @Sendable (Bool) -> Void) {
        store.whenKept { [store, id] in body(store.isOnDisk(id)) }
    }

    func end() {
        guard !isOver.exchange(true, ordering: .relaxed) else { return }
        reservation.withLock { $0 = nil }
        store.endTurn(id)
    }

    deinit { end() }
}
