// SPDX-License-Identifier: Apache-2.0

/// Which connections are served, told that there are too many, or closed without a word. Pure arithmetic.
///
/// Those that are refused have places of their own, so that nobody's can keep out others, and the administrator is always served.
package struct Admissions: Sendable {
    package enum Verdict: Sendable, Equatable {
        case served
        /// It is answered with this once, and closed.
        case refused(RPCError)
        /// Too many are being refused already.
        case closed
    }

    private struct Count {
        var all = 0
        var byUser: [UInt32: Int] = [:]

        mutating func change(_ user: UInt32, by delta: Int) {
            all += delta
            let own = byUser[user, default: 0] + delta
            byUser[user] = own > 0 ? own : nil
        }
    }

    private let administrator: UInt32?
    private let perUser: Int
    private let mostServed: Int
    private let mostRefused: Int
    private var served = Count()
    private var refused = Count()

    /// Descriptors that are left to the administrator.
    private static let reserve = 8

    /// - Parameter descriptors: that there are for connections.
    package init(connections: Int, perUser: Int, administrator: UInt32?, descriptors: Int) {
        self.administrator = administrator
        self.perUser = perUser
        let places = max(2, descriptors - Self.reserve)
        mostRefused = max(1, min(connections, places / 4))
        mostServed = max(1, min(connections, places - mostRefused))
    }

    /// Lets a connection in, or not.
    package mutating func enter(_ user: UInt32) -> Verdict {
        guard user != administrator, let problem = problem(user) else {
            served.change(user, by: 1)
            return .served
        }
        guard refused.all < mostRefused, refused.byUser[user, default: 0] < perUser else {
            return .closed
        }
        refused.change(user, by: 1)
        return .refused(
            RPCError(.resourceExhausted, problem, reason: "TOO_MANY_CONNECTIONS")
                .retrying(after: 1_000_000_000))
    }

    private func problem(_ user: UInt32) -> String? {
        if served.all >= mostServed {
            return "\(mostServed) connections are open, which is the limit"
        }
        guard served.byUser[user, default: 0] >= perUser else { return nil }
        return "\(perUser) connections of user \(user) are open, which is the limit for one user"
    }

    /// A connection has ended that `verdict` was passed on.
    package mutating func leave(_ user: UInt32, _ verdict: Verdict) {
        switch verdict {
        case .served: served.change(user, by: -1)
        case .refused: refused.change(user, by: -1)
        case .closed: break
        }
    }
}
