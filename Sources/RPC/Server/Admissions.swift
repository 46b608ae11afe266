// SPDX-License-Identifier: Apache-2.0

/// The connection limiter: which connections are served, told that there are too many, or closed without an answer. Pure
/// arithmetic.
///
/// Rejected connections are counted separately, so they cannot starve accepted ones, and the administrator is always served.
package struct Admissions: Sendable {
    package enum Verdict: Sendable, Equatable {
        case served
        /// It is answered with this once, and closed.
        case refused(RPCError)
        /// Too many are being refused already.
        case closed
    }

    private var served: Quota
    private var refused: Quota

    /// Descriptors that are left to the administrator.
    private static let reserve = 8

    /// - Parameter descriptors: that there are for connections.
    package init(connections: Int, perUser: Int, administrator: Account?, descriptors: Int) {
        let places = max(2, descriptors - Self.reserve)
        let mostRefused = max(1, min(connections, places / 4))
        refused = Quota(total: mostRefused, perAccount: perUser)
        served = Quota(
            total: max(1, min(connections, places - mostRefused)), perAccount: perUser,
            administrator: administrator)
    }

    /// Lets a connection in, or not.
    package mutating func enter(_ account: Account) -> Verdict {
        if served.take(1, for: account) { return .served }
        let problem =
            served.used >= served.total
            ? "\(served.total) connections are open, which is the limit"
            : "\(served.holds(account)) connections of user \(account.uid) are open, which is the limit for one user while \(served.used) are open in all"
        guard refused.take(1, for: account) else { return .closed }
        return .refused(
            RPCError(.resourceExhausted, problem, reason: "TOO_MANY_CONNECTIONS")
                .retrying(after: 1_000_000_000))
    }

    /// A connection has ended that `verdict` was passed on.
    package mutating func leave(_ account: Account, _ verdict: Verdict) {
        switch verdict {
        case .served: served.give(1, back: account)
        case .refused: refused.give(1, back: account)
        case .closed: break
        }
    }
}
