// SPDX-License-Identifier: Apache-2.0
//
// The forward pass. A batch is one matrix to the ternary products; only the recurrence walks its rows in order. Each layer
// is four products with row work before each. With four rows or more the row work is shared out in regions of its own. With
// fewer it is the caller's, while the other workers read ahead into the weights they are about to need: memory, which bounds the
// speed of a single row, never rests; and what belongs to one channel alone, the recurrence and silu, is done by whoever has
// just computed that channel. No result depends on how work is shared out, so logits and states are the same bits for any
// batch, chunking, thread count and kernel table.

import CKernels
import CLinux
import ModelStore

/// Runs batches of rows through a model. Owned by one thread.
///
/// The pool orders what its workers read after what the owner writes, so what they touch in every region is not checked for
/// exclusive access at run time: the checks cost 1 % of a token.
package final class Evaluator {
    package let model: Model
    /// The most rows `run` takes at once.
    package let maxRows: Int
    /// Time spent in ternary products, and in all of `run`, since the last `resetTimings`. Nanoseconds. What is fused with a
    /// product is timed in one layer of each run and taken off for all of them.
    @exclusivity(unchecked) package private(set) var productNanoseconds: UInt64 = 0
    package private(set) var totalNanoseconds: UInt64 = 0

    let shape: ModelShape
    let weights: Weights
    let kernels: Kernels.Table
    let scratch: Scratch
    private let workers: WorkerPool
    private let progress: Progress
    private var timedLayer = 0
    @exclusivity(unchecked) private var fusedNanoseconds: UInt64 = 0

    // The batch under way, read by the workers.
    @exclusivity(unchecked) private(set) var rows: [BatchRow] = []
    var count: Int { rows.count }
    var workerCount: Int { workers.count }
    @exclusivity(unchecked) private var step = Step(stage: .enter, product: nil)
    @exclusivity(unchecked) var shares: WorkShares
    /// Where each row's state in the current layer is read, and where it is written: [rows].
    let states: UnsafeMutablePointer<(from: UnsafePointer<Float>, to: UnsafeMutablePointer<Float>)>

    // What the batch was wanted for.
    private var place: [Int] = []
    @exclusivity(unchecked) private(set) var logitRows: [Int] = []
    private var hiddenRows: [Int] = []
    private(set) var logits: [Float] = []
    private var hidden: [Float] = []

    /// - Parameters:
    ///   - maxRows: the most rows of one batch, 1 or more; memory for them is touched only when used.
    ///   - kernels: the table to compute with; all give the same bits.
    ///   - progress: told of every layer.
    /// - Throws: `noMemory`.
    package init(
        model: Model, workers: WorkerPool, maxRows: Int = 512, kernels: Kernels.Table,
        progress: Progress = Progress()
    ) throws(ModelError) {
        precondition(maxRows > 0)
        self.model = model
        self.workers = workers
        self.maxRows = maxRows
        self.kernels = kernels
        self.progress = progress
        shape = model.shape
        weights = model.weights
        scratch = try Scratch(shape: model.shape, maxRows: maxRows, workers: workers.count)
        shares = WorkShares(workers: workers.count)
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
        let began = cl_monotonic_nanoseconds()
        take(batch, slots: pool.slots)
        timedLayer = (timedLayer + 1) % shape.layers
        fusedNanoseconds = 0
        for layer in 0..<shape.layers {
            progress.advance()
            for row in 0..<count {
                states[row] = (
                    UnsafePointer(pool.layer(layer, of: rows[row].from)),
                    pool.layer(layer, of: rows[row].to)
                )
            }
            perform(layer == 0 ? .enter : .mixNorm(layer: layer), then: .mix(layer: layer))
            if !isFused(.mix(layer: layer)) { perform(.scan(layer: layer)) }
            perform(.gate(layer: layer), then: .output(layer: layer))
            perform(.feedForwardNorm(layer: layer), then: .gateUp(layer: layer))
            let isFused = isFused(.gateUp(layer: layer))
            perform(
                isFused ? .downNorm(layer: layer) : .swiglu(layer: layer), then: .down(layer: layer)
            )
        }
        perform(.leave)
        finish()
        totalNanoseconds &+= cl_monotonic_nanoseconds() &- began
        productNanoseconds &-= min(fusedNanoseconds &* UInt64(shape.layers), productNanoseconds)
    }

    /// Does what is fused with a product of `layer`.
    func fused(_ layer: Int, _ worker: Int, _ body: () -> Void) {
        guard layer == timedLayer, worker == 0 else { return body() }
        let began = cl_monotonic_nanoseconds()
        body()
        fusedNanoseconds &+= cl_monotonic_nanoseconds() &- began
    }

    /// The logits of row `row` of the last batch: [vocabulary]. That row must have wanted them.
    package func withLogits<R>(
        row: Int, _ body: (UnsafeBufferPointer<Float>) throws -> R
    ) rethrows -> R {
        try withLogits(rows: row..<row + 1, body)
    }

    /// The logits of rows one after the other of the last batch: [rows][vocabulary]. All must have wanted them.
    package func withLogits<R>(
        rows wanted: Range<Int>, _ body: (UnsafeBufferPointer<Float>) throws -> R
    ) rethrows -> R {
        for row in wanted {
            precondition(rows[row].wants == .logits, "row \(row) did not want logits")
        }
        let first = place[wanted.lowerBound] * shape.vocabulary
        return try logits.withUnsafeBufferPointer {
            try body(.init(rebasing: $0[first..<first + wanted.count * shape.vocabulary]))
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
            precondition(
                row.from >= 0 && row.from < slots && row.to >= 0 && row.to < slots,
                "slots \(row.from) and \(row.to): the pool has \(slots)")
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
            logits.withUnsafeMutableBufferPointer {
                perform(
                    .headNorm(first: first, end: end),
                    then: .head(
                        rows: end - first, out: $0.baseAddress! + first * shape.vocabulary))
            }
            first = end
        }
    }

    private func grow(_ values: inout [Float], to count: Int) {
        if values.count < count {
            values.append(contentsOf: repeatElement(0, count: count - values.count))
        }
    }

    /// Row work and the product that needs it.
    private struct Step {
        var stage: RowStage
        var product: Product?
    }

    /// Runs a stage of row work, and then the product.
    ///
    /// With up to three rows the row work is the caller's alone, while the others read ahead.
    private func perform(_ stage: RowStage, then product: Product? = nil) {
        step = Step(stage: stage, product: product)
        if isFew && !isSplit {
            workAll(stage)
        } else {
            share(stage)
            region { evaluator($0).workStage($1) }
        }
        guard let product else { return }
        share(product)
        let began = cl_monotonic_nanoseconds()
        region { evaluator($0).workProduct($1) }
        productNanoseconds &+= cl_monotonic_nanoseconds() &- began
    }

    /// Whether all rows make one block.
    private var isFew: Bool { count <= Int(CK_BLOCK) }
    /// From this many rows on, row work is worth sharing out.
    private static let splitRows = 4
    /// Whether workers share out the rows of one block. The rows of a block lie in the same cache lines, which several
    /// workers cannot fill at once: so they quantise each row to lie alone, and then each worker makes a block for itself.
    var isSplit: Bool { isFew && count >= Self.splitRows && workerCount > 1 }

    private func workStage(_ worker: Int) { work(step.stage, worker) }

    private func workProduct(_ worker: Int) {
        guard let product = step.product else { return }
        work(product, worker)
        guard isFew else { return }
        if worker == 0 {
            readAheadRowWeights(after: product)
        } else {
            workers.readAhead(worker, from: firstByte(after: product, worker))
        }
    }

    /// Runs `body` on the caller and on the workers that come in time.
    private func region(_ body: WorkerPool.Body) {
        workers.share(Unmanaged.passUnretained(self).toOpaque(), body)
    }
}

private func evaluator(_ context: UnsafeMutableRawPointer) -> Evaluator {
    Unmanaged<Evaluator>.fromOpaque(context).takeUnretainedValue()
}
