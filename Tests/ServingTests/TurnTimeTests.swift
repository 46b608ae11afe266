// SPDX-License-Identifier: Apache-2.0

import RPC
import TestSupport
import Testing

@testable import Serving

@Suite("How much of a prompt is read in a turn")
struct TurnTimeTests {
    private static let millisecond: UInt64 = 1_000_000

    /// A model's batches: one row, and each further one. Nanoseconds.
    struct Model: Sendable {
        let one: UInt64
        let row: UInt64
        func time(_ rows: Int) -> UInt64 { one + UInt64(rows - 1) * row }
    }
    private static let quick = Model(one: 2_000_000, row: 700_000)
    private static let slow = Model(one: 16_000_000, row: 6_000_000)

    /// Takes turns until the prompt of `reader` has been read, at most `limit`.
    ///
    /// - Returns: each turn's nanoseconds.
    private func read(_ reader: FakeConsumer, _ turns: inout Turns, limit: Int = 5000) -> [UInt64] {
        var times: [UInt64] = []
        while reader.count == 0, times.count < limit {
            let before = turns.now
            turns.turn()
            times.append(turns.now - before)
        }
        return times
    }

    @Test("all of the chunk while nobody's answer is written, shared equally by accounts")
    func alone() {
        var turns = Turns(slots: 5) { _, rows in Self.slow.time(rows) }
        turns.generate("A", prompt: 1000)
        #expect(turns.turn().parts.map(\.count) == [256])
        turns.generate("B", prompt: 1000)
        #expect(turns.turn().parts.map(\.count) == [128, 128])
        turns.generate("A", prompt: 1000)
        #expect(turns.turn().parts.map(\.count) == [64, 128, 64])
    }

    @Test(
        "beside a stream a turn takes no longer than turn_time, whichever model the prompt is for, and uses the time there is",
        arguments: [(0, 0), (0, 1), (1, 0), (1, 1)])
    func beside(_ stream: Int, _ reader: Int) {
        let models = [Self.quick, Self.slow]
        var turns = Turns(slots: 4) { model, rows in models[model].time(rows) }
        turns.generate("A", model: stream)
        turns.turns(20)
        let times = read(turns.generate("B", prompt: 2000, model: reader), &turns)
        #expect(times.max()! <= 50 * Self.millisecond)
        // What 2,000 rows take, in turns of 50 ms less the stream's own.
        let rows = models[reader].row * 2000
        let own = models[stream].one + (stream == reader ? 0 : models[reader].one)
        #expect(UInt64(times.count) * (50 * Self.millisecond - own) <= rows * 5 / 4)
        turns.gone("A0")
        turns.generate("C", prompt: 1000, model: reader)
        turns.gone("B0")
        #expect(turns.turn().parts.map(\.count) == [256])
    }

    @Test("the time is what is set", arguments: [1, 20, 50, 400] as [UInt64])
    func setting(_ milliseconds: UInt64) {
        let limit = milliseconds * Self.millisecond
        let model = Model(one: limit / 10, row: limit / 50)
        var turns = Turns(slots: 4, turnTime: limit) { _, rows in model.time(rows) }
        turns.generate("A")
        turns.turns(10)
        #expect(read(turns.generate("B", prompt: 2000), &turns).max()! <= limit)
    }

    @Test("several prompts of several models share the time of one turn, and each is read")
    func models() {
        let models = [Self.quick, Self.slow, Self.slow]
        var turns = Turns(slots: 8) { model, rows in models[model].time(rows) }
        turns.generate("A")
        turns.turns(10)
        let readers = (1...2).flatMap { model in
            "BCD".map { turns.generate($0, prompt: 300, count: 1, model: model) }
        }
        var worst: UInt64 = 0
        for reader in readers { worst = max(worst, read(reader, &turns).max() ?? 0) }
        // An estimate is within a tenth.
        #expect(worst <= 55 * Self.millisecond)
        #expect(readers.allSatisfy { $0.count > 0 })
    }

    @Test("a quarter of the time is for prompts when the streams alone take all of it")
    func progress() {
        let model = Model(one: 16_000_000, row: 4_000_000)
        var turns = Turns(slots: 16) { _, rows in model.time(rows) }
        for user in "ABCDEFGHIJKL" { turns.generate(user) }
        turns.turns(20)
        let streams = model.time(12)
        let times = read(turns.generate("X", prompt: 300), &turns)
        // 12.5 ms: two or three rows.
        #expect(times.max()! <= streams + 50 * Self.millisecond / 4)
        #expect(times.count <= 150)
    }

    @Test("a model that is slow while it is read from the disk is not held to be slow for ever")
    func cold() {
        var batches = 0
        var turns = Turns(slots: 4) { model, rows in
            guard model == 1 else { return Self.quick.time(rows) }
            batches += 1
            return batches == 1 ? 3_000_000_000 : Self.slow.time(rows)
        }
        turns.generate("A")
        turns.turns(10)
        let times = read(turns.generate("B", prompt: 1000, model: 1), &turns)
        // All but the first are in time, and 1,000 rows are 125 full turns.
        #expect(times.dropFirst().max()! <= 50 * Self.millisecond)
        #expect(times.count <= 250)
    }

    @Test("a busy machine's noise moves no turn far from the limit", arguments: 0..<4)
    func noise(_ seed: UInt64) {
        var random = SeededGenerator(seed)
        var turns = Turns(slots: 4) { _, rows in
            // One in fifty is held up by something else.
            let held: UInt64 = Int.random(in: 0..<50, using: &random) == 0 ? 300_000_000 : 0
            return UInt64(Double(Self.slow.time(rows)) * .random(in: 0.8...1.2, using: &random))
                + held
        }
        turns.generate("A")
        turns.turns(50)
        let times = read(turns.generate("B", prompt: 3000), &turns).sorted()
        #expect(times[times.count * 9 / 10] <= 65 * Self.millisecond)
        // At least half of what would fit without noise.
        #expect(times.count <= 2 * 3000 / 6)
    }

    @Test("when the machine becomes three times slower, turns are within the limit again soon")
    func slower() {
        var factor: UInt64 = 1
        var turns = Turns(slots: 4) { _, rows in Self.quick.time(rows) * factor }
        turns.generate("A")
        let reader = turns.generate("B", prompt: 100_000)
        turns.turns(100)
        factor = 3
        turns.turns(30)
        #expect(read(reader, &turns, limit: 200).max()! <= 51 * Self.millisecond)
        factor = 1
        turns.turns(200)
        let times = read(reader, &turns, limit: 50)
        #expect(times.max()! <= 50 * Self.millisecond && times.min()! >= 40 * Self.millisecond)
    }

    @Test("a stream whose reader is behind holds up no prompt")
    func stalled() {
        var turns = Turns(slots: 4) { _, rows in Self.slow.time(rows) }
        let stream = turns.generate("A")
        stream.stalledSince = turns.now
        turns.turn()
        turns.generate("B", prompt: 1000)
        #expect(turns.turn().parts.map(\.count) == [256])
    }

    @Test(
        "prompt rows are shared by account, however many prompts each has, beside a stream and not",
        arguments: [true, false])
    func accounts(_ isBeside: Bool) {
        var turns = Turns(slots: 8) { _, rows in Self.slow.time(rows) }
        if isBeside { turns.generate("S") }
        turns.turns(isBeside ? 20 : 0)
        for _ in 0..<5 { turns.generate("A", prompt: 100_000) }
        turns.generate("B", prompt: 100_000)
        var rows: [Character: Int] = [:]
        for _ in 0..<200 {
            for part in turns.turn().parts { rows[part.id.first!, default: 0] += part.count }
        }
        let (a, b) = (rows["A"]!, rows["B"]!)
        // Quanta are of 16 rows.
        #expect(abs(a - b) <= 3 * 16)
    }

    @Test("a dear model's user gets the same time, not the same rows")
    func time() {
        let models = [Self.quick, Self.slow]
        var spent: [UInt64] = [0, 0]
        var turns = Turns(slots: 4) { model, rows in
            spent[model] += models[model].row * UInt64(rows)
            return models[model].time(rows)
        }
        turns.generate("A", prompt: 1_000_000)
        turns.generate("B", prompt: 1_000_000, model: 1)
        turns.turns(500)
        #expect((0.7...1.4).contains(Double(spent[0]) / Double(spent[1])))
    }
}

@Suite("What a batch takes")
struct TurnCostTests {
    @Test(
        "nothing is known at first; then no estimate falls as rows are added, and as many rows fit as take the time"
    )
    func monotonic() {
        var random = SeededGenerator(3)
        var cost = TurnCost()
        #expect(cost.isUnknown && cost.rows(within: 1e9, limit: 100) == 0 && cost.time(5) == 0)
        for _ in 0..<2000 {
            let rows = Int.random(in: 1...600, using: &random)
            let time = 16e6 + 6e6 * Double(rows - 1)
            cost.learn(rows, nanoseconds: UInt64(time * .random(in: 0.5...3, using: &random)))
            let times = (1...700).map { cost.time($0) }
            #expect(zip(times, times.dropFirst()).allSatisfy { $0 <= $1 + 1e-6 })
            let limit = Double.random(in: 0...4e9, using: &random)
            let fitting = cost.rows(within: limit, limit: 700)
            #expect(cost.time(fitting) <= limit + 1e-3)
            if fitting < 700 { #expect(cost.time(fitting + 1) >= limit - 1e3) }
        }
    }

    @Test("one batch that was held up changes an estimate by a quarter at most")
    func outlier() {
        var cost = TurnCost()
        for _ in 0..<50 { cost.learn(2, nanoseconds: 20) }
        cost.learn(2, nanoseconds: 1_000_000)
        #expect(cost.time(2) == 25)
    }
}
