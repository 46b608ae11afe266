// SPDX-License-Identifier: Apache-2.0

import RPC

/// A rate limit in tokens a minute: each account has a bucket that holds a minute's worth and fills evenly. What has been produced
/// already is taken whether it is there or not, and is paid off by what flows in. Pure arithmetic; remembers only accounts
/// whose buckets are not full.
struct TokenBucket {
    /// 0: there is no limit.
    let perMinute: Int
    private var buckets: [Account: (tokens: Double, at: UInt64)] = [:]
    /// Accounts from which on those with full buckets are forgotten.
    private var limit = TokenBucket.fewest
    private static let fewest = 64
    private static let minute = 60e9

    init(perMinute: Int) { self.perMinute = perMinute }

    var count: Int { buckets.count }

    /// How long until `count` tokens are there, or a full bucket for more than that: nanoseconds, 0 if they are.
    func wait(for count: Int, of account: Account, now: UInt64) -> UInt64 {
        guard perMinute > 0 else { return 0 }
        let missing = Double(min(count, perMinute)) - level(account, now)
        return missing <= 0 ? 0 : UInt64((missing / Double(perMinute) * Self.minute).rounded(.up))
    }

    mutating func take(_ count: Int, of account: Account, now: UInt64) {
        guard perMinute > 0, count > 0 else { return }
        buckets[account] = (level(account, now) - Double(count), now)
        guard buckets.count > limit else { return }
        buckets = buckets.filter { level($0.key, now) < Double(perMinute) }
        limit = max(Self.fewest, 2 * buckets.count)
    }

    private func level(_ account: Account, _ now: UInt64) -> Double {
        guard let (tokens, at) = buckets[account] else { return Double(perMinute) }
        let flow = Double(now > at ? now - at : 0) / Self.minute * Double(perMinute)
        return min(Double(perMinute), tokens + flow)
    }
}
