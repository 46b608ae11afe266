// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

/// A part of the forward pass that workers can share out: by rows, or by channels for the scan.
enum RowStage {
    /// Embedding rows into the residual stream, then as `mixNorm` of layer 0.
    case enter
    /// Adds the layer before's down product to the residual; attn_norm and the norms inside the i, f, g products, quantised.
    case mixNorm(layer: Int)
    /// The recurrence, row after row, over a range of channels.
    case scan(layer: Int)
    /// g_norm times the gate, then the norm inside the output product, quantised.
    case gate(layer: Int)
    /// Adds the output product to the residual; mlp_norm and the norm inside the gate-and-up product, quantised.
    case feedForwardNorm(layer: Int)
    /// The norm inside the down product of silu(gate) times up, quantised.
    case downNorm(layer: Int)
    /// silu(gate) times up, and then the same.
    case swiglu(layer: Int)
    /// Adds the last down product to the residual.
    case leave
    /// model.norm and the norm inside the head, for logit rows first ..< end.
    case headNorm(first: Int, end: Int)
}

extension Evaluator {
    /// Lays out the rows, or the channels, of a stage for the workers.
    func share(_ stage: RowStage) {
        switch stage {
        case .scan: shareChannels(shape.inner)
        case .headNorm(let first, let end): shares.reset(end - first, chunk: 1)
        // Whole blocks when there are many rows, so that no two workers write into one block of quantised values.
        default: shares.reset(count, chunk: count > 4 * workerCount * 8 ? 8 : 1)
        }
    }

    /// Channels are shared out in whole cache lines.
    private static let channelLine = 16

    private func shareChannels(_ channels: Int) {
        let lines = (channels + Self.channelLine - 1) / Self.channelLine
        shares.reset(lines, chunk: max(1, lines / (workerCount * 4)))
    }

    private func channels(_ lines: Range<Int>, of all: Int) -> Range<Int> {
        lines.lowerBound * Self.channelLine..<min(lines.upperBound * Self.channelLine, all)
    }

    /// Worker `worker`'s share of a stage.
    func work(_ stage: RowStage, _ worker: Int) {
        while let part = shares.next(worker) {
            switch stage {
            case .scan(let layer):
                let (channels, width) = (
                    channels(part, of: shape.inner), Scratch.padded(shape.inner)
                )
                scan(
                    weights.layers[layer], channels, scratch.products + channels.lowerBound,
                    forget: width, stride: 3 * width)
            default: for row in part { work(stage, row: row, worker) }
            }
        }
    }

    /// All of a stage of rows, by the caller alone.
    func workAll(_ stage: RowStage) {
        switch stage {
        case .headNorm(let first, let end):
            for row in 0..<end - first { work(stage, row: row, 0) }
        default: for row in 0..<count { work(stage, row: row, 0) }
        }
    }

    private func work(_ stage: RowStage, row: Int, _ worker: Int) {
        switch stage {
        case .enter:
            weights.embedding.read(Int(rows[row].token), into: residual(row), with: kernels)
            quantiseMix(row, weights.layers[0], worker)
        case .mixNorm(let layer):
            addProduct(of: weights.layers[layer - 1].down, to: row)
            quantiseMix(row, weights.layers[layer], worker)
        case .scan: break
        case .gate(let layer): quantiseGate(row, weights.layers[layer], worker)
        case .feedForwardNorm(let layer):
            let layer = weights.layers[layer]
            addProduct(of: layer.output, to: row)
            kernels.pointee.norm_quantise(
                residual(row), shape.hidden, layer.feedForwardNorm, shape.epsilon,
                layer.gateUpNorm, 1, target(row, of: count, columns: shape.hidden, worker),
                scratch.work[worker])
        case .downNorm(let layer):
            quantiseDown(
                row, scratch.activations + row * shape.intermediate, weights.layers[layer], worker)
        case .swiglu(let layer): swiglu(row, weights.layers[layer], worker)
        case .leave: addProduct(of: weights.layers[shape.layers - 1].down, to: row)
        case .headNorm(let first, let end):
            kernels.pointee.norm_quantise(
                residual(logitRows[first + row]), shape.hidden, weights.finalNorm, shape.epsilon,
                weights.headNorm, 1, target(row, of: end - first, columns: shape.hidden, worker),
                scratch.work[worker])
        }
    }

    private func residual(_ row: Int) -> UnsafeMutablePointer<Float> {
        scratch.residual + row * shape.hidden
    }

    /// Where row `row` of `rows` goes in the first quantised set.
    private func target(
        _ row: Int, of rows: Int, columns: Int, _ worker: Int
    ) -> UnsafeMutablePointer<ck_quantised_row> {
        let target = scratch.targets[worker]
        target[0] = scratch.quantised[0].target(
            row: row, of: rows, columns: columns, alone: isSplit)
        return target
    }

    /// residual[row] += the product just computed for `matrix`.
    private func addProduct(of matrix: TernaryMatrix, to row: Int) {
        kernels.pointee.add_scaled(
            residual(row), scratch.products + row * Scratch.padded(matrix.rows),
            matrix.scale / scratch.quantised[0].inverses[row], shape.hidden)
    }

    private func quantiseMix(_ row: Int, _ layer: LayerWeights, _ worker: Int) {
        let targets = scratch.targets[worker]
        for set in 0..<3 {
            targets[set] = scratch.quantised[set].target(
                row: row, of: count, columns: shape.hidden, alone: isSplit)
        }
        kernels.pointee.norm_quantise(
            residual(row), shape.hidden, layer.attentionNorm, shape.epsilon, layer.mixNorms, 3,
            targets, scratch.work[worker])
    }

    /// The recurrence over `channels`, row by row. y: the first channel's input product; its forget product is `forget`
    /// further on, the next row's are `stride` further on.
    func scan(
        _ layer: LayerWeights, _ channels: Range<Int>, _ y: UnsafePointer<Int32>, forget: Int,
        stride: Int
    ) {
        guard !channels.isEmpty else { return }
        let first = channels.lowerBound
        for row in 0..<count {
            let y = y + row * stride
            kernels.pointee.recurrence(
                y, layer.input.scale / scratch.quantised[0].inverses[row],
                y + forget, layer.forget.scale / scratch.quantised[1].inverses[row],
                layer.lowerBound.map { $0 + first }, states[row].from + first,
                states[row].to + first,
                scratch.gates + row * shape.inner + first, channels.count)
        }
    }

    private func quantiseGate(_ row: Int, _ layer: LayerWeights, _ worker: Int) {
        let width = Scratch.padded(shape.inner)
        let scale = layer.gate.scale / scratch.quantised[2].inverses[row]
        kernels.pointee.gated_norm_quantise(
            scratch.products + (row * 3 + 2) * width, scale, shape.inner, layer.gateNorm,
            shape.epsilon, scratch.gates + row * shape.inner, layer.outputNorm,
            target(row, of: count, columns: shape.inner, worker), scratch.work[worker])
    }

    /// silu(gate) times up of `n` channels of one row; the up product is `up` after the gate's.
    func activate(
        _ row: Int, _ layer: LayerWeights, _ gate: UnsafePointer<Int32>, up: Int, _ n: Int,
        _ out: UnsafeMutablePointer<Float>
    ) {
        let scale = layer.gateUp.scale / scratch.quantised[0].inverses[row]
        kernels.pointee.swiglu(gate, scale, gate + up, scale, n, out)
    }

    private func quantiseDown(
        _ row: Int, _ values: UnsafePointer<Float>, _ layer: LayerWeights, _ worker: Int
    ) {
        kernels.pointee.norm_quantise(
            values, shape.intermediate, nil, 0, layer.downNorm, 1,
            target(row, of: count, columns: shape.intermediate, worker), scratch.work[worker])
    }

    private func swiglu(_ row: Int, _ layer: LayerWeights, _ worker: Int) {
        activate(
            row, layer, scratch.products + row * Scratch.padded(layer.gateUp.rows),
            up: shape.intermediate, shape.intermediate, scratch.work[worker])
        quantiseDown(row, scratch.work[worker], layer, worker)
    }
}
