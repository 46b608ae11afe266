// SPDX-License-Identifier: Apache-2.0

/// Whom scarce resources are charged to: a user of this machine.
package struct Account: Hashable, Sendable {
    package let uid: UInt32

    package init(uid: UInt32) { self.uid = uid }
}

extension Peer {
    package var account: Account { Account(uid: uid) }
}

/// One scarce resource and who holds how much of it. Pure arithmetic.
///
/// An account may hold at most half of what the other accounts leave, and at most `perAccount`, so a few greedy accounts never
/// take everything: with a total of 256 and 64 for each, the first three hold 64, the next ones 32, 16, 8 (after
/// dbus-broker's `util/user.c`). An account that holds nothing gets one item if it fits into what is left.
package struct Quota: Sendable {
    package let total: Int
    package let perAccount: Int
    /// Never refused.
    package let administrator: Account?
    package private(set) var used = 0
    private var held: [Account: Int] = [:]

    package init(total: Int, perAccount: Int, administrator: Account? = nil) {
        self.total = total
        self.perAccount = perAccount
        self.administrator = administrator
    }

    package func holds(_ account: Account) -> Int { held[account, default: 0] }

    /// The most `account` may hold now.
    package func share(of account: Account) -> Int {
        max(0, min(perAccount, (total - used + holds(account)) / 2))
    }

    package func fits(_ amount: Int, for account: Account) -> Bool {
        let own = holds(account)
        if account == administrator { return true }
        return own + amount <= share(of: account) || (own == 0 && used + amount <= total)
    }

    /// Takes `amount` for `account` if it fits.
    package mutating func take(_ amount: Int, for account: Account) -> Bool {
        guard fits(amount, for: account) else { return false }
        add(amount, to: account)
        return true
    }

    /// Takes `amount` whether it fits or not: what has been produced already is counted, not refused.
    package mutating func add(_ amount: Int, to account: Account) {
        used += amount
        held[account, default: 0] += amount
    }

    package mutating func give(_ amount: Int, back account: Account) {
        used -= amount
        let left = holds(account) - amount
        held[account] = left > 0 ? left : nil
    }
}
