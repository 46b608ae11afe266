// SPDX-License-Identifier: Apache-2.0

import CKernels

/// A parallel region of the forward pass. Products are shared out by tiles of the matrix, the scan by channels, the rest by
/// rows.
enum Stage {
    /// Embedding rows into the residual stream, then as `mixNorm` of layer 0.
    case enter
    /// Adds the layer before's down product to the residual; attn_norm and the norms inside the i, f, g products, quantised.
    case mixNorm(layer: Int)
    case mixProducts(layer: Int)
    /// The recurrence, row after row, over a range of channels.
    case scan(layer: Int)
    /// g_norm times the gate, then the norm inside the output product, quantised.
    case gate(layer: Int)
    case outputProduct(layer: Int)
    /// Adds the output product to the residual; mlp_norm and the norm inside the gate-and-up product, quantised.
    case feedForwardNorm(layer: Int)
    case gateUpProduct(layer: Int)
    case swiglu(layer: Int)
    case downProduct(layer: Int)
    /// Adds the last down product to the residual.
    case leave
    /// model.norm and the norm inside the head, for logit rows first ..< end.
    case headNorm(first: Int, end: Int)
    /// The head's product, scaled into out: [logit rows][vocabulary].
    case headProduct(first: Int, end: Int, out: UnsafeMutablePointer<Float>)

    var isProduct: Bool {
        switch self {
        case .mixProducts, .outputProduct, .gateUpProduct, .downProduct, .headProduct: true
        default: false
        }
    }

    /// Rows from which on row work is worth a region of its own.
    static let rowsWorthSharing = 3
}

extension Evaluator {
    /// Worker `worker`'s share of the current stage.
    func work(_ worker: Int, of workers: Int) {
        switch stage {
        case .enter:
            for row in rowRange(count, worker, workers) {
                weights.embedding.read(Int(rows[row].token), into: residual(row), with: kernels)
                quantiseMix(row, layer: 0, worker)
            }
        case .mixNorm(let layer):
            for row in rowRange(count, worker, workers) {
                addProduct(of: weights.layers[layer - 1].down, to: row)
                quantiseMix(row, layer: layer, worker)
            }
        case .mixProducts(let layer):
            mixProducts(weights.layers[layer], worker, workers)
        case .scan(let layer):
            scan(weights.layers[layer], channelRange(shape.inner, worker, workers))
        case .gate(let layer):
            for row in rowRange(count, worker, workers) {
                quantiseGate(row, weights.layers[layer], worker)
            }
        case .outputProduct(let layer):
            product(weights.layers[layer].output, rows: count, worker, workers)
        case .feedForwardNorm(let layer):
            let layer = weights.layers[layer]
            for row in rowRange(count, worker, workers) {
                addProduct(of: layer.output, to: row)
                let target = scratch.targets[worker]
                target[0] = scratch.quantised[0].target(row: row, of: count, columns: shape.hidden)
                kernels.pointee.norm_quantise(
                    residual(row), shape.hidden, layer.feedForwardNorm, shape.epsilon,
                    layer.gateUpNorm, 1,
                    target, scratch.work[worker])
            }
        case .gateUpProduct(let layer):
            product(weights.layers[layer].gateUp, rows: count, worker, workers)
        case .swiglu(let layer):
            let layer = weights.layers[layer]
            let stride = Scratch.padded(layer.gateUp.rows)
            for row in rowRange(count, worker, workers) {
                let scale = layer.gateUp.scale / scratch.quantised[0].inverses[row]
                let target = scratch.targets[worker]
                target[0] = scratch.quantised[0].target(
                    row: row, of: count, columns: shape.intermediate)
                kernels.pointee.swiglu_quantise(
                    scratch.products + row * stride, scale, shape.intermediate, layer.downNorm,
                    target,
                    scratch.work[worker])
            }
        case .downProduct(let layer):
            product(weights.layers[layer].down, rows: count, worker, workers)
        case .leave:
            for row in rowRange(count, worker, workers) {
                addProduct(of: weights.layers[shape.layers - 1].down, to: row)
            }
        case .headNorm(let first, let end):
            for index in rowRange(end - first, worker, workers) {
                let target = scratch.targets[worker]
                target[0] = scratch.quantised[0].target(
                    row: index, of: end - first, columns: shape.hidden)
                kernels.pointee.norm_quantise(
                    residual(logitRows[first + index]), shape.hidden, weights.finalNorm,
                    shape.epsilon,
                    weights.headNorm, 1, target, scratch.work[worker])
            }
        case .headProduct(let first, let end, let out):
            headProduct(rows: end - first, out: out + first * shape.vocabulary, worker, workers)
        }
    }

    private func residual(_ row: Int) -> UnsafeMutablePointer<Float> {
        scratch.residual + row * shape.hidden
    }

    /// residual[row] += the product just computed for `matrix`.
    private func addProduct(of matrix: TernaryMatrix, to row: Int) {
        kernels.pointee.add_scaled(
            residual(row), scratch.products + row * Scratch.padded(matrix.rows),
            matrix.scale / scratch.quantised[0].inverses[row], shape.hidden)
    }

    private func quantiseMix(_ row: Int, layer: Int, _ worker: Int) {
        let layer = weights.layers[layer]
        let targets = scratch.targets[worker]
        for set in 0..<3 {
            targets[set] = scratch.quantised[set].target(row: row, of: count, columns: shape.hidden)
        }
        kernels.pointee.norm_quantise(
            residual(row), shape.hidden, layer.attentionNorm, shape.epsilon, layer.mixNorms, 3,
            targets,
            scratch.work[worker])
    }

    /// The i, f and g products as one run of tiles: [rows][3][inner, padded].
    private func mixProducts(_ layer: LayerWeights, _ worker: Int, _ workers: Int) {
        let tiles = layer.input.tiles
        let stride = 3 * Scratch.padded(shape.inner)
        let share = tileRange(3 * tiles, worker, workers)
        for set in 0..<3 {
            let matrix = set == 0 ? layer.input : set == 1 ? layer.forget : layer.gate
            let begin = max(share.lowerBound - set * tiles, 0)
            let end = min(share.upperBound - set * tiles, tiles)
            guard begin < end else { continue }
            kernels.pointee.matmul(
                matrix.packed, matrix.columns, begin, end, scratch.quantised[set].values,
                scratch.quantised[set].sums, count,
                scratch.products + set * Scratch.padded(shape.inner), stride)
        }
    }

    private func scan(_ layer: LayerWeights, _ channels: Range<Int>) {
        guard !channels.isEmpty else { return }
        let width = Scratch.padded(shape.inner)
        let first = channels.lowerBound
        for row in 0..<count {
            let y = scratch.products + row * 3 * width + first
            kernels.pointee.recurrence(
                y, layer.input.scale / scratch.quantised[0].inverses[row],
                y + width, layer.forget.scale / scratch.quantised[1].inverses[row],
                layer.lowerBound.map { $0 + first }, states[row] + first,
                scratch.gates + row * shape.inner + first, channels.count)
        }
    }

    private func quantiseGate(_ row: Int, _ layer: LayerWeights, _ worker: Int) {
        let width = Scratch.padded(shape.inner)
        let scale = layer.gate.scale / scratch.quantised[2].inverses[row]
        let target = scratch.targets[worker]
        target[0] = scratch.quantised[0].target(row: row, of: count, columns: shape.inner)
        kernels.pointee.gated_norm_quantise(
            scratch.products + (row * 3 + 2) * width, scale, shape.inner, layer.gateNorm,
            shape.epsilon,
            scratch.gates + row * shape.inner, layer.outputNorm, target, scratch.work[worker])
    }

    /// One worker's tiles of `matrix` times the first quantised set, into `products`: [rows][matrix rows, padded].
    private func product(_ matrix: TernaryMatrix, rows: Int, _ worker: Int, _ workers: Int) {
        let tiles = tileRange(matrix.tiles, worker, workers)
        guard !tiles.isEmpty else { return }
        kernels.pointee.matmul(
            matrix.packed, matrix.columns, tiles.lowerBound, tiles.upperBound,
            scratch.quantised[0].values,
            scratch.quantised[0].sums, rows, scratch.products, Scratch.padded(matrix.rows))
    }

    private func headProduct(
        rows: Int, out: UnsafeMutablePointer<Float>, _ worker: Int, _ workers: Int
    ) {
        let head = weights.head
        product(head, rows: rows, worker, workers)
        let tiles = tileRange(head.tiles, worker, workers)
        let first = tiles.lowerBound * 16
        let end = min(tiles.upperBound * 16, head.rows)
        guard first < end else { return }
        for row in 0..<rows {
            kernels.pointee.scale(
                out + row * shape.vocabulary + first,
                scratch.products + row * Scratch.padded(head.rows) + first,
                head.scale / scratch.quantised[0].inverses[row], end - first)
        }
    }
}

/// Part `part` of `parts` of `units` things, in multiples of `multiple`.
private func share(_ units: Int, _ part: Int, _ parts: Int, multiple: Int) -> Range<Int> {
    let groups = (units + multiple - 1) / multiple
    let begin = min(groups * part / parts * multiple, units)
    return begin..<min(groups * (part + 1) / parts * multiple, units)
}

/// Whole pairs of tiles: the wide kernels take two at a time.
private func tileRange(_ tiles: Int, _ worker: Int, _ workers: Int) -> Range<Int> {
    share(tiles, worker, workers, multiple: 2)
}

/// Whole cache lines of channels.
private func channelRange(_ channels: Int, _ worker: Int, _ workers: Int) -> Range<Int> {
    share(channels, worker, workers, multiple: 16)
}

/// Whole blocks when there are many rows, so that no two workers write into one block of quantised values.
private func rowRange(_ rows: Int, _ worker: Int, _ workers: Int) -> Range<Int> {
    share(rows, worker, workers, multiple: rows > 2 * workers * 8 ? 8 : 1)
}
