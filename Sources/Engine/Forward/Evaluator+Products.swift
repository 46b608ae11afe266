// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

extension Evaluator {
    /// Rows that a product is of.
    private func rows(of product: Product) -> Int {
        if case .logits = product.fusion { headRows.count } else { count }
    }

    /// Whether a product's channels go on at once, while they are in the worker's cache, and not as a stage of row work. With many
    /// rows they would not be there any more: products then pass over a tile with all rows.
    private func isFused(_ product: Product) -> Bool {
        fusesChannels && product.fusion.isByTile
    }

    /// Lays out the tiles of `product` for the workers; of a fused one, its tiles of channels.
    func share(_ product: Product) {
        let (all, whole) = (product.tiles, product.bytes)
        let isFused = isFused(product)
        let units = isFused ? product.operands[0].matrix.tiles : all
        let limit = rows(of: product) > Int(CK_BLOCK) ? tuning.manyRowsBytes : tuning.fewRowsBytes
        let bytes = min(limit, whole / (workerCount * tuning.shares))
        let most = isFused ? Scratch.fusedTiles : .max
        shares.reset(units, chunk: min(max(2, bytes / (whole / units) / 2 * 2), most))
    }

    /// Worker `worker`'s tiles of `product`.
    func work(_ product: Product, _ worker: Int) {
        let (isFused, rows) = (isFused(product), rows(of: product))
        var isReady = !isSplit
        while let tiles = shares.next(worker) {
            if !isReady {
                makeBlocks(product, rows, worker)
                isReady = true
            }
            if isFused {
                multiplyByTile(product, tiles, worker)
            } else {
                multiply(product, tiles, rows, worker)
            }
        }
    }

    /// Where worker `worker`'s own tiles of `matrix` begin.
    func firstByte(_ matrix: TernaryMatrix, _ worker: Int) -> UnsafePointer<UInt8>? {
        let own = shares.run(worker, of: matrix.tiles)
        return own.isEmpty ? nil : matrix.packed + own.lowerBound * (matrix.bytes / matrix.tiles)
    }

    /// Makes the blocks that `product` multiplies by, for this worker, of the rows that all workers have quantised.
    private func makeBlocks(_ product: Product, _ rows: Int, _ worker: Int) {
        for set in 0..<product.sets {
            ck_make_block(
                scratch.quantised[set].values, product.columns, rows, scratch.blocks[worker][set])
        }
    }

    /// Tiles of the run of all operands, into `products`: [rows][stride].
    private func multiply(_ product: Product, _ share: Range<Int>, _ rows: Int, _ worker: Int) {
        var first = 0
        for operand in product.operands {
            let own = share.clamped(to: first..<first + operand.matrix.tiles)
            if !own.isEmpty {
                let tiles = own.lowerBound - first..<own.upperBound - first
                multiply(
                    operand, tiles, rows, worker,
                    scratch.products + operand.offset + tiles.lowerBound * Int(CK_TILE_ROWS),
                    operand.stride)
                if case .logits = product.fusion { scaleLogits(operand, tiles) }
            }
            first += operand.matrix.tiles
        }
    }

    /// The same tiles of every operand, and what becomes of their channels. The first two operands' stay with the worker.
    private func multiplyByTile(_ product: Product, _ tiles: Range<Int>, _ worker: Int) {
        let (width, y) = (tiles.count * Int(CK_TILE_ROWS), scratch.fused[worker])
        let first = tiles.lowerBound * Int(CK_TILE_ROWS)
        for (index, operand) in product.operands.enumerated() {
            if index < 2 {
                multiply(operand, tiles, count, worker, y + index * width, 2 * width)
            } else {
                multiply(
                    operand, tiles, count, worker, scratch.products + operand.offset + first,
                    operand.stride)
            }
        }
        fused(worker) {
            switch product.fusion {
            case .recurrence(let recurrence):
                scan(
                    recurrence, channels(tiles, of: recurrence.channels), y, forget: width,
                    stride: 2 * width)
            case .activation(let activation):
                let channels = channels(tiles, of: activation.channels)
                for row in 0..<count {
                    let gate = y + row * 2 * width
                    activate(
                        activation, row, gate, gate + width, channels.count,
                        scratch.activations + row * activation.channels + channels.lowerBound)
                }
            case .none, .logits: break
            }
        }
    }

    /// The channels of tiles.
    private func channels(_ tiles: Range<Int>, of all: Int) -> Range<Int> {
        let rows = Int(CK_TILE_ROWS)
        return tiles.lowerBound * rows..<min(tiles.upperBound * rows, all)
    }

    /// Tiles of an operand times its quantised set; the first of them to `y`, row after row `stride` further on.
    private func multiply(
        _ operand: Operand, _ tiles: Range<Int>, _ rows: Int, _ worker: Int,
        _ y: UnsafeMutablePointer<Int32>, _ stride: Int
    ) {
        kernels.pointee.matmul(
            operand.matrix.packed, operand.matrix.columns, tiles.lowerBound, tiles.upperBound,
            isSplit
                ? UnsafePointer(scratch.blocks[worker][operand.set])
                : UnsafePointer(scratch.quantised[operand.set].values),
            scratch.quantised[operand.set].sums, rows,
            y - tiles.lowerBound * Int(CK_TILE_ROWS), stride)
    }

    private func scaleLogits(_ head: Operand, _ tiles: Range<Int>) {
        guard let out = headOutput else { return }
        let first = tiles.lowerBound * Int(CK_TILE_ROWS)
        let end = min(tiles.upperBound * Int(CK_TILE_ROWS), head.matrix.rows)
        for row in 0..<headRows.count {
            kernels.pointee.scale(
                out + row * head.matrix.rows + first,
                scratch.products + row * head.stride + first,
                scale(of: head, row), end - first)
        }
    }

    // MARK: A head of floats

    /// Bytes of it that a worker takes at a time.
    private static let denseChunk = 64 << 10

    func shareDense(_ matrix: FloatMatrix) {
        shares.reset(matrix.rows, chunk: max(2, Self.denseChunk / (matrix.bytes / matrix.rows)))
    }

    func workDense(_ worker: Int) {
        guard case .dense(let matrix) = program.head, let out = headOutput else { return }
        while let rows = shares.next(worker) {
            matrix.multiply(rows, scratch.normed, headRows.count, into: out, with: kernels)
        }
    }
}
