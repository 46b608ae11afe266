// SPDX-License-Identifier: Apache-2.0

import MMFree
import Synchronization

/// The connections to the daemon: one for each user on whose behalf there were requests lately, so that a user who does not read
/// holds up nobody else.
final class Clients: Sendable {
    /// The daemon lets one user, the gateway, have 64 connections.
    static let most = 48

    private struct Entry {
        let client: Client
        var users = 0
        /// When it was last taken, in takings.
        var turn: UInt64
    }

    private struct State {
        var entries: [UInt32?: Entry] = [:]
        var turns: UInt64 = 0
    }
    private let state = Mutex(State())
    private let make: @Sendable (UInt32?) -> Client

    init(_ make: @escaping @Sendable (UInt32?) -> Client) { self.make = make }

    var count: Int { state.withLock { $0.entries.count } }

    /// A client for as long as `body` runs.
    ///
    /// - Parameter user: for whom; `nil` for the gateway itself.
    func with<R>(
        _ user: UInt32?, isolation: isolated (any Actor)? = #isolation,
        _ body: (Client) async throws -> R
    ) async throws -> R {
        let taken = try take(user)
        defer { giveBack(user) }
        return try await body(taken)
    }

    private func take(_ user: UInt32?) throws(APIError) -> Client {
        let result: Client? = state.withLock { state in
            state.turns += 1
            if var entry = state.entries[user] {
                entry.users += 1
                entry.turn = state.turns
                state.entries[user] = entry
                return entry.client
            }
            if state.entries.count >= Self.most {
                let idle = state.entries.filter { $0.value.users == 0 }
                guard let oldest = idle.min(by: { $0.value.turn < $1.value.turn }) else {
                    return nil
                }
                // Its connection closes with it.
                state.entries[oldest.key] = nil
            }
            let client = make(user)
            state.entries[user] = Entry(client: client, users: 1, turn: state.turns)
            return client
        }
        guard let result else {
            throw APIError(
                503, "too_many_users", "\(Self.most) users have requests here, the most at once",
                retryAfter: .seconds(1))
        }
        return result
    }

    private func giveBack(_ user: UInt32?) {
        state.withLock { $0.entries[user]?.users -= 1 }
    }

    func close() async {
        let all = state.withLock { state in
            defer { state.entries = [:] }
            return state.entries.values.map(\.client)
        }
        for client in all { await client.close() }
    }
}
