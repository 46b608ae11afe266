// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import RPC

@Suite("Whose call is handled next")
struct CallQueueTests {
    private func all(_ queue: inout CallQueue<String>) -> [String] {
        var order: [String] = []
        while let next = queue.next() { order.append(next) }
        return order
    }

    @Test("users take turns, and each one's calls stay in order")
    func turns() {
        var queue = CallQueue<String>(most: 9999)
        for number in 1...4 { queue.append("a\(number)", of: Account(uid: 1)) }
        for number in 1...2 { queue.append("b\(number)", of: Account(uid: 2)) }
        queue.append("c1", of: Account(uid: 3))
        #expect(all(&queue) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"])
    }

    @Test("who comes late waits for one call of each other user, however many they have")
    func late() {
        var queue = CallQueue<String>(most: 9999)
        for number in 1...1000 { queue.append("a\(number)", of: Account(uid: 1)) }
        #expect(queue.next() == "a1")
        queue.append("b1", of: Account(uid: 2))
        #expect(queue.next() == "a2")
        #expect(queue.next() == "b1")
        #expect(queue.next() == "a3")
    }

    @Test("a user who has left and comes back has one turn, not two")
    func comingBack() {
        var queue = CallQueue<String>(most: 9999)
        #expect(queue.next() == nil)
        queue.append("a1", of: Account(uid: 1))
        #expect(queue.next() == "a1")
        for number in 2...3 { queue.append("a\(number)", of: Account(uid: 1)) }
        queue.append("b1", of: Account(uid: 2))
        #expect(all(&queue) == ["a2", "b1", "a3"])
    }

    @Test("two of an account's calls run at a time; the next begins when one has ended")
    func most() {
        var queue = CallQueue<String>(most: 2)
        let (a, b) = (Account(uid: 1), Account(uid: 2))
        for number in 1...4 { queue.append("a\(number)", of: a) }
        queue.append("b1", of: b)
        #expect(all(&queue) == ["a1", "b1", "a2"])
        queue.finish(b)
        #expect(queue.next() == nil)
        queue.finish(a)
        #expect(all(&queue) == ["a3"])
        queue.append("a5", of: a)
        #expect(queue.next() == nil)
        queue.finish(a)
        queue.finish(a)
        #expect(all(&queue) == ["a4", "a5"])
    }
}
