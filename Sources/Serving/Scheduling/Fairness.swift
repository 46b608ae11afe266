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
}

extension Collection where Element: Hashable {
    /// Its elements, each once, in the order in which they come first.
    var uniqued: [Element] {
        var seen: Set<Element> = []
        return filter { seen.insert($0).inserted }
    }
}
