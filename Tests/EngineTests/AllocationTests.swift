// SPDX-License-Identifier: Apache-2.0

import CAllocations
import Engine
import ModelStore
import TestSupport
import Testing

@Suite("A token takes nothing from the heap")
struct AllocationTests {
    /// What each worker of `pool` has allocated so far.
    private func counts(_ pool: WorkerPool, into counts: UnsafeMutablePointer<UInt64>) {
        pool.run(UnsafeMutableRawPointer(counts)) { context, worker in
            context.assumingMemoryBound(to: UInt64.self)[worker] = ca_allocations()
        }
    }

    @Test("the counter counts")
    func counter() {
        let before = ca_allocations()
        // Not an array: the runtime takes memory of its own for a type's first instance.
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 100, alignment: 1)
        let after = ca_allocations()
        memory.deallocate()
        #expect(after == before + 1)
    }

    @Test(
        "neither the forward pass, on any thread, nor the sampler",
        .enabled(
            if: isOptimised, "unoptimised code puts much on the heap that optimised code does not"),
        arguments: [1, 2, 4, 8])
    func decode(_ batch: Int) throws {
        let golden = try GoldenModel("b_bf16")
        let pool = WorkerPool(threads: 3)
        let states = try StatePool(slots: batch, model: golden.model)
        let evaluator = try Evaluator(
            model: golden.model, workers: pool, maxRows: 16,
            kernels: try Kernels.fromEnvironment())
        var options = SamplingOptions()
        options.temperature = 0.8
        options.topK = 20
        options.topP = 0.9
        options.seed = 3
        var samplers = (0..<batch).map { _ in Sampler(options, prompt: [1]) }
        var rows = (0..<batch).map { BatchRow(slot: $0, token: UInt32($0 + 3), wants: .logits) }
        func step() throws {
            try evaluator.run(rows, states: states)
            for row in 0..<batch {
                rows[row].token = evaluator.withLogits(row: row) { samplers[row].sample($0).id }
            }
        }
        for _ in 0..<50 { try step() }
        let before = UnsafeMutablePointer<UInt64>.allocate(capacity: pool.count)
        let after = UnsafeMutablePointer<UInt64>.allocate(capacity: pool.count)
        defer {
            before.deallocate()
            after.deallocate()
        }
        counts(pool, into: before)
        for _ in 0..<100 { try step() }
        counts(pool, into: after)
        #expect((0..<pool.count).map { after[$0] - before[$0] } == [0, 0, 0])
    }
}
