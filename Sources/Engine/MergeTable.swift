// SPDX-License-Identifier: Apache-2.0

/// Finds the merge of two neighbouring tokens: an open-addressing hash table from (left, right) to (rank, result).
struct MergeTable: Sendable {
    private struct Slot: Sendable {
        /// left << 32 | right, plus one; zero is an empty slot.
        var key: UInt64 = 0
        var rank: UInt32 = 0
        var result: UInt32 = 0
    }

    private var slots: [Slot]
    private let mask: Int

    init(_ merges: [TokenizerTables.Merge]) {
        var capacity = 16
        while capacity < merges.count * 2 { capacity *= 2 }
        mask = capacity - 1
        slots = [Slot](repeating: Slot(), count: capacity)
        for merge in merges {
            let key = Self.key(merge.left, merge.right)
            var index = Self.hash(key) & mask
            while slots[index].key != 0, slots[index].key != key { index = (index + 1) & mask }
            // Of two merges of the same pair the one with the lower rank counts.
            if slots[index].key == key, slots[index].rank <= merge.rank { continue }
            slots[index] = Slot(key: key, rank: merge.rank, result: merge.result)
        }
    }

    func find(_ left: UInt32, _ right: UInt32) -> (rank: UInt32, result: UInt32)? {
        let key = Self.key(left, right)
        var index = Self.hash(key) & mask
        while slots[index].key != 0 {
            if slots[index].key == key { return (slots[index].rank, slots[index].result) }
            index = (index + 1) & mask
        }
        return nil
    }

    private static func key(_ left: UInt32, _ right: UInt32) -> UInt64 {
        (UInt64(left) << 32 | UInt64(right)) &+ 1
    }

    private static func hash(_ key: UInt64) -> Int {
        Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 20)
    }
}
