// SPDX-License-Identifier: Apache-2.0
//
// The forward pass: runs a program's steps. A batch is one matrix to the ternary products; only a recurrence walks its rows in order. Each
// layer is four products with row work before each. With four rows or more the row work is shared out in regions of its own. With
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

    let program: Program
    private let hiddenWidth: Int
    private let vocabulary: Int
    let kernels: Kernels.Table
    let tuning: Tuning
    let scratch: Scratch
    private let workers: WorkerPool
    private let progress: Progress
    private var timedLayer = 0
    @exclusivity(unchecked) private var layer = 0
    @exclusivity(unchecked) private var fusedNanoseconds: UInt64 = 0

    // The batch under way, read by the workers.
    @exclusivity(unchecked) private(set) var rows: [BatchRow] = []
    var count: Int { rows.count }
    var workerCount: Int { workers.count }
    @exclusivity(unchecked) private var step: Step
    @exclusivity(unchecked) var shares: WorkShares
    /// Where each row's state in the current layer is read, and where it is written: [rows]. Recurrent models.
    let states: UnsafeMutablePointer<(from: UnsafePointer<Float>, to: UnsafeMutablePointer<Float>)>
    /// Where each row's keys and values are, and where its own go: [rows]. Models with attention.
    let views: UnsafeMutablePointer<AttentionView>
    @exclusivity(unchecked) private(set) var copies: [AttentionCopy] = []

    // What the batch was wanted for.
    private var place: [Int] = []
    @exclusivity(unchecked) private(set) var logitRows: [Int] = []
    /// Those that the head is computed for now, and where their logits go.
    @exclusivity(unchecked) private(set) var headRows = 0..<0
    @exclusivity(unchecked) private(set) var headOutput: UnsafeMutablePointer<Float>?
    private var hiddenRows: [Int] = []
    private(set) var logits: [Float] = []
    private var hidden: [Float] = []

    /// - Parameters:
    ///   - maxRows: the most rows of one batch, 1 or more; memory for them is touched only when used.
    ///   - kernels: the table to compute with; all give the same bits.
    ///   - progress: told of every layer.
    ///   - tuning: how the work is cut; `nil` is what is best for the kernels, or what the environment says.
    /// - Throws: `noMemory`, `badTuning`.
    package init(
        model: Model, workers: WorkerPool, maxRows: Int = 512, kernels: Kernels.Table,
        progress: Progress = Progress(), tuning: Tuning? = nil
    ) throws(ModelError) {
        precondition(maxRows > 0)
        self.model = model
        self.workers = workers
        self.maxRows = maxRows
        self.kernels = kernels
        if let tuning {
            self.tuning = tuning
        } else {
            self.tuning = try Tuning.fromEnvironment(kernels)
        }
        self.progress = progress
        program = model.program
        hiddenWidth = model.shape.hidden
        vocabulary = model.shape.vocabulary
        step = program.leave
        scratch = try Scratch(program.sizes, maxRows: maxRows, workers: workers.count)
        shares = WorkShares(workers: workers.count)
        states = .allocate(capacity: maxRows)
        views = .allocate(capacity: maxRows)
        rows.reserveCapacity(maxRows)
        place.reserveCapacity(maxRows)
        logitRows.reserveCapacity(maxRows)
        hiddenRows.reserveCapacity(maxRows)
    }

    deinit {
        states.deallocate()
        views.deallocate()
    }

    package func resetTimings() {
        productNanoseconds = 0
        totalNanoseconds = 0
    }

    /// Feeds every row to its slot, in order, and keeps what each row wants until the next call.
    ///
    /// - Throws: `noMemory`, for keys and values; then no slot has changed.
    /// - Precondition: at most `maxRows` rows; tokens below the vocabulary's size; slots of `pool`; no sequence longer than the context.
    package func run(_ batch: [BatchRow], states pool: borrowing StatePool) throws(ModelError) {
        precondition(
            batch.count <= maxRows, "a batch of \(batch.count) rows; the most is \(maxRows)")
        guard !batch.isEmpty else { return }
        let began = cl_monotonic_nanoseconds()
        take(batch, slots: pool.slots)
        if case .attention(let states) = pool.memory {
            copies = try states.assign(rows, views)
            for row in 0..<count {
                states.shape.rotation(
                    of: views[row].position,
                    into: scratch.rotations + row * states.shape.headSize)
            }
        }
        timedLayer = (timedLayer + 1) % program.layers
        fusedNanoseconds = 0
        for layer in 0..<program.layers {
            progress.advance()
            self.layer = layer
            if case .recurrent(let memory) = pool.memory {
                for row in 0..<count {
                    states[row] = (
                        UnsafePointer(memory.layer(layer, of: rows[row].from)),
                        memory.layer(layer, of: rows[row].to)
                    )
                }
            }
            for step in program.steps(of: layer) { perform(step) }
        }
        perform(program.leave)
        finish()
        if case .attention(let states) = pool.memory { states.endBatch() }
        totalNanoseconds &+= cl_monotonic_nanoseconds() &- began
        productNanoseconds &-= min(
            fusedNanoseconds &* UInt64(program.layers), productNanoseconds)
    }

    /// Does what is fused with a product.
    func fused(_ worker: Int, _ body: () -> Void) {
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
        let first = place[wanted.lowerBound] * vocabulary
        return try logits.withUnsafeBufferPointer {
            try body(.init(rebasing: $0[first..<first + wanted.count * vocabulary]))
        }
    }

    /// The final hidden state of row `row` of the last batch, after model.norm: [hidden]. That row must have wanted it.
    package func withHidden<R>(
        row: Int, _ body: (UnsafeBufferPointer<Float>) throws -> R
    ) rethrows -> R {
        precondition(rows[row].wants == .hidden, "row \(row) did not want its hidden state")
        return try hidden.withUnsafeBufferPointer {
            try body(
                .init(rebasing: $0[place[row] * hiddenWidth..<(place[row] + 1) * hiddenWidth]))
        }
    }

    private func take(_ batch: [BatchRow], slots: Int) {
        rows.removeAll(keepingCapacity: true)
        place.removeAll(keepingCapacity: true)
        logitRows.removeAll(keepingCapacity: true)
        hiddenRows.removeAll(keepingCapacity: true)
        for (number, row) in batch.enumerated() {
            precondition(
                row.token < UInt32(vocabulary), "token \(row.token) is not in the vocabulary")
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
        grow(&hidden, to: hiddenRows.count * hiddenWidth)
        for (index, row) in hiddenRows.enumerated() {
            hidden.withUnsafeMutableBufferPointer {
                norm(row, into: $0.baseAddress! + index * hiddenWidth)
            }
        }
        grow(&logits, to: logitRows.count * vocabulary)
        var first = 0
        while first < logitRows.count {
            headRows = first..<min(first + Scratch.logitRows, logitRows.count)
            logits.withUnsafeMutableBufferPointer {
                headOutput = $0.baseAddress! + first * vocabulary
                computeHead()
            }
            first = headRows.upperBound
        }
        headRows = 0..<0
        headOutput = nil
    }

    /// The logits of `headRows`.
    private func computeHead() {
        switch program.head {
        case .ternary(let step): perform(step)
        case .dense(let matrix):
            for (place, index) in headRows.enumerated() {
                norm(logitRows[index], into: scratch.normed + place * hiddenWidth)
            }
            shareDense(matrix)
            region { evaluator($0).workDense($1) }
        case .none: preconditionFailure("an embedding model has no logits")
        }
    }

    /// The last norm of a row.
    private func norm(_ row: Int, into out: UnsafeMutablePointer<Float>) {
        kernels.pointee.norm(
            scratch.residual + row * hiddenWidth, hiddenWidth, program.finalNorm.weights,
            program.epsilon, out)
    }

    private func grow(_ values: inout [Float], to count: Int) {
        if values.count < count {
            values.append(contentsOf: repeatElement(0, count: count - values.count))
        }
    }

    /// Runs a step's row work, and then its product.
    ///
    /// With up to three rows the row work is the caller's alone, while the others read ahead.
    private func perform(_ step: Step) {
        self.step = step
        switch step.work {
        case .channels where fusesChannels: break
        case .rows where isFew && !isSplit, .logitRows where isFew && !isSplit:
            workAll(step.work)
        default:
            share(step.work)
            region { evaluator($0).workStage($1) }
        }
        guard let product = step.product else { return }
        share(product)
        let began = cl_monotonic_nanoseconds()
        region { evaluator($0).workProduct($1) }
        productNanoseconds &+= cl_monotonic_nanoseconds() &- began
    }

    /// Whether all rows make one block.
    private var isFew: Bool { count <= Int(CK_BLOCK) }
    /// Whether what belongs to one channel is done as soon as the channel is multiplied.
    var fusesChannels: Bool { tuning.isFused && isFew }
    /// From this many rows on, row work is worth sharing out.
    private static let splitRows = 4
    /// Whether workers share out the rows of one block. The rows of a block lie in the same cache lines, which several
    /// workers cannot fill at once: so they quantise each row to lie alone, and then each worker makes a block for itself.
    var isSplit: Bool { isFew && count >= Self.splitRows && workerCount > 1 }

    private func workStage(_ worker: Int) { work(step.work, worker) }

    private func workProduct(_ worker: Int) {
        guard let product = step.product else { return }
        work(product, worker)
        guard isFew else { return }
        if worker == 0 {
            for norm in step.next.norms {
                ck_read_ahead(
                    UnsafeRawPointer(norm.weights).assumingMemoryBound(to: UInt8.self),
                    norm.count * 4)
            }
        } else {
            workers.readAhead(worker, from: step.next.matrix.flatMap { firstByte($0, worker) })
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
