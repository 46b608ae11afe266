// SPDX-License-Identifier: Apache-2.0

/// A rate limit: each account may do `burst` things at once and `perSecond` in the long run. Pure arithmetic (the generic cell
/// rate algorithm); remembers only accounts that have done something less than `burst / perSecond` seconds ago.
package struct RateLimit: Sendable {
    /// Nanoseconds that one thing costs, and that an account may be ahead of the clock.
    private let cost: UInt64
    private let lead: UInt64
    /// When each account will have paid for all it did. CLOCK_MONOTONIC, nanoseconds.
    private var paid: [Account: UInt64] = [:]
    /// Accounts from which on those who have paid are forgotten.
    private var limit = RateLimit.fewest
    private static let fewest = 64

    package init(perSecond: Int, burst: Int) {
        cost = 1_000_000_000 / UInt64(perSecond)
        lead = UInt64(burst) * cost
    }

    /// Accounts that are remembered.
    var count: Int { paid.count }

    /// Lets an account do one thing.
    ///
    /// - Returns: `nil` if it may; otherwise the nanoseconds until it may.
    package mutating func take(_ account: Account, at now: UInt64) -> UInt64? {
        let next = max(paid[account] ?? 0, now) + cost
        guard next <= now + lead else { return next - now - lead }
        paid[account] = next
        if paid.count > limit {
            paid = paid.filter { $0.value > now }
            limit = max(Self.fewest, 2 * paid.count)
        }
        return nil
    }
}
