// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// Finds the merge of two neighbouring tokens: open addressing from (left, right) to (rank, result).
///
/// Where a pair lies is drawn by lot for each table, for whoever makes a file could else choose pairs that all begin at one
/// slot. No result depends on it.
struct MergeTable: Sendable {
    private struct Slot: Sendable {
        var left: UInt32 = 0
        var right: UInt32 = 0
        var rank: UInt32 = 0
        /// No token has the id `none`: such a slot is empty.
        var result = UInt32.max
    }

    private var slots: [Slot]
    private let mask: Int
    /// Odd factors.
    private let lots: (UInt64, UInt64)

    init(_ merges: [Vocabulary.Merge]) {
        var capacity = 16
        while capacity < merges.count * 2 { capacity *= 2 }
        mask = capacity - 1
        lots = (UInt64.random(in: .min ... .max) | 1, UInt64.random(in: .min ... .max) | 1)
        slots = [Slot](repeating: Slot(), count: capacity)
        for merge in merges {
            let index = place(merge.left, merge.right)
            // Of two merges of the same pair the one with the lower rank counts.
            if slots[index].result != .max, slots[index].rank <= merge.rank { continue }
            slots[index] = Slot(
                left: merge.left, right: merge.right, rank: merge.rank, result: merge.result)
        }
    }

    func find(_ left: UInt32, _ right: UInt32) -> (rank: UInt32, result: UInt32)? {
        let slot = slots[place(left, right)]
        return slot.result == .max ? nil : (slot.rank, slot.result)
    }

    /// Where the pair is, or the empty slot where it would be. Half of the slots stay empty, so there is one.
    private func place(_ left: UInt32, _ right: UInt32) -> Int {
        let key = UInt64(left) << 32 | UInt64(right)
        // A product's high half holds what all bits of the key have a say in; twice, so that no difference of two keys
        // keeps them neighbours whatever the lots.
        let product = key &* lots.0
        let mixed = (product ^ product >> 32) &* lots.1
        var index = Int(truncatingIfNeeded: mixed >> 32) & mask
        while true {
            let slot = slots[index]
            if slot.result == .max || (slot.left == left && slot.right == right) { return index }
            index = (index + 1) & mask
        }
    }
}
