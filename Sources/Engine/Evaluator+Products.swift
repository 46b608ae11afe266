// SPDX-License-Identifier: Apache-2.0

import CKernels

/// A ternary product of the forward pass.
enum Product {
    /// i, f and g over one input, as one run of tiles: [rows][3][inner, padded].
    case mix(layer: Int)
    case output(layer: Int)
    case gateUp(layer: Int)
    case down(layer: Int)
    /// The head, scaled into out: [rows][vocabulary].
    case head(rows: Int, out: UnsafeMutablePointer<Float>)
}

extension Evaluator {
    /// Bytes of a matrix a worker takes at a time: long enough to stream, short enough to leave some to others.
    private static let fewRowsChunk = 48 << 10
    /// With many rows the kernels keep this much of the matrix in the second-level cache while all rows pass.
    private static let manyRowsChunk = 256 << 10

    private func matrices(_ product: Product) -> (first: TernaryMatrix, sets: Int, rows: Int) {
        switch product {
        case .mix(let layer): (weights.layers[layer].input, 3, count)
        case .output(let layer): (weights.layers[layer].output, 1, count)
        case .gateUp(let layer): (weights.layers[layer].gateUp, 1, count)
        case .down(let layer): (weights.layers[layer].down, 1, count)
        case .head(let rows, _): (weights.head, 1, rows)
        }
    }

    /// Lays out the tiles of `product` for the workers.
    func share(_ product: Product) {
        let (matrix, sets, rows) = matrices(product)
        let tileBytes = matrix.bytes / matrix.tiles
        let limit = rows > Int(CK_BLOCK) ? Self.manyRowsChunk : Self.fewRowsChunk
        // Small matrices are cut finer, so that all workers are done at about the same time.
        let bytes = min(limit, sets * matrix.bytes / (workerCount * 6))
        shares.reset(sets * matrix.tiles, chunk: max(2, bytes / tileBytes / 2 * 2))
    }

    /// Worker `worker`'s tiles of `product`.
    func work(_ product: Product, _ worker: Int) {
        while let tiles = shares.next(worker) {
            switch product {
            case .mix(let layer): mix(weights.layers[layer], tiles)
            case .output(let layer): multiply(weights.layers[layer].output, tiles, rows: count)
            case .gateUp(let layer): multiply(weights.layers[layer].gateUp, tiles, rows: count)
            case .down(let layer): multiply(weights.layers[layer].down, tiles, rows: count)
            case .head(let rows, let out):
                multiply(weights.head, tiles, rows: rows)
                scaleHead(tiles, rows: rows, out: out)
            }
        }
    }

    /// Where worker `worker`'s own tiles of `product` begin.
    func firstByte(of product: Product, _ worker: Int) -> UnsafePointer<UInt8>? {
        let (first, sets, _) = matrices(product)
        let own = shares.run(worker)
        guard !own.isEmpty else { return nil }
        let (set, tile) = own.lowerBound.quotientAndRemainder(dividingBy: first.tiles)
        let matrix = sets == 1 ? first : mixMatrix(product, set)
        return matrix.packed + tile * (first.bytes / first.tiles)
    }

    /// Asks for what the row work after `product` will read, so that it does not wait for memory.
    func readAheadRowWeights(after product: Product) {
        func ask(_ values: UnsafePointer<Float>, _ count: Int) {
            ck_read_ahead(UnsafeRawPointer(values).assumingMemoryBound(to: UInt8.self), count * 4)
        }
        let (d, e) = (shape.hidden, shape.inner)
        switch product {
        case .mix(let layer):
            let layer = weights.layers[layer]
            for row in 0..<count { ask(states[row], e) }
            if let bound = layer.lowerBound { ask(bound, e) }
            ask(layer.gateNorm, e)
            ask(layer.outputNorm, e)
        case .output(let layer):
            ask(weights.layers[layer].feedForwardNorm, d)
            ask(weights.layers[layer].gateUpNorm[0], d)
        case .gateUp(let layer):
            ask(weights.layers[layer].downNorm[0], shape.intermediate)
        case .down(let layer) where layer + 1 < shape.layers:
            let next = weights.layers[layer + 1]
            ask(next.attentionNorm, d)
            for set in 0..<3 { ask(next.mixNorms[set], d) }
        case .down:
            ask(weights.finalNorm, d)
            ask(weights.headNorm[0], d)
        case .head: break
        }
    }

    private func mixMatrix(_ product: Product, _ set: Int) -> TernaryMatrix {
        guard case .mix(let layer) = product else { return matrices(product).first }
        return mixMatrix(weights.layers[layer], set)
    }

    private func mixMatrix(_ layer: LayerWeights, _ set: Int) -> TernaryMatrix {
        set == 0 ? layer.input : set == 1 ? layer.forget : layer.gate
    }

    private func mix(_ layer: LayerWeights, _ share: Range<Int>) {
        let tiles = layer.input.tiles
        let width = Scratch.padded(shape.inner)
        for set in share.lowerBound / tiles...(share.upperBound - 1) / tiles {
            let matrix = mixMatrix(layer, set)
            kernels.pointee.matmul(
                matrix.packed, matrix.columns, max(share.lowerBound - set * tiles, 0),
                min(share.upperBound - set * tiles, tiles), scratch.quantised[set].values,
                scratch.quantised[set].sums, count, scratch.products + set * width, 3 * width)
        }
    }

    /// Tiles of `matrix` times the first quantised set, into `products`: [rows][matrix rows, padded].
    private func multiply(_ matrix: TernaryMatrix, _ tiles: Range<Int>, rows: Int) {
        kernels.pointee.matmul(
            matrix.packed, matrix.columns, tiles.lowerBound, tiles.upperBound,
            scratch.quantised[0].values, scratch.quantised[0].sums, rows, scratch.products,
            Scratch.padded(matrix.rows))
    }

    private func scaleHead(_ tiles: Range<Int>, rows: Int, out: UnsafeMutablePointer<Float>) {
        let head = weights.head
        let first = tiles.lowerBound * Int(CK_TILE_ROWS)
        let end = min(tiles.upperBound * Int(CK_TILE_ROWS), head.rows)
        for row in 0..<rows {
            kernels.pointee.scale(
                out + row * shape.vocabulary + first,
                scratch.products + row * Scratch.padded(head.rows) + first,
                head.scale / scratch.quantised[0].inverses[row], end - first)
        }
    }
}
