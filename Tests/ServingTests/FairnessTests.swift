// SPDX-License-Identifier: Apache-2.0

import Serving
import TestSupport
import Testing

@Suite("Slots are shared out fairly")
struct FairnessTests {
    @Test("the victim is the newest of those of the users with the most, unless that is one each")
    func victim() {
        #expect(Fairness.victim([3, 3, 3]) == 2)
        #expect(Fairness.victim([2, 3, 3, 2, 3, 1]) == 4)
        #expect(Fairness.victim([2, 1, 2]) == 2)
        #expect(Fairness.victim([1, 1]) == nil)
        #expect(Fairness.victim([]) == nil)
    }

    @Test("a chunk is shared out whole: who needs less leaves it to the others")
    func chunk() {
        #expect(Fairness.shares(of: 64, among: [100, 100]) == [32, 32])
        #expect(Fairness.shares(of: 64, among: [3, 100]) == [3, 61])
        #expect(Fairness.shares(of: 64, among: [100, 3, 5]) == [56, 3, 5])
        #expect(Fairness.shares(of: 64, among: [10, 20]) == [10, 20])
        #expect(Fairness.shares(of: 2, among: [9, 9, 9]) == [1, 1, 1])
        #expect(Fairness.shares(of: 7, among: [9, 9]) == [4, 3])
        #expect(Fairness.shares(of: 64, among: []) == [])
    }

    @Test("shares are within the chunk, at least one each, at most what is wanted")
    func shares() {
        var random = SeededGenerator(6)
        for _ in 0..<500 {
            let chunk = Int.random(in: 1...300, using: &random)
            let wants = (0..<Int.random(in: 0...9, using: &random)).map { _ in
                Int.random(in: 1...200, using: &random)
            }
            let shares = Fairness.shares(of: chunk, among: wants)
            #expect(shares.count == wants.count)
            #expect(zip(shares, wants).allSatisfy { (1...$1).contains($0) })
            #expect(shares.reduce(0, +) <= max(chunk, wants.count))
            // Nothing is left over while somebody wants more.
            #expect(
                shares == wants || shares.reduce(0, +) == max(chunk, wants.count))
        }
    }
}
