// SPDX-License-Identifier: Apache-2.0

import CKernels

extension Evaluator {
    /// Lays out the rows, channels or heads of row work for the workers.
    func share(_ work: Work) {
        switch work {
        case .channels(let recurrence):
            let lines = (recurrence.channels + Self.channelLine - 1) / Self.channelLine
            shares.reset(lines, chunk: max(1, lines / (workerCount * 4)))
        case .heads(let attention): shareHeads(attention)
        case .logitRows: shares.reset(headRows.count, chunk: 1)
        // Whole blocks when there are many rows, so that no two workers write into one block of quantised values.
        case .rows: shares.reset(count, chunk: count > 4 * workerCount * 8 ? 8 : 1)
        }
    }

    /// Channels are shared out in whole cache lines.
    private static let channelLine = 16

    /// Worker `worker`'s share of row work.
    func work(_ work: Work, _ worker: Int) {
        while let part = shares.next(worker) {
            switch work {
            case .channels(let recurrence):
                let first = part.lowerBound * Self.channelLine
                let end = min(part.upperBound * Self.channelLine, recurrence.channels)
                let (input, forget) = (recurrence.input, recurrence.forget)
                scan(
                    recurrence, first..<end, scratch.products + input.offset + first,
                    forget: forget.offset - input.offset, stride: input.stride)
            case .heads(let attention): for unit in part { attend(attention, unit, worker) }
            case .rows(let operations), .logitRows(let operations):
                for row in part { perform(operations, row, worker) }
            }
        }
    }

    /// All of the rows' work, by the caller alone.
    func workAll(_ work: Work) {
        switch work {
        case .rows(let operations): for row in 0..<count { perform(operations, row, 0) }
        case .logitRows(let operations):
            for row in 0..<headRows.count { perform(operations, row, 0) }
        case .channels, .heads: break
        }
    }

    private func perform(
        _ operations: UnsafeBufferPointer<RowOperation>, _ row: Int, _ worker: Int
    ) {
        for operation in operations {
            switch operation {
            case .embed:
                program.embedding.read(Int(rows[row].token), into: residual(row), with: kernels)
            case .add(let operand):
                kernels.pointee.add_scaled(
                    residual(row), products(operand, row), scale(of: operand, row),
                    operand.matrix.rows)
            case .quantise(let quantisation):
                let source = headRows.isEmpty ? row : logitRows[headRows.lowerBound + row]
                quantise(quantisation, residual(source), row, worker)
            case .gate(let gate): quantise(gate, row, worker)
            case .activate(let activation, let quantisation):
                activate(activation, quantisation, row, worker)
            case .remember(let attention): remember(attention, row, worker)
            case .quantiseMixed(let quantisation):
                quantise(
                    quantisation, scratch.mixed + row * quantisation.columns, row, worker)
            }
        }
    }

    // MARK: One row

    private func residual(_ row: Int) -> UnsafeMutablePointer<Float> {
        scratch.residual + row * program.sizes.hidden
    }

    /// A row's products of an operand.
    func products(_ operand: Operand, _ row: Int) -> UnsafePointer<Int32> {
        UnsafePointer(scratch.products + row * operand.stride + operand.offset)
    }

    /// What a row's products of an operand are to be multiplied by.
    func scale(of operand: Operand, _ row: Int) -> Float {
        operand.matrix.scale / scratch.quantised[operand.set].inverses[row]
    }

    /// Where row `row` goes in the first sets of quantised rows.
    private func targets(
        _ row: Int, columns: Int, sets: Int, _ worker: Int
    ) -> UnsafeMutablePointer<ck_quantised_row> {
        let targets = scratch.targets[worker]
        let rows = headRows.isEmpty ? count : headRows.count
        for set in 0..<sets {
            targets[set] = scratch.quantised[set].target(
                row: row, of: rows, columns: columns, alone: isSplit)
        }
        return targets
    }

    private func quantise(
        _ q: Quantisation, _ values: UnsafePointer<Float>, _ row: Int, _ worker: Int
    ) {
        let targets = targets(row, columns: q.columns, sets: q.sets, worker)
        switch q.rounding {
        case .away:
            guard let inner = q.inner else { preconditionFailure("no norm inside") }
            kernels.pointee.norm_quantise(
                values, q.columns, q.outer?.weights, q.outerEpsilon, inner, q.sets, targets,
                scratch.work[worker])
        case .even:
            kernels.pointee.norm_quantise_even(
                values, q.columns, q.outer?.weights, q.outerEpsilon, q.inner, q.innerEpsilon,
                q.sets, targets, scratch.work[worker])
        }
    }

    private func quantise(_ gate: Gate, _ row: Int, _ worker: Int) {
        let n = gate.norm.count
        kernels.pointee.gated_norm_quantise(
            products(gate.gate, row), scale(of: gate.gate, row), n, gate.norm.weights,
            gate.epsilon, scratch.mixed + row * n, gate.inner.weights,
            targets(row, columns: n, sets: 1, worker), scratch.work[worker])
    }

    /// The recurrence over `channels`, row by row. y: the first channel's input product; its forget product is `forget`
    /// further on, the next row's are `stride` further on.
    func scan(
        _ recurrence: Recurrence, _ channels: Range<Int>, _ y: UnsafePointer<Int32>, forget: Int,
        stride: Int
    ) {
        guard !channels.isEmpty else { return }
        let first = channels.lowerBound
        for row in 0..<count {
            let y = y + row * stride
            kernels.pointee.recurrence(
                y, scale(of: recurrence.input, row), y + forget, scale(of: recurrence.forget, row),
                recurrence.bound.map { $0 + first }, states[row].from + first,
                states[row].to + first, scratch.mixed + row * recurrence.channels + first,
                channels.count)
        }
    }

    /// The gated feed-forward's middle, of `n` channels of one row.
    func activate(
        _ activation: Activation, _ row: Int, _ gate: UnsafePointer<Int32>,
        _ up: UnsafePointer<Int32>, _ n: Int, _ out: UnsafeMutablePointer<Float>
    ) {
        let (gateScale, upScale) = (scale(of: activation.gate, row), scale(of: activation.up, row))
        switch activation.kind {
        case .silu: kernels.pointee.swiglu(gate, gateScale, up, upScale, n, out)
        case .relu2: kernels.pointee.relu2(gate, gateScale, up, upScale, n, out)
        }
    }

    private func activate(
        _ activation: Activation, _ quantisation: Quantisation, _ row: Int, _ worker: Int
    ) {
        if fusesChannels, activation.isFusable {
            let values = scratch.activations + row * activation.channels
            return quantise(quantisation, values, row, worker)
        }
        let values = scratch.work[worker]
        activate(
            activation, row, products(activation.gate, row), products(activation.up, row),
            activation.channels, values)
        quantise(quantisation, values, row, worker)
    }
}
