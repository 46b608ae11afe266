// SPDX-License-Identifier: Apache-2.0

import CKernels
import Glibc
import ModelStore

/// The memory a forward pass works in, sized once for `maxRows` rows; pages are touched only as rows need them.
struct Scratch: ~Copyable {
    /// The residual stream: [rows][hidden].
    let residual: UnsafeMutablePointer<Float>
    /// Three sets of quantised rows, for the i, f and g products; all others use the first.
    let quantised: [QuantisedRows]
    /// Per worker and set: a K4T block of its own, made of rows that several workers have quantised.
    let blocks: [[UnsafeMutablePointer<Int8>]]
    /// Products before scaling: room for the widest stage.
    let products: UnsafeMutablePointer<Int32>
    /// silu(state): [rows][inner].
    let gates: UnsafeMutablePointer<Float>
    /// silu(gate) times up, where products are fused: [CK_BLOCK rows][intermediate].
    let activations: UnsafeMutablePointer<Float>
    /// Per worker: products that it goes on with at once: [CK_BLOCK rows][two sets][fusedTiles · 16].
    let fused: [UnsafeMutablePointer<Int32>]
    /// Per worker: one row of the widest kind.
    let work: [UnsafeMutablePointer<Float>]
    /// Per worker: where up to three quantised rows go.
    let targets: [UnsafeMutablePointer<ck_quantised_row>]
    private let owned: [UnsafeMutableRawPointer]

    /// Rows of logits computed per region, to bound the memory of a batch that wants them all.
    static let logitRows = 32
    /// The most tiles of channels a worker takes at once of a fused product.
    static let fusedTiles = 16

    init(shape: ModelShape, maxRows: Int, workers: Int) {
        var owned: [UnsafeMutableRawPointer] = []
        func take<T>(_ type: T.Type, _ count: Int) -> UnsafeMutablePointer<T> {
            let bytes = max(64, (count * MemoryLayout<T>.stride + 63) / 64 * 64)
            let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
            owned.append(memory)
            return memory.bindMemory(to: T.self, capacity: count)
        }
        let widest = max(shape.hidden, shape.inner, shape.intermediate)
        residual = take(Float.self, maxRows * shape.hidden)
        quantised = (0..<3).map { set in
            QuantisedRows(
                values: take(
                    Int8.self,
                    maxRows
                        * ck_padded_columns(set == 0 ? widest : shape.hidden)),
                inverses: take(Float.self, maxRows), sums: take(Int32.self, maxRows))
        }
        blocks = (0..<workers).map { _ in
            [widest, shape.hidden, shape.hidden].map {
                take(Int8.self, Int(CK_BLOCK) * ck_padded_columns($0))
            }
        }
        let stageWidth = max(
            3 * Scratch.padded(shape.inner), Scratch.padded(shape.hidden),
            Scratch.padded(2 * shape.intermediate))
        products = take(
            Int32.self,
            max(
                maxRows * stageWidth,
                min(maxRows, Scratch.logitRows) * Scratch.padded(shape.vocabulary)))
        gates = take(Float.self, maxRows * shape.inner)
        activations = take(Float.self, Int(CK_BLOCK) * shape.intermediate)
        let fusedCount = Int(CK_BLOCK) * 2 * Self.fusedTiles * Int(CK_TILE_ROWS)
        fused = (0..<workers).map { _ in take(Int32.self, fusedCount) }
        work = (0..<workers).map { _ in take(Float.self, widest) }
        targets = (0..<workers).map { _ in take(ck_quantised_row.self, 3) }
        self.owned = owned
    }

    deinit { for memory in owned { memory.deallocate() } }

    /// Products are written by whole tiles, so rows of them are padded to 16.
    static func padded(_ rows: Int) -> Int { ck_tiles(rows) * Int(CK_TILE_ROWS) }
}

/// Quantised activations of the rows of a batch: K4T blocks (CKernels.h), or row after row.
struct QuantisedRows {
    let values: UnsafeMutablePointer<Int8>
    /// 127 / max|y| of each row.
    let inverses: UnsafeMutablePointer<Float>
    let sums: UnsafeMutablePointer<Int32>

    /// Where row `row` of `rows` goes when each has `columns` values; into its place in a block, or to lie alone.
    func target(row: Int, of rows: Int, columns: Int, alone: Bool) -> ck_quantised_row {
        let block = alone ? 1 : Int(CK_BLOCK)
        let first = row / block * block
        return ck_quantised_row(
            values: values + first * ck_padded_columns(columns),
            rows: UInt32(min(block, rows - first)), row: UInt32(row - first),
            inverse: inverses + row, sum: sums + row)
    }
}
