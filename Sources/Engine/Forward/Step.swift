// SPDX-License-Identifier: Apache-2.0
//
// What a forward pass is made of. A program is a list of steps, made when a model is bound; the executor runs them. They are plain
// values that point into the mapping and into the program's own lists, so that running them copies and counts nothing.

import CKernels
import ModelStore

/// Row work, and the product that needs it.
struct Step {
    let work: Work
    var product: Product?
    /// What the steps after it read first: the next product's matrix, and the norms on the way there.
    var next: (matrix: TernaryMatrix?, norms: UnsafeBufferPointer<Norm>) = (
        nil, .init(start: nil, count: 0)
    )
}

/// What comes before a product.
enum Work {
    /// These for every row of the batch, one after the other; shared out by rows.
    case rows(UnsafeBufferPointer<RowOperation>)
    /// The same for the rows that want logits.
    case logitRows(UnsafeBufferPointer<RowOperation>)
    /// The recurrence, row after row; shared out by channels. Nothing where it was fused with its product.
    case channels(Recurrence)
    /// Attention; shared out by rows and heads of keys.
    case heads(Attention)
}

/// A norm's weights: [count].
struct Norm {
    let weights: UnsafePointer<Float>
    let count: Int
}

/// One matrix of a product: which set of quantised rows it takes, and where its channels begin in a row of products.
struct Operand {
    let matrix: TernaryMatrix
    let set: Int
    let offset: Int
    /// Int32s in a row of products: of each operand whole tiles.
    let stride: Int
}

/// Ternary matrices of equal columns over the same rows, computed as one run of tiles.
struct Product {
    let operands: UnsafeBufferPointer<Operand>
    let fusion: Fusion

    var columns: Int { operands[0].matrix.columns }
    var tiles: Int { operands.reduce(0) { $0 + $1.matrix.tiles } }
    var bytes: Int { operands.reduce(0) { $0 + $1.matrix.bytes } }
    /// Sets of quantised rows that it takes.
    var sets: Int { operands.reduce(0) { max($0, $1.set + 1) } }
}

/// What a worker does with channels that it has just computed, while they are in its cache.
enum Fusion {
    case none
    case recurrence(Recurrence)
    case activation(Activation)
    /// Scales them into the logits, however many rows there are.
    case logits

    /// Whether operands go side by side, tile by tile.
    var isByTile: Bool {
        switch self {
        case .recurrence: true
        case .activation(let activation): activation.isFusable
        case .none, .logits: false
        }
    }
}

/// HGRNBit's: f = sigmoid(forget), with a lower bound; state = f · state + silu(input) · (1 − f); silu(state) into `mixed`.
struct Recurrence {
    let layer: Int
    let input, forget: Operand
    /// [channels]; nil in layer 0 and in models without.
    let bound: UnsafePointer<Float>?
    let channels: Int
}

/// The gated feed-forward's middle: silu(gate) · up, or max(gate, 0)² · up.
struct Activation {
    enum Kind { case silu, relu2 }

    let kind: Kind
    let gate, up: Operand
    let channels: Int
    /// Whether a channel's two rows lie at the same place in tiles of two operands.
    let isFusable: Bool
}

/// Norms, and then int8: the rows of a product.
struct Quantisation {
    enum Rounding {
        /// Half away from zero; factor 127 / m. HGRNBit's.
        case away
        /// Half to even; factor fl(fl(1 / m) · 127).
        case even
    }

    let rounding: Rounding
    /// The norm before all products of these rows.
    let outer: Norm?
    let outerEpsilon: Float
    /// The norm inside each product: [sets]; nil where there are none, and then there is one set.
    let inner: UnsafePointer<UnsafePointer<Float>>?
    let innerEpsilon: Float
    let sets: Int
    let columns: Int
}

/// HGRNBit's gate: g_norm of the gate times silu(state), before the output product's own norm.
struct Gate {
    let gate: Operand
    let norm: Norm
    let epsilon: Float
    let inner: Norm
}

/// One layer's attention.
struct Attention {
    let layer: Int
    let heads, keyHeads, headSize: Int
    let query, key, value: Operand
    /// [headSize]
    let queryNorm, keyNorm: Norm?
    let epsilon: Float
    /// 1 / √headSize
    let scale: Float
    /// Keys and values in their pages.
    let stored: KeyValueType

    /// Numbers before a head's keys in a page, and before its values.
    func keys(_ head: Int) -> Int {
        (layer * 2 * keyHeads + head) * headSize * Int(CK_PAGE_TOKENS)
    }
    func values(_ head: Int) -> Int { keys(head + keyHeads) }

    var queryWidth: Int { heads * headSize }
    var keyWidth: Int { keyHeads * headSize }
    /// Query heads that share one head of keys.
    var group: Int { heads / keyHeads }
}

/// What is done with one row. h: its residual stream.
enum RowOperation {
    /// h = the token's embedding.
    case embed
    /// h += the product just computed.
    case add(Operand)
    /// Of h.
    case quantise(Quantisation)
    case gate(Gate)
    /// And then quantised; what a product was fused with is quantised only.
    case activate(Activation, Quantisation)
    /// Queries into `queries`, rotated; keys, rotated, and values into the row's page.
    case remember(Attention)
    /// Of what attention has left in `mixed`.
    case quantiseMixed(Quantisation)

    /// The norms that it reads.
    func visitNorms(_ body: (Norm) -> Void) {
        func visit(_ q: Quantisation) {
            if let outer = q.outer { body(outer) }
            guard let inner = q.inner else { return }
            for set in 0..<q.sets { body(Norm(weights: inner[set], count: q.columns)) }
        }
        switch self {
        case .embed, .add: break
        case .quantise(let q), .quantiseMixed(let q), .activate(_, let q): visit(q)
        case .gate(let gate):
            body(gate.norm)
            body(gate.inner)
        case .remember(let attention):
            if let norm = attention.queryNorm { body(norm) }
            if let norm = attention.keyNorm { body(norm) }
        }
    }
}
