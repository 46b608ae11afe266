// SPDX-License-Identifier: Apache-2.0

import RPC
import Testing

@Suite("Calls that wait for a handler", .timeLimit(.minutes(1)))
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
