// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import RPC

@Suite("Whose call is handled next", .timeLimit(.minutes(1)))
struct CallQueueTests {
    private func all(_ queue: inout CallQueue<String>) -> [String] {
        var order: [String] = []
        while let next = queue.next() { order.append(next) }
        return order
    }

    @Test("users take turns, and each one's calls stay in order")
    func turns() {
        var queue = CallQueue<String>()
        for number in 1...4 { queue.append("a\(number)", of: 1) }
        for number in 1...2 { queue.append("b\(number)", of: 2) }
        queue.append("c1", of: 3)
        #expect(all(&queue) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"])
    }

    @Test("who comes late waits for one call of each other user, however many they have")
    func late() {
        var queue = CallQueue<String>()
        for number in 1...1000 { queue.append("a\(number)", of: 1) }
        #expect(queue.next() == "a1")
        queue.append("b1", of: 2)
        #expect(queue.next() == "a2")
        #expect(queue.next() == "b1")
        #expect(queue.next() == "a3")
    }

    @Test("a user who has left and comes back has one turn, not two")
    func comingBack() {
        var queue = CallQueue<String>()
        #expect(queue.next() == nil)
        queue.append("a1", of: 1)
        #expect(queue.next() == "a1")
        for number in 2...3 { queue.append("a\(number)", of: 1) }
        queue.append("b1", of: 2)
        #expect(all(&queue) == ["a2", "b1", "a3"])
    }
}
