// SPDX-License-Identifier: Apache-2.0

import RPC

/// Which requests are let in, and what each account holds of them. A value; times come from outside.
struct RequestLimits {
    private struct Holding {
        var open = 0
        var queued = 0
        /// Its place in the order in which accounts with as few slots get the next one: last, once it has got one.
        var joined = 0
        /// In slots, or preempted.
        var active: Int { open - queued }
    }

    private let configuration: ServingConfiguration
    private var accounts: [Account: Holding] = [:]
    private var promptTokens: Quota
    private var bucket: TokenBucket
    private var open = 0
    private var joins = 0
    private(set) var queued = 0
    /// Slots that are taken; a request for several embeddings takes several.
    var occupied = 0
    /// A running mean of how long requests take. Nanoseconds.
    private var duration: Double = 1e9

    init(_ configuration: ServingConfiguration) {
        self.configuration = configuration
        promptTokens = Quota(
            total: configuration.openPromptTokens,
            perAccount: configuration.openPromptTokensPerUser)
        bucket = TokenBucket(perMinute: configuration.tokensPerMinute)
    }

    /// Lets a request into the queue, or says why not. Every request goes through the queue; those for whom there is a slot do
    /// not count. One of an account that has none waiting finds a place in a full queue, while there are fewer than twice as
    /// many as it holds: so no account can fill it for others.
    ///
    /// - Returns: how many requests get a slot before it.
    mutating func admit(_ account: Account, promptTokens count: Int, now: UInt64) throws(RPCError)
        -> Int
    {
        let own = accounts[account] ?? Holding()
        let free = max(0, configuration.slots - max(occupied, open - queued))
        let (waiting, ownWaiting) = (queued - free, own.queued - free)
        if waiting >= configuration.queue, ownWaiting > 0 || waiting >= 2 * configuration.queue {
            throw RPCError(
                .resourceExhausted,
                "\(waiting) requests are waiting; the limit is \(configuration.queue)",
                reason: "QUEUE_FULL"
            ).retrying(after: wait(behind: 0))
        }
        if ownWaiting >= configuration.queuePerUser {
            throw refusal(
                account,
                "\(ownWaiting) requests of user \(account.uid) are waiting; the limit is \(configuration.queuePerUser) for each user",
                wait(behind: position(account, own: 0)))
        }
        if own.open >= configuration.requestsPerUser {
            throw refusal(
                account,
                "\(own.open) requests of user \(account.uid) are open; the limit is \(configuration.requestsPerUser) for each user",
                UInt64(max(1e8, duration / Double(max(1, own.active)))))
        }
        guard promptTokens.fits(count, for: account) else {
            throw refusal(
                account,
                "\(promptTokens.holds(account)) prompt tokens of user \(account.uid) are in open requests, \(promptTokens.used) of all users; \(count) more exceed the user's share of \(promptTokens.share(of: account))",
                UInt64(max(1e8, duration / Double(max(1, own.active)))))
        }
        let pause = bucket.wait(for: count, of: account, now: now)
        guard pause == 0 else {
            throw refusal(
                account,
                "user \(account.uid) has used up \(bucket.perMinute) tokens a minute; there is room for \(min(count, bucket.perMinute)) in \((pause + 999_999_999) / 1_000_000_000) s",
                pause, reason: "TOKEN_RATE")
        }
        promptTokens.add(count, to: account)
        bucket.take(count, of: account, now: now)
        let place = position(account, own: own.queued)
        accounts[account, default: Holding()].open += 1
        if own.queued == 0, own.active == 0 { join(account) }
        accounts[account]?.queued += 1
        open += 1
        queued += 1
        return max(0, place - free)
    }

    /// A request has left the queue, for a slot or for good.
    mutating func leaveQueue(_ account: Account) {
        queued -= 1
        accounts[account]?.queued -= 1
        join(account)
    }

    private mutating func join(_ account: Account) {
        joins += 1
        accounts[account]?.joined = joins
    }

    /// Tokens of an answer have been computed.
    mutating func spend(_ account: Account, tokens: Int, now: UInt64) {
        bucket.take(tokens, of: account, now: now)
    }

    /// A request that was let in is over.
    ///
    /// - Parameter took: nanoseconds.
    mutating func finish(_ account: Account, promptTokens count: Int, took: UInt64) {
        promptTokens.give(count, back: account)
        open -= 1
        accounts[account]?.open -= 1
        if accounts[account]?.open == 0 { accounts[account] = nil }
        duration += (Double(took) - duration) / 16
    }

    /// How many waiting requests get a slot before one of `account` that has `own` of its own before it: an account's next one
    /// comes when it has the fewest slots, and by turns with those that have as few.
    private func position(_ account: Account, own: Int) -> Int {
        let holding = accounts[account] ?? Holding()
        let round = holding.active + own
        let joined = holding.joined == 0 ? .max : holding.joined
        return accounts.reduce(own) { sum, other in
            guard other.key != account else { return sum }
            let before = round - other.value.active + (other.value.joined < joined ? 1 : 0)
            return sum + min(other.value.queued, max(0, before))
        }
    }

    /// Nanoseconds until so many requests, and one more, have got slots.
    private func wait(behind count: Int) -> UInt64 {
        UInt64(max(1e8, duration * Double(count + 1) / Double(max(1, configuration.slots))))
    }

    private func refusal(
        _ account: Account, _ message: String, _ wait: UInt64, reason: String = "USER_QUOTA"
    ) -> RPCError {
        var error = RPCError(.resourceExhausted, message, reason: reason).retrying(after: wait)
        error.quota = .init(field: "uid:\(account.uid)", description: message)
        return error
    }
}
