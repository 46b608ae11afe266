// SPDX-License-Identifier: Apache-2.0

/// Who gets how much of what there is not enough of: pure arithmetic.
package enum Fairness {
    /// Whose turn it is to get a slot: of the users who wait, the one with the fewest slots; of their requests, the first.
    ///
    /// - Parameters:
    ///   - waiting: the users of the waiting requests, in the order they came.
    ///   - active: the users of the requests in slots.
    /// - Returns: how many of `waiting` come before it.
    package static func next(waiting: some Swift.Sequence<UInt32>, active: [UInt32]) -> Int? {
        var used: [UInt32: Int] = [:]
        for user in active { used[user, default: 0] += 1 }
        var best: (index: Int, used: Int)?
        for (index, user) in waiting.enumerated() {
            let count = used[user, default: 0]
            if count < best?.used ?? .max { best = (index, count) }
            if count == 0 { break }
        }
        return best?.index
    }

    /// Which request must make room when all slots are taken: the newest of the user who has the most, if somebody waits who
    /// has none and nobody else would lose their only one.
    ///
    /// - Parameters:
    ///   - waiting: the users of the waiting requests.
    ///   - active: the users of the requests in slots, oldest first.
    /// - Returns: its place in `active`.
    package static func yields(waiting: some Swift.Sequence<UInt32>, active: [UInt32]) -> Int? {
        var used: [UInt32: Int] = [:]
        for user in active { used[user, default: 0] += 1 }
        guard let most = used.values.max(), most > 1, waiting.contains(where: { used[$0] == nil })
        else { return nil }
        return active.lastIndex { used[$0] == most }
    }

    /// Shares out a chunk of prompt tokens: equally, and what one does not need goes to the others.
    ///
    /// - Parameter wants: how many tokens each still has to read, 1 or more.
    /// - Returns: each one's share, 1 or more, so the sum exceeds a chunk smaller than the number of readers.
    package static func shares(of chunk: Int, among wants: [Int]) -> [Int] {
        var shares = wants
        var left = max(chunk, wants.count)
        // From the one that needs least: whoever is satisfied raises the share of all after it.
        let order = wants.indices.sorted { (wants[$0], $0) < (wants[$1], $1) }
        for (place, index) in order.enumerated() {
            let others = order.count - place
            shares[index] = min(wants[index], (left + others - 1) / others)
            left -= shares[index]
        }
        return shares
    }
}
