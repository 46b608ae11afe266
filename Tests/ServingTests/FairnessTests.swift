// SPDX-License-Identifier: Apache-2.0

import Serving
import TestSupport
import Testing

@Suite("Slots are shared out fairly")
struct FairnessTests {
    @Test("one user's requests are served in their order")
    func order() {
        #expect(Fairness.next(waiting: [7, 7, 7], active: []) == 0)
        #expect(Fairness.next(waiting: [7, 7], active: [7, 7]) == 0)
    }

    @Test("nobody waiting is nobody's turn")
    func nobody() { #expect(Fairness.next(waiting: [], active: [1, 2]) == nil) }

    @Test("who has fewer slots comes first, however long the other's queue")
    func fewer() {
        #expect(Fairness.next(waiting: [1, 1, 1, 2], active: [1]) == 3)
        #expect(Fairness.next(waiting: [1, 2, 3], active: [1, 2]) == 2)
        #expect(Fairness.next(waiting: [1, 2], active: [1, 2]) == 0)
    }

    @Test("whoever has several slots makes room, newest first, for a user who has none")
    func room() {
        #expect(Fairness.yields(waiting: [2], active: [1, 1, 1]) == 2)
        #expect(Fairness.yields(waiting: [1, 1, 4], active: [1, 2, 2, 1, 2, 3]) == 4)
    }

    @Test("nobody's only slot is taken, and none for a user who has one")
    func noRoom() {
        #expect(Fairness.yields(waiting: [3], active: [1, 2]) == nil)
        #expect(Fairness.yields(waiting: [1, 2], active: [1, 1, 2]) == nil)
        #expect(Fairness.yields(waiting: [], active: [1, 1]) == nil)
        #expect(Fairness.yields(waiting: [1], active: []) == nil)
    }

    @Test("with slots filled one after another, no user gets two more than another who waits")
    func property() {
        var random = SeededGenerator(5)
        for _ in 0..<200 {
            let users = UInt32.random(in: 1...5, using: &random)
            var waiting = (0..<Int.random(in: 1...30, using: &random)).map { _ in
                UInt32.random(in: 0..<users, using: &random)
            }
            var active: [UInt32] = []
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                guard let next = Fairness.next(waiting: waiting, active: active) else { break }
                active.append(waiting.remove(at: next))
                for user in waiting {
                    let own = active.count { $0 == user }
                    #expect((0..<users).allSatisfy { u in active.count { $0 == u } <= own + 1 })
                }
            }
        }
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
