// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

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
    private static let fewRowsChunk = 160 << 10
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

    /// Whether a product's channels go on into the recurrence or the gate at once, while they are in the worker's cache, and
    /// not as a stage of row work. With many rows they would not be: products then pass over a tile with all rows.
    func isFused(_ product: Product) -> Bool {
        guard count <= Int(CK_BLOCK) else { return false }
        return switch product {
        case .mix: true
        // The gate's and the value's rows of a channel must lie at the same place in their tiles.
        case .gateUp: shape.intermediate % Int(CK_TILE_ROWS) == 0
        default: false
        }
    }

    /// Lays out the tiles of `product` for the workers; of a fused one, its tiles of channels.
    func share(_ product: Product) {
        let (matrix, sets, rows) = matrices(product)
        let all = sets * matrix.tiles
        let units: Int =
            switch product {
            case .mix where isFused(product): matrix.tiles
            case .gateUp where isFused(product): shape.intermediate / Int(CK_TILE_ROWS)
            default: all
            }
        let unitBytes = matrix.bytes / matrix.tiles * all / units
        let limit = rows > Int(CK_BLOCK) ? Self.manyRowsChunk : Self.fewRowsChunk
        // Small matrices are cut finer, so that all workers are done at about the same time.
        let bytes = min(limit, sets * matrix.bytes / (workerCount * 6))
        let most = isFused(product) ? Scratch.fusedTiles : .max
        shares.reset(units, chunk: min(max(2, bytes / unitBytes / 2 * 2), most))
    }

    /// Worker `worker`'s tiles of `product`.
    func work(_ product: Product, _ worker: Int) {
        let isFused = isFused(product)
        var isReady = !isSplit
        while let tiles = shares.next(worker) {
            if !isReady {
                makeBlocks(product, worker)
                isReady = true
            }
            switch product {
            case .mix(let layer) where isFused: mixAndScan(layer, tiles, worker)
            case .mix(let layer): mix(weights.layers[layer], tiles, worker)
            case .output(let layer):
                multiply(weights.layers[layer].output, tiles, rows: count, worker)
            case .gateUp(let layer) where isFused:
                gateAndActivate(layer, tiles, worker)
            case .gateUp(let layer):
                multiply(weights.layers[layer].gateUp, tiles, rows: count, worker)
            case .down(let layer): multiply(weights.layers[layer].down, tiles, rows: count, worker)
            case .head(let rows, let out):
                multiply(weights.head, tiles, rows: rows, worker)
                scaleHead(tiles, rows: rows, out: out)
            }
        }
    }

    /// Where worker `worker`'s own tiles of the product after `product` begin.
    func firstByte(after product: Product, _ worker: Int) -> UnsafePointer<UInt8>? {
        let matrix: TernaryMatrix
        switch product {
        case .mix(let layer): matrix = weights.layers[layer].output
        case .output(let layer): matrix = weights.layers[layer].gateUp
        case .gateUp(let layer): matrix = weights.layers[layer].down
        case .down(let layer) where layer + 1 < shape.layers:
            matrix = weights.layers[layer + 1].input
        case .down: matrix = weights.head
        case .head: return nil
        }
        let own = shares.run(worker, of: matrix.tiles)
        return own.isEmpty ? nil : matrix.packed + own.lowerBound * (matrix.bytes / matrix.tiles)
    }

    /// Asks for what the row work after `product` will read, so that it does not wait for memory.
    func readAheadRowWeights(after product: Product) {
        func ask(_ values: UnsafePointer<Float>, _ count: Int) {
            ck_read_ahead(UnsafeRawPointer(values).assumingMemoryBound(to: UInt8.self), count * 4)
        }
        let (d, e) = (shape.hidden, shape.inner)
        switch product {
        case .mix(let layer):
            ask(weights.layers[layer].gateNorm, e)
            ask(weights.layers[layer].outputNorm, e)
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

    private func mixMatrix(_ layer: LayerWeights, _ set: Int) -> TernaryMatrix {
        set == 0 ? layer.input : set == 1 ? layer.forget : layer.gate
    }

    private func mix(_ layer: LayerWeights, _ share: Range<Int>, _ worker: Int) {
        let tiles = layer.input.tiles
        let width = Scratch.padded(shape.inner)
        for set in share.lowerBound / tiles...(share.upperBound - 1) / tiles {
            let own = share.clamped(to: set * tiles..<(set + 1) * tiles)
            let (begin, end) = (own.lowerBound - set * tiles, own.upperBound - set * tiles)
            multiply(
                mixMatrix(layer, set), begin..<end, set: set, rows: count, worker,
                scratch.products + set * width + begin * Int(CK_TILE_ROWS), 3 * width)
        }
    }

    /// Makes the blocks that `product` multiplies by, for this worker, of the rows that all workers have quantised.
    private func makeBlocks(_ product: Product, _ worker: Int) {
        let (matrix, sets, rows) = matrices(product)
        for set in 0..<sets {
            ck_make_block(
                scratch.quantised[set].values, matrix.columns, rows, scratch.blocks[worker][set])
        }
    }

    /// The channels of tiles.
    private func channels(_ tiles: Range<Int>, of all: Int) -> Range<Int> {
        let rows = Int(CK_TILE_ROWS)
        return tiles.lowerBound * rows..<min(tiles.upperBound * rows, all)
    }

    /// Tiles of i, f and g, and the recurrence over their channels.
    private func mixAndScan(_ number: Int, _ tiles: Range<Int>, _ worker: Int) {
        let layer = weights.layers[number]
        let (width, y) = (tiles.count * Int(CK_TILE_ROWS), scratch.fused[worker])
        for set in 0..<2 {
            multiply(
                mixMatrix(layer, set), tiles, set: set, rows: count, worker, y + set * width,
                2 * width)
        }
        let (all, first) = (Scratch.padded(shape.inner), tiles.lowerBound * Int(CK_TILE_ROWS))
        multiply(
            layer.gate, tiles, set: 2, rows: count, worker, scratch.products + 2 * all + first,
            3 * all)
        fused(number, worker) {
            scan(layer, channels(tiles, of: shape.inner), y, forget: width, stride: 2 * width)
        }
    }

    /// Tiles of the gate and of the value, and what becomes of their channels.
    private func gateAndActivate(_ number: Int, _ tiles: Range<Int>, _ worker: Int) {
        let layer = weights.layers[number]
        let (width, y) = (tiles.count * Int(CK_TILE_ROWS), scratch.fused[worker])
        let value = shape.intermediate / Int(CK_TILE_ROWS)
        multiply(layer.gateUp, tiles, set: 0, rows: count, worker, y, 2 * width)
        multiply(
            layer.gateUp, tiles.lowerBound + value..<tiles.upperBound + value, set: 0, rows: count,
            worker, y + width, 2 * width)
        let channels = channels(tiles, of: shape.intermediate)
        fused(number, worker) {
            for row in 0..<count {
                activate(
                    row, layer, y + row * 2 * width, up: width, channels.count,
                    scratch.activations + row * shape.intermediate + channels.lowerBound)
            }
        }
    }

    /// Tiles of `matrix` times a quantised set; the first of them to `y`, row after row `stride` further on.
    private func multiply(
        _ matrix: TernaryMatrix, _ tiles: Range<Int>, set: Int, rows: Int, _ worker: Int,
        _ y: UnsafeMutablePointer<Int32>, _ stride: Int
    ) {
        kernels.pointee.matmul(
            matrix.packed, matrix.columns, tiles.lowerBound, tiles.upperBound,
            isSplit
                ? UnsafePointer(scratch.blocks[worker][set])
                : UnsafePointer(scratch.quantised[set].values),
            scratch.quantised[set].sums, rows,
            y - tiles.lowerBound * Int(CK_TILE_ROWS), stride)
    }

    /// Tiles of `matrix` times the first quantised set, into `products`: [rows][matrix rows, padded].
    private func multiply(
        _ matrix: TernaryMatrix, _ tiles: Range<Int>, rows: Int, _ worker: Int
    ) {
        multiply(
            matrix, tiles, set: 0, rows: rows, worker,
            scratch.products + tiles.lowerBound * Int(CK_TILE_ROWS), Scratch.padded(matrix.rows))
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
