// SPDX-License-Identifier: Apache-2.0

import RPC
import TestSupport
import Testing

@testable import Serving

@Suite("Which requests are let in")
struct RequestLimitsTests {
    private static let second: UInt64 = 1_000_000_000
    private let a = Account(uid: 1)
    private let b = Account(uid: 2)
    private let c = Account(uid: 3)

    private func limits(
        slots: Int = 1, _ change: (inout ServingConfiguration) -> Void = { _ in }
    ) -> RequestLimits {
        var configuration = ServingConfiguration()
        configuration.slots = slots
        change(&configuration)
        return RequestLimits(configuration)
    }

    /// How many of `count` requests get in, and why the next does not.
    private func fill(
        _ limits: inout RequestLimits, _ account: Account, _ count: Int = 1000, tokens: Int = 1,
        now: UInt64 = 0
    ) -> (Int, RPCError?) {
        for number in 0..<count {
            do throws(RPCError) {
                _ = try limits.admit(account, promptTokens: tokens, now: now)
            } catch { return (number, error) }
        }
        return (count, nil)
    }

    @Test(
        "a user's waiting requests are limited, and users who fill the queue keep out nobody who has none waiting"
    )
    func queue() {
        var limits = limits {
            $0.queue = 8
            $0.queuePerUser = 5
        }
        limits.occupied = 1
        let (own, refusal) = fill(&limits, a)
        #expect(own == 5 && refusal?.reason == "USER_QUOTA" && refusal?.quota?.field == "uid:1")
        let (others, full) = fill(&limits, b)
        #expect(others == 3 && full?.reason == "QUEUE_FULL")
        #expect(fill(&limits, c, 1).0 == 1)
        #expect(fill(&limits, c, 1).1?.reason == "QUEUE_FULL")
        // At most twice as many, however many users come.
        let more = (10..<100).map { fill(&limits, Account(uid: $0), 1).0 }
        #expect(more.reduce(0, +) == 7)
        #expect(limits.queued == 16)
    }

    @Test("open requests of a user are limited, whether they wait or not, and ends make room")
    func open() {
        var limits = limits(slots: 100) { $0.requestsPerUser = 10 }
        #expect(fill(&limits, a).0 == 10)
        for _ in 0..<10 { limits.leaveQueue(a) }
        let refusal = fill(&limits, a).1
        #expect(refusal?.code == .resourceExhausted && refusal?.reason == "USER_QUOTA")
        #expect((refusal?.retryAfter ?? 0) > 0)
        limits.finish(a, promptTokens: 1, took: 1)
        #expect(fill(&limits, a).0 == 1)
        #expect(fill(&limits, b).0 == 10)
    }

    @Test(
        "prompt tokens of open requests are charged from admission to the end, to each user its share"
    )
    func promptTokens() {
        var limits = limits(slots: 100) {
            $0.openPromptTokens = 1000
            $0.openPromptTokensPerUser = 400
        }
        #expect(fill(&limits, a, tokens: 100).0 == 4)
        #expect(fill(&limits, b, tokens: 100).0 == 3)
        // A user that has none gets one in that fits into what is left.
        #expect(fill(&limits, c, 1, tokens: 301).1?.reason == "USER_QUOTA")
        #expect(fill(&limits, c, 1, tokens: 300).0 == 1)
        limits.leaveQueue(a)
        #expect(fill(&limits, a, 1, tokens: 100).0 == 0)
        limits.finish(c, promptTokens: 300, took: 1)
        limits.finish(a, promptTokens: 100, took: 1)
        #expect(fill(&limits, a, 1, tokens: 51).0 == 0)
        #expect(fill(&limits, a, 1, tokens: 50).0 == 1)
    }

    @Test(
        "tokens a minute: a minute's worth at once, answers count, and the advice is when the request fits"
    )
    func rate() throws {
        var limits = limits(slots: 100) { $0.tokensPerMinute = 600 }
        #expect(fill(&limits, a, 1, tokens: 500).0 == 1)
        let refusal = fill(&limits, a, 1, tokens: 200).1
        #expect(refusal?.reason == "TOKEN_RATE" && refusal?.code == .resourceExhausted)
        // 100 are missing, ten come a second.
        #expect(refusal?.retryAfter == 10 * Self.second)
        #expect(fill(&limits, b, 1, tokens: 600).0 == 1)
        #expect(fill(&limits, a, 1, tokens: 200, now: 10 * Self.second - 1).0 == 0)
        #expect(fill(&limits, a, 1, tokens: 200, now: 10 * Self.second).0 == 1)
        // While the answer goes on, too.
        limits.spend(a, tokens: 1200, now: 10 * Self.second)
        #expect(fill(&limits, a, 1, now: 10 * Self.second).1?.reason == "TOKEN_RATE")
        limits.finish(a, promptTokens: 200, took: 1)
        #expect(
            fill(&limits, a, 1, now: 10 * Self.second).1?.retryAfter == 120 * Self.second + Self
                .second / 10)
        // More than a minute's worth waits for a full bucket.
        let large = fill(&limits, a, 1, tokens: 100_000, now: 130 * Self.second)
        #expect(large.1?.retryAfter == 60 * Self.second)
        #expect(fill(&limits, a, 1, tokens: 100_000, now: 190 * Self.second).0 == 1)
    }

    @Test("full buckets are forgotten")
    func forgotten() {
        var bucket = TokenBucket(perMinute: 60)
        for uid in 0..<100_000 {
            bucket.take(1, of: Account(uid: UInt32(uid)), now: UInt64(uid) * Self.second)
        }
        #expect(bucket.count <= 66)
    }

    @Test(
        "the place in the queue is the order in which slots are given, by account and then by arrival"
    )
    func position() throws {
        var limits = limits()
        func place(_ account: Account) throws -> Int {
            try limits.admit(account, promptTokens: 1, now: 0)
        }
        // A has the slot.
        #expect(try place(a) == 0)
        limits.leaveQueue(a)
        limits.occupied = 1
        #expect(try place(a) == 0)
        #expect(try place(a) == 1)
        // B has no slot: it is the next, and its second request comes after A's first.
        #expect(try place(b) == 0)
        #expect(try place(b) == 2)
        #expect(try place(c) == 1)
    }

    @Test("the scheduler gives slots in the order of those places", arguments: 0..<6)
    func truePosition(_ seed: UInt64) throws {
        var random = SeededGenerator(seed)
        var limits = limits()
        var turns = Turns(slots: 1, slowReaderTimeout: .max)
        turns.generate("X", count: 3)
        _ = try limits.admit(
            Account(uid: UInt32(Character("X").asciiValue!)), promptTokens: 1, now: 0)
        turns.turn()
        limits.leaveQueue(Account(uid: UInt32(Character("X").asciiValue!)))
        limits.occupied = 1
        var places: [(id: String, place: Int)] = []
        for _ in 0..<8 {
            let user = "ABC".randomElement(using: &random)!
            let place = try limits.admit(
                Account(uid: UInt32(user.asciiValue!)), promptTokens: 1, now: 0)
            // Who comes later may be put before others, never behind its own.
            for index in places.indices where places[index].place >= place {
                places[index].place += 1
            }
            let consumer = turns.generate(user, count: 2)
            places.append((consumer.id, place))
        }
        var order: [String] = []
        for _ in 0..<60 { for request in turns.turn().begun { order.append(request.id) } }
        #expect(order == places.sorted { $0.place < $1.place }.map(\.id))
    }

    @Test("the advice to a full queue is when a place is free, at the pace requests have had")
    func advice() {
        var limits = limits(slots: 4) { $0.queuePerUser = 3 }
        for _ in 0..<200 {
            _ = fill(&limits, c, 1)
            limits.leaveQueue(c)
            limits.finish(c, promptTokens: 1, took: 8 * Self.second)
        }
        limits.occupied = 4
        #expect(fill(&limits, b, 3).0 == 3)
        let refusal = fill(&limits, b, 1).1
        // Requests of 8 s in four slots: one ends each 2 s.
        let advice = Double(refusal?.retryAfter ?? 0) / 1e9
        #expect((1.9...2.1).contains(advice))
    }
}
