// SPDX-License-Identifier: Apache-2.0

/// Who gets how much of what there is not enough of: pure arithmetic.
package enum Fairness {
    /// Which sequence is preempted when all slots are taken and a user waits who has none: the newest of those of the users who
    /// have the most, unless that is one each.
    ///
    /// - Parameter used: for each sequence in a slot, oldest first, how many slots its user has.
    package static func victim(_ used: [Int]) -> Int? {
        guard let most = used.max(), most > 1 else { return nil }
        return used.lastIndex(of: most)
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
