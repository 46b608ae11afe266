// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Testing

@testable import Engine

@Suite("The merge table")
struct MergeTableTests {
    @Test("pairs that a fixed hash would put into one slot are found as fast as others")
    func colliding() throws {
        // The multiplier's inverse: the products of these keys with it are 0, 1, 2 and so on, all of them 0 in their high
        // halves.
        let multiplier: UInt64 = 0x9E37_79B9_7F4A_7C15
        var inverse = multiplier
        for _ in 0..<6 { inverse = inverse &* (2 &- multiplier &* inverse) }
        #expect(multiplier &* inverse == 1)
        let merges = (0..<1 << 17).map { (number: UInt64) -> Vocabulary.Merge in
            let key = number &* inverse
            return .init(
                left: UInt32(key >> 32), right: UInt32(truncatingIfNeeded: key),
                result: UInt32(number), rank: UInt32(number))
        }
        let clock = ContinuousClock()
        let begin = clock.now
        let table = MergeTable(merges)
        for merge in merges {
            let found = try #require(table.find(merge.left, merge.right))
            if found != (merge.rank, merge.result) { Issue.record("\(merge) gave \(found)") }
        }
        // One after the other through one cluster would be minutes.
        #expect(clock.now - begin < .seconds(60))
    }

    @Test("of two merges of one pair the lower rank counts; other pairs are not found")
    func ranks() {
        let table = MergeTable([
            .init(left: 1, right: 2, result: 3, rank: 5),
            .init(left: 1, right: 2, result: 4, rank: 1),
            .init(left: 1, right: 2, result: 5, rank: 9),
        ])
        #expect(table.find(1, 2)! == (1, 4))
        #expect(table.find(2, 1) == nil)
        #expect(MergeTable([]).find(0, 0) == nil)
    }
}
