// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC
import TestSupport
import Testing

@testable import Serving

@Suite("Keys and values are set aside before a sequence begins")
struct KeyValueTests {
    /// A token takes a number; memory is set aside for 16 tokens at a time.
    private func turns(
        _ slots: Int, tokens: Int, context: Int = 1000, type: KeyValueType = .f32
    ) -> Turns {
        Turns(
            slots: slots, keyValueBytes: tokens * 4,
            memory: .attention(numbersPerToken: 1, type: type, context: context))
    }

    @Test("a request waits until its prompt and its longest answer fit, though slots are free")
    func waits() {
        var turns = turns(4, tokens: 64)
        turns.generate("A", prompt: 16, count: 16)
        turns.generate("B", prompt: 16, count: 17)
        #expect(turns.running() == ["A0"])
        #expect(turns.core.wakeTime == 0)
        for _ in 0..<15 { #expect(turns.running() == ["A0"]) }
        #expect(turns.running() == ["B0"])
    }

    @Test("in bfloat16 twice as many tokens fit, and not one more")
    func half() {
        var turns = turns(4, tokens: 32, type: .bf16)
        turns.generate("A", prompt: 16, count: 16)
        turns.generate("B", prompt: 16, count: 16)
        turns.generate("C", prompt: 1, count: 1)
        #expect(turns.running() == ["A0", "B0"])
        let large = turns.generate("D", prompt: 60, count: 5)
        turns.gone("C0")
        turns.turn()
        #expect(large.error?.reason == "KEY_VALUE_MEMORY")
    }

    @Test("a large request is not overtaken by small ones that come after it")
    func order() {
        var turns = turns(4, tokens: 64)
        turns.generate("A", prompt: 16, count: 16)
        turns.turn()
        turns.generate("B", prompt: 32, count: 32)
        #expect(turns.running() == ["A0"])
        turns.generate("C", prompt: 8, count: 8)
        for _ in 0..<14 { #expect(turns.running() == ["A0"]) }
        #expect(turns.running() == ["B0"])
        for _ in 0..<31 { #expect(turns.running() == ["B0"]) }
        #expect(turns.running() == ["C0"])
    }

    @Test("one that goes while it waits makes way for the next")
    func leaves() {
        var turns = turns(4, tokens: 64)
        turns.generate("A", prompt: 16, count: 16)
        turns.turn()
        turns.generate("B", prompt: 32, count: 32)
        turns.generate("C", prompt: 8, count: 8)
        #expect(turns.running() == ["A0"])
        turns.gone("B0")
        #expect(turns.running() == ["A0", "C0"])
    }

    @Test("a preempted sequence keeps its keys and values")
    func preempted() {
        var turns = turns(1, tokens: 64)
        turns.generate("A", prompt: 16, count: 16)
        turns.generate("A", prompt: 16, count: 16)
        turns.turn()
        turns.generate("B", prompt: 16, count: 1)
        turns.now += turns.core.configuration.slotTime
        // A0 would make room for B0, and A1 has not begun: but 32 tokens are A0's, and B0 asks for 32.
        #expect(turns.running() == ["B0"])
        #expect(turns.running() == ["A0"])
    }

    @Test("a preempted sequence goes on though its user's next one waits for memory")
    func preemptedBeforeWaiting() {
        var turns = turns(2, tokens: 64)
        turns.generate("A", prompt: 16, count: 16)
        turns.generate("A", prompt: 32, count: 32)
        #expect(turns.running() == ["A0"], "A1 waits for memory, not for a slot")
        turns.now += turns.core.configuration.slotTime
        turns.generate("B", prompt: 4, count: 40, model: Turns.recurrent)
        #expect(turns.running() == ["A0", "B0"])
        turns.generate("C", prompt: 4, count: 2, model: Turns.recurrent)
        #expect(turns.running() == ["B0", "C0"])
        #expect(turns.running() == ["B0", "C0"])
        #expect(turns.running() == ["B0", "A0"])
    }

    @Test("models without keys and values do not wait for those that have them")
    func recurrent() {
        var turns = turns(4, tokens: 64)
        turns.generate("A", prompt: 16, count: 16)
        turns.turn()
        turns.generate("B", prompt: 32, count: 32)
        turns.generate("C", prompt: 4, count: 4, model: Turns.recurrent)
        #expect(turns.running() == ["A0", "C0"])
    }

    @Test("what an account waited for is over: its next request does not wait in its place")
    func nextOfAccount() {
        var turns = turns(4, tokens: 64)
        turns.generate("A", prompt: 16, count: 16)
        turns.turn()
        turns.generate("B", prompt: 32, count: 32)
        turns.generate("B", prompt: 8, count: 8)
        #expect(turns.running() == ["A0"])
        turns.gone("B0")
        #expect(turns.running() == ["A0", "B1"])
    }

    @Test("what will never fit is refused, with the numbers")
    func never() throws {
        var turns = turns(2, tokens: 64)
        let large = turns.generate("A", prompt: 60, count: 10)
        turns.generate("B", prompt: 10, count: 10)
        #expect(turns.running() == ["B0"])
        let error = try #require(large.error)
        #expect(error.code == .resourceExhausted && error.reason == "KEY_VALUE_MEMORY")
        #expect("\(error)".contains("70 tokens") && "\(error)".contains("256 are set aside"))
    }

    @Test("a prompt that leaves no place for an answer in the context is refused")
    func context() throws {
        var turns = turns(2, tokens: 640, context: 32)
        let fits = turns.generate("A", prompt: 31, count: 1)
        let full = turns.generate("B", prompt: 32, count: 1)
        let read = turns.embed("C", inputs: [32])
        let long = turns.embed("D", inputs: [33])
        turns.turns(2)
        #expect(fits.log == ["length"] && read.log == ["done"])
        #expect(full.error?.code == .invalidArgument && long.error?.code == .invalidArgument)
        #expect(full.error.map { "\($0)" }?.contains("positions for 32") == true)
    }

    @Test("all of it comes back")
    func returns() {
        var turns = turns(2, tokens: 64)
        for _ in 0..<20 {
            turns.generate("A", prompt: 16, count: 8)
            turns.generate("B", prompt: 16, count: 8)
            turns.embed("C", inputs: [16, 40, 16])
            turns.turns(3)
            turns.gone("A\(turns.requests.keys.count { $0.first == "A" } - 1)")
            turns.turns(20)
        }
        #expect(turns.requests.values.allSatisfy { !$0.log.isEmpty })
        let last = turns.generate("A", prompt: 32, count: 32)
        turns.turns(40)
        #expect(last.log == ["length"])
    }
}
