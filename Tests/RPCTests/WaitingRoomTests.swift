// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import RPC

@Suite("Calls that wait for a handler")
struct WaitingRoomTests {
    private func room(perUser: Int, all: Int) -> WaitingRoom {
        var room = WaitingRoom()
        room.bytesPerUser = perUser
        room.bytes = all
        return room
    }

    private func enters(_ room: inout WaitingRoom, _ user: UInt32, _ payload: Int) -> Bool {
        do {
            try room.enter(user, payload: payload)
            return true
        } catch {
            return error.code != .resourceExhausted
        }
    }

    @Test("one user's fill one user's room, and leave it again")
    func perUser() {
        var room = room(perUser: 100_000, all: 1_000_000)
        #expect(enters(&room, 1, 40_000))
        #expect(enters(&room, 1, 40_000))
        #expect(!enters(&room, 1, 40_000))
        #expect(enters(&room, 2, 40_000))
        room.leave(1, payload: 40_000)
        #expect(enters(&room, 1, 40_000))
    }

    @Test("small calls are not free: without payloads they fill the room too")
    func overhead() {
        var room = room(perUser: 100_000, all: 1_000_000)
        let count = (0..<1000).prefix { _ in enters(&room, 1, 0) }.count
        #expect(count == 24)
    }

    @Test("everybody's fill the whole room, but one call of each user always fits")
    func everybody() {
        var room = room(perUser: 100_000, all: 150_000)
        #expect(enters(&room, 1, 90_000))
        #expect(enters(&room, 2, 4_000_000))
        #expect(!enters(&room, 1, 0))
        #expect(enters(&room, 3, 0))
    }

    @Test("a room that everybody has left is empty")
    func empty() {
        var room = WaitingRoom()
        for user in 0..<50 as Range<UInt32> { _ = enters(&room, user, Int(user) * 1000) }
        for user in 0..<50 as Range<UInt32> { room.leave(user, payload: Int(user) * 1000) }
        #expect(room.total == 0)
    }
}

@Suite("Whose call is handled next")
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
