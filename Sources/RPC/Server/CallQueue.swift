// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// What waits for a handler: users take turns, and each one's calls stay in order. Pure logic; `WaitingRoom` bounds it.
struct CallQueue<Element> {
    private var byUser: [UInt32: CircularBuffer<Element>] = [:]
    /// The users that have something here, whose turn is next first.
    private var turns = CircularBuffer<UInt32>()

    mutating func append(_ element: Element, of user: UInt32) {
        if byUser[user] == nil { turns.append(user) }
        byUser[user, default: .init()].append(element)
    }

    /// Takes out the next, if there is one.
    mutating func next() -> Element? {
        guard let user = turns.popFirst() else { return nil }
        let element = byUser[user]?.popFirst()
        if byUser[user]?.isEmpty == false { turns.append(user) } else { byUser[user] = nil }
        return element
    }
}
