// SPDX-License-Identifier: Apache-2.0

import RPC
import TestSupport
import Testing

@testable import Serving

@Suite("No user raises another's latency beyond its fair share")
struct HostileUserTests {
    private static let millisecond: UInt64 = 1_000_000

    private func turns(slots: Int = 4, turnTime: UInt64 = 50) -> Turns {
        // A pass takes 16 ms and each further row 2.
        Turns(slots: slots, turnTime: turnTime * Self.millisecond) { _, rows in
            16_000_000 + UInt64(rows - 1) * 2_000_000
        }
    }

    enum Attack: CaseIterable {
        /// Forty calls of 256 inputs each: 10,000.
        case hugeEmbeds
        case longPrompts
        /// A call in each turn, gone in the next.
        case connectDisconnect
        /// Answers that nobody reads.
        case slowReaders
        case manyStreams
    }

    /// What the hostile user, "H", does in a turn.
    private func act(_ attack: Attack, _ turns: inout Turns, _ round: Int) {
        switch attack {
        case .hugeEmbeds where round == 0:
            for _ in 0..<40 { turns.embed("H", inputs: [Int](repeating: 2000, count: 256)) }
        case .longPrompts where round == 0:
            for _ in 0..<32 { turns.generate("H", prompt: 100_000, model: 1) }
        case .manyStreams where round == 0:
            for _ in 0..<32 { turns.generate("H") }
        case .connectDisconnect:
            for number in 0..<4 { turns.gone("H\(round * 4 - 4 + number)") }
            for _ in 0..<4 { turns.generate("H", prompt: 5000) }
        case .slowReaders:
            if round < 60 { turns.generate("H") }
            for consumer in turns.requests.values
            where consumer.id.first == "H" && consumer.count > 0 {
                consumer.stalledSince = turns.now
            }
        default: break
        }
    }

    @Test(
        "a stream gets a token in every turn, and turns stay within the limit",
        arguments: Attack.allCases)
    func stream(_ attack: Attack) {
        var turns = turns()
        let quiet = turns.generate("Q")
        turns.turns(20)
        var times: [UInt64] = []
        for round in 0..<400 {
            act(attack, &turns, round)
            let (tokens, before) = (quiet.count, turns.now)
            turns.turn()
            #expect(quiet.count == tokens + 1)
            times.append(turns.now - before)
        }
        #expect(times.max()! <= 50 * Self.millisecond)
    }

    @Test(
        "a newcomer begins in the next turn, and its prompt is read in twice the time it takes alone",
        arguments: Attack.allCases)
    func newcomer(_ attack: Attack) {
        func read(_ attack: Attack?) -> UInt64 {
            var turns = turns()
            // Somebody's stream, so that turns are short.
            turns.generate("S")
            for round in 0..<50 {
                if let attack { act(attack, &turns, round) }
                turns.turn()
            }
            let began = turns.now
            let quiet = turns.generate("Q", prompt: 1000)
            var rounds = 0
            while quiet.count == 0, rounds < 2000 {
                if let attack { act(attack, &turns, 50 + rounds) }
                turns.turn()
                rounds += 1
            }
            return turns.now - began
        }
        let (alone, beside) = (read(nil), read(attack))
        #expect(Double(beside) <= 2.6 * Double(alone))
    }

    @Test(
        "more users than slots take turns: each gets the same, and none waits longer than the others' turns"
    )
    func rotation() {
        var turns = turns(slots: 2)
        let users = "ABC".map { turns.generate($0) }
        var longest: UInt64 = 0
        var last = users.map { _ in turns.now }
        while turns.now < 300_000_000_000 {
            let before = users.map(\.count)
            turns.turn()
            for index in users.indices where users[index].count > before[index] {
                longest = max(longest, turns.now - last[index])
                last[index] = turns.now
            }
        }
        let counts = users.map(\.count)
        #expect(Double(counts.max()!) <= 1.15 * Double(counts.min()!))
        #expect(longest <= ServingConfiguration().slotTime + 100 * Self.millisecond)
    }

    @Test(
        "a request that waits for its reader gives its slot to a user that has none, and goes on when it is read"
    )
    func stalled() {
        var turns = Turns(slots: 1)
        let slow = turns.generate("A", count: 10)
        slow.stalledSince = turns.now
        turns.turn()
        #expect(turns.core.wakeTime != 0)
        let other = turns.generate("B", count: 3)
        #expect(turns.core.wakeTime == 0)
        turns.turns(3)
        #expect(other.reason == .length)
        // Its slot is free, and it does not ask for it.
        #expect(turns.core.occupied == 0 && turns.core.wakeTime != 0)
        slow.stalledSince = 0
        turns.core.drained("A0")
        #expect(turns.core.wakeTime == 0)
        turns.turns(10)
        #expect(slow.reason == .length)
        #expect(turns.core.wakeTime == nil)
    }
}
