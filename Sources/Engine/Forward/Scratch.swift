// SPDX-License-Identifier: Apache-2.0

import CKernels
import Glibc
import ModelStore

/// The widths of what a forward pass works in.
struct ScratchSizes {
    struct Attention {
        let headSize: Int
        /// Of one token's keys.
        let keyWidth: Int
        /// Scores that one worker has at a time.
        let scores: Int
    }

    /// D
    let hidden: Int
    /// Of what a layer's mixing of tokens gives: channels of the recurrence, or all heads.
    let mixed: Int
    /// I
    let intermediate: Int
    /// Int32s in a row of the widest product of a layer.
    let products: Int
    /// V, where the head is ternary; 0 otherwise.
    let ternaryLogits: Int
    var attention: Attention?
}

/// The memory a forward pass works in, sized once for `maxRows` rows; pages are touched only as rows need them.
struct Scratch {
    /// The residual stream: [rows][hidden].
    let residual: UnsafeMutablePointer<Float>
    /// Three sets of quantised rows, for products whose norms differ; all others use the first.
    let quantised: [QuantisedRows]
    /// Per worker and set: a K4T block of its own, made of rows that several workers have quantised.
    let blocks: [[UnsafeMutablePointer<Int8>]]
    /// Products before scaling: room for the widest stage.
    let products: UnsafeMutablePointer<Int32>
    /// silu(state), or what attention gives: [rows][mixed].
    let mixed: UnsafeMutablePointer<Float>
    /// silu(gate) times up, where products are fused: [CK_BLOCK rows][intermediate].
    let activations: UnsafeMutablePointer<Float>
    /// Per worker: products that it goes on with at once: [CK_BLOCK rows][two sets][fusedTiles · 16].
    let fused: [UnsafeMutablePointer<Int32>]
    /// Per worker: one row of the widest kind.
    let work: [UnsafeMutablePointer<Float>]
    /// Per worker: where up to three quantised rows go.
    let targets: [UnsafeMutablePointer<ck_quantised_row>]
    /// With attention: rotated queries, [rows][mixed]; each row's cosines and then sines, [rows][headSize].
    let queries, rotations: UnsafeMutablePointer<Float>
    /// With attention, per worker: scores.
    let scores: [UnsafeMutablePointer<Float>]
    /// Rows that want logits, after the last norm: [logitRows][hidden].
    let normed: UnsafeMutablePointer<Float>
    private let owned: Allocations

    /// Rows of logits computed per region, to bound the memory of a batch that wants them all.
    static let logitRows = 32
    /// The most tiles of channels a worker takes at once of a fused product.
    static let fusedTiles = 32

    /// - Throws: `noMemory`.
    init(_ sizes: ScratchSizes, maxRows: Int, workers: Int) throws(ModelError) {
        let owned = Allocations(purpose: "batches of \(maxRows) rows")
        func take<T>(_ type: T.Type, _ count: Int) throws(ModelError) -> UnsafeMutablePointer<T> {
            try owned.take(type, count)
        }
        let widest = max(
            sizes.hidden, sizes.mixed, sizes.intermediate, 2 * (sizes.attention?.keyWidth ?? 0))
        residual = try take(Float.self, maxRows * sizes.hidden)
        quantised = try (0..<3).map { set throws(ModelError) in
            QuantisedRows(
                values: try take(
                    Int8.self, maxRows * ck_padded_columns(set == 0 ? widest : sizes.hidden)),
                inverses: try take(Float.self, maxRows), sums: try take(Int32.self, maxRows))
        }
        blocks = try (0..<workers).map { _ throws(ModelError) in
            try [widest, sizes.hidden, sizes.hidden].map { columns throws(ModelError) in
                try take(Int8.self, Int(CK_BLOCK) * ck_padded_columns(columns))
            }
        }
        products = try take(
            Int32.self,
            max(
                maxRows * sizes.products,
                min(maxRows, Scratch.logitRows) * Scratch.padded(sizes.ternaryLogits)))
        mixed = try take(Float.self, maxRows * sizes.mixed)
        activations = try take(Float.self, Int(CK_BLOCK) * sizes.intermediate)
        let fusedCount = Int(CK_BLOCK) * 2 * Self.fusedTiles * Int(CK_TILE_ROWS)
        fused = try (0..<workers).map { _ throws(ModelError) in try take(Int32.self, fusedCount) }
        work = try (0..<workers).map { _ throws(ModelError) in try take(Float.self, widest) }
        targets = try (0..<workers).map { _ throws(ModelError) in try take(ck_quantised_row.self, 3)
        }
        let attention = sizes.attention
        queries = try take(Float.self, attention == nil ? 0 : maxRows * sizes.mixed)
        rotations = try take(Float.self, maxRows * (attention?.headSize ?? 0))
        scores = try (0..<workers).map { _ throws(ModelError) in
            try take(Float.self, attention?.scores ?? 0)
        }
        normed = try take(Float.self, min(maxRows, Self.logitRows) * sizes.hidden)
        self.owned = owned
    }

    /// Products are written by whole tiles, so rows of them are padded to 16.
    static func padded(_ rows: Int) -> Int { ck_tiles(rows) * Int(CK_TILE_ROWS) }
}

/// Memory from the system, aligned to cache lines, freed with this.
private final class Allocations {
    private let purpose: String
    private var all: [UnsafeMutableRawPointer] = []

    init(purpose: String) { self.purpose = purpose }
    deinit { for memory in all { free(memory) } }

    func take<T>(_ type: T.Type, _ count: Int) throws(ModelError) -> UnsafeMutablePointer<T> {
        let bytes = max(64, (count * MemoryLayout<T>.stride + 63) / 64 * 64)
        guard let memory = aligned_alloc(64, bytes) else { throw .noMemory(bytes, purpose) }
        all.append(memory)
        return memory.bindMemory(to: T.self, capacity: count)
    }
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
