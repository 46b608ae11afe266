// SPDX-License-Identifier: Apache-2.0
//
// The forward pass. A batch is one matrix to the ternary products; only the recurrence walks its rows in order. Each layer
// is four parallel regions of products with row work between them; row work is shared out when there are enough rows to
// pay for a region and is done by the caller otherwise. No step's result depends on how it is shared out, so logits and
// states are the same bits for any batch, chunking, thread count and kernel table.

import CKernels
import Glibc

/// Runs batches of rows through a model. Owned by one thread.
package final class Evaluator {
    package let model: Model
    /// The most rows `run` takes at once.
    package let maxRows: Int
    /// Time spent in ternary products, and in all of `run`, since the last `resetTimings`. Nanoseconds.
    package private(set) var productNanoseconds: UInt64 = 0
    package private(set) var totalNanoseconds: UInt64 = 0

    let shape: ModelShape
    let weights: Weights
    let kernels: Kernels.Table
    let scratch: Scratch
    private let workers: WorkerPool

    // The batch under way, read by the workers.
    private(set) var rows: [BatchRow] = []
    var count: Int { rows.count }
    private(set) var stage = Stage.scan(layer: 0)
    /// A pointer to each row's state in the current layer: [rows].
    let states: UnsafeMutablePointer<UnsafeMutablePointer<Float>>

    // What the batch was wanted for.
    private var place: [Int] = []
    private(set) var logitRows: [Int] = []
    private var hiddenRows: [Int] = []
    private(set) var logits: [Float] = []
    private var hidden: [Float] = []

    /// - Parameters:
    ///   - maxRows: the most rows of one batch, 1 or more; memory for them is touched only when used.
    ///   - kernels: the table to compute with; all give the same bits.
    package init(model: Model, workers: WorkerPool, maxRows: Int = 512, kernels: Kernels.Table) {
        precondition(maxRows > 0)
        self.model = model
        self.workers = workers
        self.maxRows = maxRows
        self.kernels = kernels
        shape = model.shape
        weights = model.weights
        scratch = Scratch(shape: model.shape, maxRows: maxRows, workers: workers.count)
        states = .allocate(capacity: maxRows)
        rows.reserveCapacity(maxRows)
        place.reserveCapacity(maxRows)
        logitRows.reserveCapacity(maxRows)
        hiddenRows.reserveCapacity(maxRows)
    }

    deinit { states.deallocate() }

    package func resetTimings() {
        productNanoseconds = 0
        totalNanoseconds = 0
    }

    /// Feeds every row to its slot, in order, and keeps what each row wants until the next call.
    ///
    /// - Precondition: at most `maxRows` rows; tokens below the vocabulary's size; slots of `pool`.
    package func run(_ batch: [BatchRow], states pool: borrowing StatePool) {
        precondition(
            batch.count <= maxRows, "a batch of \(batch.count) rows; the most is \(maxRows)")
        guard !batch.isEmpty else { return }
        let began = monotonicNanoseconds()
        take(batch, slots: pool.slots)
        for layer in 0..<shape.layers {
            for row in 0..<count { states[row] = pool.layer(layer, of: rows[row].slot) }
            region(layer == 0 ? .enter : .mixNorm(layer: layer))
            region(.mixProducts(layer: layer))
            region(.scan(layer: layer))
            region(.gate(layer: layer))
            region(.outputProduct(layer: layer))
            region(.feedForwardNorm(layer: layer))
            region(.gateUpProduct(layer: layer))
            region(.swiglu(layer: layer))
            region(.downProduct(layer: layer))
        }
        region(.leave)
        finish()
        totalNanoseconds &+= monotonicNanoseconds() &- began
    }

    /// The logits of row `row` of the last batch: [vocabulary]. That row must have wanted them.
    package func withLogits<R>(
        row: Int, _ body: (UnsafeBufferPointer<Float>) throws -> R
    ) rethrows -> R {
        precondition(rows[row].wants == .logits, "row \(row) did not want logits")
        return try logits.withUnsafeBufferPointer {
            try body(
                .init(
                    rebasing: $0[
                        place[row] * shape.vocabulary..<(place[row] + 1) * shape.vocabulary]))
        }
    }

    /// The final hidden state of row `row` of the last batch, after model.norm: [hidden]. That row must have wanted it.
    package func withHidden<R>(
        row: Int, _ body: (UnsafeBufferPointer<Float>) throws -> R
    ) rethrows -> R {
        precondition(rows[row].wants == .hidden, "row \(row) did not want its hidden state")
        return try hidden.withUnsafeBufferPointer {
            try body(
                .init(rebasing: $0[place[row] * shape.hidden..<(place[row] + 1) * shape.hidden]))
        }
    }

    private func take(_ batch: [BatchRow], slots: Int) {
        rows.removeAll(keepingCapacity: true)
        place.removeAll(keepingCapacity: true)
        logitRows.removeAll(keepingCapacity: true)
        hiddenRows.removeAll(keepingCapacity: true)
        for (number, row) in batch.enumerated() {
            precondition(
                row.token < UInt32(shape.vocabulary), "token \(row.token) is not in the vocabulary")
            precondition(row.slot >= 0 && row.slot < slots, "slot \(row.slot) is not in the pool")
            rows.append(row)
            switch row.wants {
            case .nothing: place.append(-1)
            case .logits:
                place.append(logitRows.count)
                logitRows.append(number)
            case .hidden:
                place.append(hiddenRows.count)
                hiddenRows.append(number)
            }
        }
    }

    /// What the rows want, out of the residual stream.
    private func finish() {
        grow(&hidden, to: hiddenRows.count * shape.hidden)
        for (index, row) in hiddenRows.enumerated() {
            hidden.withUnsafeMutableBufferPointer {
                kernels.pointee.norm(
                    scratch.residual + row * shape.hidden, shape.hidden, weights.finalNorm,
                    shape.epsilon, $0.baseAddress! + index * shape.hidden)
            }
        }
        grow(&logits, to: logitRows.count * shape.vocabulary)
        var first = 0
        while first < logitRows.count {
            let end = min(first + Scratch.logitRows, logitRows.count)
            region(.headNorm(first: first, end: end))
            logits.withUnsafeMutableBufferPointer {
                region(.headProduct(first: first, end: end, out: $0.baseAddress!))
            }
            first = end
        }
    }

    private func grow(_ values: inout [Float], to count: Int) {
        if values.count < count {
            values.append(contentsOf: repeatElement(0, count: count - values.count))
        }
    }

    /// Runs one stage: on all workers if it is worth it, on the caller alone otherwise.
    private func region(_ next: Stage) {
        stage = next
        let began = next.isProduct ? monotonicNanoseconds() : 0
        if next.isProduct || count >= Stage.rowsWorthSharing {
            workers.run(Unmanaged.passUnretained(self).toOpaque()) { context, worker in
                let evaluator = Unmanaged<Evaluator>.fromOpaque(context).takeUnretainedValue()
                evaluator.work(worker, of: evaluator.workers.count)
            }
        } else {
            work(0, of: 1)
        }
        if next.isProduct { productNanoseconds &+= monotonicNanoseconds() &- began }
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
package func monotonicNanoseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) &* 1_000_000_000 &+ UInt64(now.tv_nsec)
}
