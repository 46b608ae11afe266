// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import TestSupport
import Testing

@testable import Serving

@Suite("Who gets a slot")
struct SlotTests {
    @Test(
        "free slots go to the user with the fewest, and of one user to the first request",
        arguments: [
            ("AAA", 2, ["A0", "A1"]),
            ("AAAB", 2, ["A0", "B0"]),
            ("AAABC", 4, ["A0", "B0", "C0", "A1"]),
            ("AABBC", 5, ["A0", "B0", "C0", "A1", "B1"]),
            ("A", 3, ["A0"]),
        ])
    func fewest(_ users: String, _ slots: Int, _ expected: [String]) {
        var turns = Turns(slots: slots)
        for user in users { turns.generate(user) }
        #expect(turns.running() == expected)
    }

    @Test("a slot that becomes free goes to the user with the fewest, however long another's queue")
    func freed() {
        var turns = Turns(slots: 2)
        turns.generate("A", count: 2)
        turns.generate("B")
        turns.generate("A")
        turns.generate("B")
        #expect(turns.running() == ["A0", "B0"])
        #expect(turns.running() == ["A0", "B0"])
        #expect(turns.running() == ["B0", "A1"])
    }

    @Test("a user with no slot preempts the newest of the user with the most")
    func victim() {
        var turns = Turns(slots: 5)
        for user in "ABBA" { turns.generate(user) }
        turns.turn()
        turns.generate("B")
        #expect(turns.running() == ["A0", "B0", "B1", "A1", "B2"])
        turns.generate("C")
        #expect(turns.running() == ["A0", "B0", "B1", "A1", "C0"])
        turns.generate("D")
        #expect(turns.running() == ["A0", "B0", "B1", "C0", "D0"])
    }

    @Test("nobody's only slot is preempted, and nobody preempts who has one")
    func noVictim() {
        var turns = Turns(slots: 3)
        for user in "AAB" { turns.generate(user) }
        turns.turn()
        turns.generate("B")
        #expect(turns.running() == ["A0", "B0", "A1"])
        turns.generate("C")
        #expect(turns.running() == ["A0", "B0", "C0"])
        turns.generate("D")
        #expect(turns.running() == ["A0", "B0", "C0"])
    }

    @Test("who was preempted goes on where it was, before the others of its user")
    func resumed() {
        var turns = Turns(slots: 2)
        let preempted = turns.generate("A", count: 5)
        turns.generate("A", count: 4)
        turns.generate("A")
        turns.turns(2)
        // A1 makes room, and goes on when B0 is done: before A2. Turns checks what its slot remembers.
        turns.generate("B", count: 2)
        #expect(turns.running() == ["A0", "B0"])
        #expect(turns.running() == ["A0", "B0"])
        #expect(turns.running() == ["A0", "A1"])
        #expect(preempted.reason == .length)
        #expect(turns.running() == ["A1", "A2"])
        #expect(turns.requests["A1"]?.reason == .length)
    }

    @Test("an Embed call is one request: its inputs take turns in its user's slots, it ends once")
    func embed() {
        var turns = Turns(slots: 3)
        let job = turns.embed("A", inputs: [1, 1, 1, 1, 1])
        #expect(turns.running() == ["A0", "A0", "A0"])
        let other = turns.generate("B", count: 1)
        #expect(turns.running() == ["A0", "B0", "A0"])
        #expect(job.count == 5)
        #expect(job.log == ["done"])
        #expect(other.log == ["length"])
        #expect(turns.core.occupied == 0)
        #expect(turns.core.wakeTime == nil)
    }

    @Test(
        "whatever happens, every request ends once, nobody's state is another's, and no more run than there are slots",
        arguments: 0..<8)
    func anything(_ seed: UInt64) {
        var random = SeededGenerator(seed)
        let slots = Int.random(in: 1...6, using: &random)
        var turns = Turns(slots: slots, chunk: 8, turnTime: 3) { _, rows in UInt64(rows) }
        var all: [FakeConsumer] = []
        for _ in 0..<2000 {
            let user = "ABCDE".randomElement(using: &random)!
            switch Int.random(in: 0..<10, using: &random) {
            case 0:
                all.append(
                    turns.generate(
                        user, prompt: .random(in: 1...20, using: &random),
                        count: .random(in: 1...9, using: &random),
                        model: .random(in: 0...1, using: &random),
                        deadline: Bool.random(using: &random) ? .max : turns.now + 60))
            case 1:
                let inputs = (0..<Int.random(in: 1...9, using: &random)).map { _ in
                    Int.random(in: 1...12, using: &random)
                }
                all.append(turns.embed(user, inputs: inputs))
            case 2: if let one = all.randomElement(using: &random) { turns.gone(one.id) }
            case 3:
                if let one = all.randomElement(using: &random), one.log.isEmpty {
                    one.stalledSince = one.stalledSince == 0 ? turns.now : 0
                    turns.core.drained(one.id)
                }
            default:
                turns.now += 1
                let parts = turns.turn().parts
                #expect(turns.core.occupied <= slots)
                #expect(parts.count <= slots)
            }
        }
        for one in all where one.log.isEmpty {
            one.stalledSince = 0
            turns.core.drained(one.id)
        }
        for _ in 0..<20_000 where turns.core.wakeTime == 0 { turns.turn() }
        #expect(all.allSatisfy { $0.log.count == 1 })
        #expect(turns.core.occupied == 0)
    }
}

@Suite("Time limits, readers and ends")
struct EndTests {
    @Test("a deadline counts the time in the queue; an answer under way ends with what there is")
    func deadline() {
        var turns = Turns(slots: 1)
        let writing = turns.generate("A", deadline: 5000)
        let waiting = turns.generate("A", deadline: 3000)
        turns.turn()
        turns.now = 2999
        turns.turn()
        #expect(waiting.log == [])
        turns.now = 3000
        turns.turn()
        #expect(waiting.error?.code == .deadlineExceeded)
        #expect(waiting.error?.message.contains("waiting") == true)
        turns.now = 5000
        turns.turn()
        #expect(writing.reason == .deadline)
        #expect(turns.core.wakeTime == nil)
    }

    @Test("vectors past their deadline are an error")
    func embedDeadline() {
        var turns = Turns(slots: 1)
        let job = turns.embed("A", inputs: [1, 1, 1], deadline: 3000)
        turns.turn()
        turns.now = 3000
        turns.turn()
        #expect(job.error?.reason == "DEADLINE")
        #expect(job.error?.message.contains("waiting") == false)
    }

    @Test("a reader that is behind pauses its own request alone, until its own outbox has drained")
    func paused() {
        var turns = Turns(slots: 3)
        let (a, b) = (turns.generate("A"), turns.generate("B"))
        turns.generate("C")
        (a.stalledSince, b.stalledSince) = (turns.now, turns.now)
        turns.turn()
        #expect(turns.running() == ["C0"])
        a.stalledSince = 0
        turns.core.drained("A0")
        #expect(turns.running() == ["A0", "C0"])
        // News that is overtaken: it has stalled again.
        turns.core.drained("B0")
        #expect(turns.running() == ["A0", "C0"])
    }

    @Test("a reader that takes nothing for the time limit is cut, at the limit and not before")
    func slowReader() {
        var turns = Turns(slots: 1, slowReaderTimeout: 500)
        let slow = turns.generate("A")
        slow.stalledSince = 1000
        turns.turn()
        #expect(turns.core.wakeTime == 1500)
        turns.now = 1499
        turns.turn()
        #expect(slow.log == [])
        // It has read something meanwhile.
        slow.stalledSince = 1200
        turns.now = 1500
        turns.turn()
        #expect(turns.core.wakeTime == 1700)
        turns.now = 1700
        turns.turn()
        #expect(slow.error?.code == .aborted)
        #expect(slow.error?.reason == "SLOW_READER")
        #expect(turns.core.wakeTime == nil)
    }

    @Test("a complete answer is watched until it is read, cut, or its caller has gone")
    func unread() {
        for outcome in 0..<3 {
            var turns = Turns(slots: 1, slowReaderTimeout: 500)
            let slow = turns.generate("A", count: 1)
            slow.stalledSince = 1000
            turns.turn()
            #expect(slow.log == ["length"])
            #expect(turns.core.wakeTime == 1500)
            switch outcome {
            case 0:
                slow.stalledSince = 0
                turns.core.drained("A0")
            case 1: turns.gone("A0")
            default:
                turns.now = 1500
                turns.turn()
                #expect(slow.error?.reason == "SLOW_READER")
            }
            #expect(turns.core.wakeTime == nil)
        }
    }

    @Test("stopping cuts answers short and turns away what has nothing to show")
    func drained() {
        var turns = Turns(slots: 2)
        let (answer, job) = (turns.generate("A"), turns.embed("B", inputs: [1, 9]))
        let waiting = turns.generate("C")
        turns.turn()
        turns.conclude(turns.core.endAll(.drained))
        #expect(answer.reason == .cancelled)
        #expect(job.error?.reason == "DRAINING")
        #expect(waiting.error?.reason == "DRAINING")
        #expect(turns.core.wakeTime == nil)
    }

    @Test("a damaged model's requests end, running or waiting, and the others go on")
    func damaged() {
        var turns = Turns(slots: 2)
        let other = turns.generate("A", model: 1)
        let (running, waiting) = (turns.generate("B"), turns.generate("B"))
        turns.turn()
        turns.conclude(turns.core.endAll(of: ObjectIdentifier(Turns.models[0]), .damaged("cut")))
        #expect(running.error?.reason == "MODEL_DAMAGED" && running.error == waiting.error)
        #expect(running.error?.message.contains("'m'") == true)
        #expect(other.log == [])
        #expect(turns.running() == ["A0"])
    }

    @Test("what is kept of an answer that its reader has left has read the tokens it says")
    func closed() {
        var turns = Turns(slots: 1, prefixBytes: 1 << 20)
        let consumer = turns.generate("A", prompt: 3)
        turns.turns(4)
        consumer.isClosed = true
        turns.turn()
        #expect(consumer.log == ["cancelled"])
        let key = PrefixCache.Key(digest: "0", owner: Account(uid: 65))
        let known = turns.core.prefixes.find(
            [UInt32](repeating: 1, count: 100), of: key, most: 100, where: { _ in true }
        ).known
        // Three of the prompt, and four answers that were read: the last while its reader left.
        #expect(known?.depth == 7)
        #expect(known?.prefix.snapshot.values.count == 7 && known?.prefix.snapshot.tokens == 7)
    }

    @Test("ten thousand inputs queued and dropped cost a stream beside them nothing")
    func work() {
        var quiet = Turns(slots: 4)
        var busy = Turns(slots: 4)
        quiet.generate("A")
        busy.generate("A")
        // A stream beside one job that fills the other slots: so many turns look at so much.
        let long = [10_000, 10_000, 10_000]
        quiet.embed("B", inputs: long)
        for _ in 0..<40 { busy.embed("B", inputs: long + [Int](repeating: 1, count: 253)) }
        quiet.turn()
        busy.turn()
        func cost(_ turns: inout Turns, _ events: (inout Turns) -> Void) -> Int {
            let before = turns.core.looks
            events(&turns)
            return turns.core.looks - before
        }
        let turn = cost(&quiet) { $0.turns(100) }
        #expect(cost(&busy) { $0.turns(100) } == turn)
        // Forty events, each one look and one at each slot.
        let drop = cost(&busy) { turns in
            for number in 0..<40 { turns.gone("B\(number)") }
        }
        #expect(drop <= 40 * (1 + 4))
        #expect(busy.requests.values.count { $0.log == ["cancelled"] } == 40)
        #expect(busy.running() == ["A0"])
    }
}

@Suite("Priorities by key")
struct PriorityMapTests {
    @Test("the first is always the lowest there is, whatever was set, changed and removed")
    func first() {
        var random = SeededGenerator(4)
        var map = PriorityMap<Int, Int>()
        var expected: [Int: Int] = [:]
        for round in 0..<5000 {
            let key = Int.random(in: 0..<30, using: &random)
            if Bool.random(using: &random) {
                // No two alike.
                let priority = Int.random(in: 0..<1000, using: &random) * 5000 + round
                map.set(key, priority)
                expected[key] = priority
            } else {
                map.remove(key)
                expected[key] = nil
            }
            let lowest = expected.min { $0.value < $1.value }
            #expect(map.first?.key == lowest?.key && map.first?.priority == lowest?.value)
            #expect(map.isEmpty == expected.isEmpty)
            #expect(map.stored <= 2 * expected.count + 17)
        }
    }
}
