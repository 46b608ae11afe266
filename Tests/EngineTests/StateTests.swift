// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import Testing

@Suite("A state is a value")
struct StateTests {
    private let golden: GoldenModel
    private let tokens: [UInt32]

    init() throws {
        golden = try GoldenModel("b_bf16")
        tokens = (0..<40).map { UInt32($0 * 13 % 60) }
    }

    private func evaluator(_ table: String) throws -> Evaluator {
        try Evaluator(
            model: golden.model, workers: WorkerPool(threads: 2), maxRows: 64,
            kernels: try Kernels.select(table))
    }

    /// The state after each of the tokens, and the logits with them.
    private func steps(_ evaluator: Evaluator) throws -> [(state: [Float], logits: [Float])] {
        let states = try StatePool(slots: 1, model: golden.model)
        return try tokens.map { token in
            try evaluator.run([BatchRow(slot: 0, token: token, wants: .logits)], states: states)
            return (states.values(0), evaluator.withLogits(row: 0) { Array($0) })
        }
    }

    @Test(
        "rows that read one slot and write the next leave the state after every token, bit for bit",
        arguments: Kernels.runnable, [1, 3, 8, 40])
    func chain(_ table: String, _ chunk: Int) throws {
        let evaluator = try evaluator(table)
        let expected = try steps(evaluator)
        let states = try StatePool(slots: tokens.count + 1, model: golden.model)
        for start in stride(from: 0, to: tokens.count, by: chunk) {
            let part = start..<min(start + chunk, tokens.count)
            try evaluator.run(
                part.map {
                    BatchRow(from: $0, to: $0 + 1, token: tokens[$0], wants: .logits)
                }, states: states)
            for row in part {
                #expect(
                    evaluator.withLogits(row: row - start) { Array($0) } == expected[row].logits)
            }
        }
        for row in tokens.indices { #expect(states.values(row + 1) == expected[row].state) }
        #expect(states.values(0).allSatisfy { $0 == 0 }, "a slot that is only read stays")
    }

    @Test(
        "a fork goes on like a restored snapshot, and the slot it comes from like itself",
        arguments: Kernels.runnable)
    func fork(_ table: String) throws {
        let evaluator = try evaluator(table)
        let expected = try steps(evaluator)
        let states = try StatePool(slots: 3, model: golden.model)
        try evaluator.run(
            tokens[..<20].map { BatchRow(slot: 0, token: $0, wants: .nothing) }, states: states)
        let snapshot = states.save(0, history: TokenHistory(tokens[..<20]))
        // In one batch: slot 1 forks from 0 and reads 7, 0 goes on, and 2 forks from 0 as it is then.
        try evaluator.run(
            [
                BatchRow(from: 0, to: 1, token: 7, wants: .logits),
                BatchRow(slot: 0, token: tokens[20], wants: .logits),
                BatchRow(from: 0, to: 2, token: tokens[21], wants: .logits),
                BatchRow(slot: 1, token: 9, wants: .logits),
            ], states: states)
        #expect(evaluator.withLogits(row: 1) { Array($0) } == expected[20].logits)
        #expect(evaluator.withLogits(row: 2) { Array($0) } == expected[21].logits)
        #expect(states.values(0) == expected[20].state)
        #expect(states.values(2) == expected[21].state)
        let forked = (states.values(1), evaluator.withLogits(row: 3) { Array($0) })
        try states.restore(2, snapshot)
        try evaluator.run(
            [7, 9].map { BatchRow(slot: 2, token: $0, wants: .logits) }, states: states)
        #expect(forked.0 == states.values(2))
        #expect(forked.1 == evaluator.withLogits(row: 1) { Array($0) })
    }

    @Test("a pool that the system has no memory for is an error, which tells the bytes")
    func refusedMemory() throws {
        let bytes = golden.model.memory.bytes(after: 1)
        let slots = 1 << 50 / bytes
        let error = #expect(throws: ModelError.self) {
            _ = try StatePool(slots: slots, model: golden.model)
        }
        guard case .noMemory(let refused, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(refused >= slots * bytes)
    }
}
