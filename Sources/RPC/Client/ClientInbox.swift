// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// What comes for the calls of one connection, between its loop, which fills it, and their consumers, who take from it on threads of
/// their own: a message that waits costs its consumer no turn of the loop.
final class ClientInbox: Sendable {
    typealias Consumer = CheckedContinuation<ClientStreams.Taken, Never>

    private struct State {
        var streams = ClientStreams()
        var consumers: [ClientStreams.ID: Consumer] = [:]
        /// What the loop was last told.
        var isRead = true
    }

    private let state = Mutex(State())

    /// Changes the calls' state, then hands out what came of it for those named.
    ///
    /// - Parameter change: returns a result, and the calls that may have something new.
    func update<Result: Sendable>(
        _ change: (inout ClientStreams) -> (Result, [ClientStreams.ID])
    ) -> Result {
        var ready: [(Consumer, ClientStreams.Taken)] = []
        let result = state.withLock { state in
            let (result, ids) = change(&state.streams)
            for id in ids {
                guard let consumer = state.consumers[id], let taken = state.streams.take(id) else {
                    continue
                }
                state.consumers[id] = nil
                ready.append((consumer, taken))
            }
            return result
        }
        for (consumer, taken) in ready { consumer.resume(returning: taken) }
        return result
    }

    /// Gives the consumer what waits for it, now or when it comes. One consumer for each call.
    ///
    /// - Returns: whether the connection is to look again at whether it is read.
    func next(_ id: ClientStreams.ID, _ consumer: Consumer) -> Bool {
        let (taken, changes) = state.withLock { state in
            let taken = state.streams.take(id)
            if taken == nil { state.consumers[id] = consumer }
            return (taken, state.streams.readsOn != state.isRead)
        }
        if let taken { consumer.resume(returning: taken) }
        return changes
    }

    /// - Returns: whether the socket is to be read from now on, if that has changed.
    func readsOn() -> Bool? {
        state.withLock { state in
            guard state.streams.readsOn != state.isRead else { return nil }
            state.isRead.toggle()
            return state.isRead
        }
    }

    /// Whether the daemon owes an answer.
    var isOwed: Bool { state.withLock { $0.streams.isOwed } }

    var kept: (calls: Int, bytes: Int) {
        state.withLock { ($0.streams.kept.calls + $0.consumers.count, $0.streams.kept.bytes) }
    }
}
