// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import RPC

@Suite("Rate limits of accounts")
struct RateLimitTests {
    private let second: UInt64 = 1_000_000_000

    @Test(
        "an account may do its burst at once, then one thing each interval, and is told how long to wait"
    )
    func burst() {
        var limit = RateLimit(perSecond: 10, burst: 3)
        let user = Account(uid: 7)
        let now: UInt64 = 5_000_000_000
        #expect((0..<3).allSatisfy { _ in limit.take(user, at: now) == nil })
        #expect(limit.take(user, at: now) == second / 10)
        #expect(limit.take(user, at: now + second / 20) == second / 20)
        #expect(limit.take(user, at: now + second / 10) == nil)
        #expect(limit.take(user, at: now + second / 10) == second / 10)
    }

    @Test("after a rest it has its burst again, and no more")
    func rest() {
        var limit = RateLimit(perSecond: 10, burst: 3)
        let user = Account(uid: 7)
        #expect((0..<10).count { _ in limit.take(user, at: second) == nil } == 3)
        #expect((0..<10).count { _ in limit.take(user, at: 1000 * second) == nil } == 3)
    }

    @Test("accounts do not count for each other")
    func others() {
        var limit = RateLimit(perSecond: 10, burst: 1)
        #expect(limit.take(Account(uid: 1), at: second) == nil)
        #expect(limit.take(Account(uid: 1), at: second) != nil)
        #expect(limit.take(Account(uid: 2), at: second) == nil)
    }

    @Test("accounts that have rested are forgotten")
    func memory() {
        var limit = RateLimit(perSecond: 10, burst: 1)
        for uid in 0..<10_000 as Range<UInt32> {
            #expect(limit.take(Account(uid: uid), at: UInt64(uid) * second) == nil)
        }
        #expect(limit.count <= 65)
    }
}
