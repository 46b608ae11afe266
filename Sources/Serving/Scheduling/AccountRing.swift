// SPDX-License-Identifier: Apache-2.0

import DequeModule
import RPC

/// Deficit round robin over accounts (Shreedhar and Varghese, 1995): each in its turn may spend a quantum more than it has left
/// from before; who wants nothing more loses what is left. A round that is broken off goes on where it was.
struct AccountRing {
    enum Outcome {
        /// It wants more than it may spend now.
        case more
        /// It wants more, of which there is nothing left now: it comes first next time.
        case later
        /// It wants nothing more.
        case satisfied
        /// There is nothing left to give, to anybody.
        case exhausted
    }

    /// Whose turn is next comes first.
    private var order = Deque<Account>()
    private var credit: [Account: Double] = [:]
    /// The first has had the quantum of its turn.
    private var isUnderWay = false

    /// Shares out what there is.
    ///
    /// - Parameters:
    ///   - wanting: the accounts that want something, each once; those that were here before keep their places.
    ///   - serve: gives an account what it wants and may spend, and says what it has spent.
    mutating func share(
        among wanting: [Account], quantum: Double,
        serve: (Account, _ credit: Double) -> (spent: Double, Outcome)
    ) {
        update(wanting)
        var later: [Account] = []
        defer {
            if !later.isEmpty { isUnderWay = false }
            order = Deque(later) + order
        }
        while let account = order.first {
            if !isUnderWay { credit[account, default: 0] += quantum }
            isUnderWay = true
            let (spent, outcome) = serve(account, credit[account, default: 0])
            credit[account, default: 0] -= spent
            if case .exhausted = outcome { return }
            isUnderWay = false
            order.removeFirst()
            if case .more = outcome {
                order.append(account)
            } else {
                credit[account] = nil
                if case .later = outcome { later.append(account) }
            }
        }
    }

    private mutating func update(_ wanting: [Account]) {
        if let first = order.first, !wanting.contains(first) { isUnderWay = false }
        let known = Set(order)
        let present = Set(wanting)
        order.removeAll { !present.contains($0) }
        for account in known.subtracting(present) { credit[account] = nil }
        for account in wanting where !known.contains(account) { order.append(account) }
    }
}
