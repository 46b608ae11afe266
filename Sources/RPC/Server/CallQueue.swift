// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// What waits for a handler: accounts take turns, each one's calls stay in order, and at most `most` of one account's run at
/// once, so that some handlers are left for others. Pure logic; `Accounts` bounds the bytes.
struct CallQueue<Element> {
    private let most: Int
    private var waiting: [Account: CircularBuffer<Element>] = [:]
    private var running: [Account: Int] = [:]
    /// The accounts that have something here and may run more, whose turn is next first.
    private var turns = CircularBuffer<Account>()

    init(most: Int) { self.most = most }

    mutating func append(_ element: Element, of account: Account) {
        if waiting[account] == nil, mayRun(account) { turns.append(account) }
        waiting[account, default: .init()].append(element)
    }

    /// Takes out the next that may run, if there is one; `finish` is to be called for it.
    mutating func next() -> Element? {
        guard let account = turns.popFirst() else { return nil }
        let element = waiting[account]?.popFirst()
        if waiting[account]?.isEmpty == true { waiting[account] = nil }
        running[account, default: 0] += 1
        if waiting[account] != nil, mayRun(account) { turns.append(account) }
        return element
    }

    /// One of the account's calls has ended.
    mutating func finish(_ account: Account) {
        let wasFull = !mayRun(account)
        let left = running[account, default: 1] - 1
        running[account] = left > 0 ? left : nil
        if wasFull, waiting[account] != nil { turns.append(account) }
    }

    /// Nothing waits and nothing runs.
    var isIdle: Bool { waiting.isEmpty && running.isEmpty }

    private func mayRun(_ account: Account) -> Bool { running[account, default: 0] < most }
}
