// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

/// A packed ternary matrix in the mapping: y = scale · trits · q.
struct TernaryMatrix {
    /// First byte of the packed tiles (CKernels.h says how they are laid out).
    let packed: UnsafePointer<UInt8>
    let rows: Int
    let columns: Int
    /// The one scale of the whole matrix.
    let scale: Float

    var tiles: Int { ck_tiles(rows) }
    var bytes: Int { ck_packed_bytes(rows, columns) }
}

/// One layer's weights. Norm weights: [hidden] unless said otherwise.
struct LayerWeights {
    let attentionNorm: UnsafePointer<Float>
    /// i, f, g products over the same input: [inner, hidden] each.
    let input: TernaryMatrix
    let forget: TernaryMatrix
    let gate: TernaryMatrix
    /// The norms inside the i, f and g products, in that order.
    let mixNorms: UnsafePointer<UnsafePointer<Float>>
    /// [inner]; `nil` in layer 0 and in models without lower bounds.
    let lowerBound: UnsafePointer<Float>?
    /// g_norm: [inner].
    let gateNorm: UnsafePointer<Float>
    /// The norm inside the output product: [inner].
    let outputNorm: UnsafePointer<Float>
    /// [hidden, inner].
    let output: TernaryMatrix
    let feedForwardNorm: UnsafePointer<Float>
    /// The norm inside the gate-and-up product.
    let gateUpNorm: UnsafePointer<UnsafePointer<Float>>
    /// [2 · intermediate, hidden]: the gate rows, then the value rows.
    let gateUp: TernaryMatrix
    /// The norm inside the down product: [intermediate].
    let downNorm: UnsafePointer<UnsafePointer<Float>>
    /// [hidden, intermediate].
    let down: TernaryMatrix
}

/// All weights of a model as pointers into its mapping. Valid while the `PackedFile` lives.
final class Weights: @unchecked Sendable {
    let embedding: EmbeddingTable
    let layers: UnsafePointer<LayerWeights>
    /// model.norm.
    let finalNorm: UnsafePointer<Float>
    /// The norm inside the output head.
    let headNorm: UnsafePointer<UnsafePointer<Float>>
    /// [vocabulary, hidden].
    let head: TernaryMatrix
    /// Short lists of norm pointers, as the kernels take them.
    private let lists: [UnsafeMutablePointer<UnsafePointer<Float>>]

    deinit {
        for list in lists { list.deallocate() }
        layers.deallocate()
    }

    init(_ file: PackedFile, _ shape: ModelShape) throws(ModelError) {
        var binder = Binder(file: file)
        do {
            let (d, e, i) = (shape.hidden, shape.inner, shape.intermediate)
            embedding = try EmbeddingTable(file, rows: shape.vocabulary, columns: d)
            let bounds =
                shape.hasLowerBound
                ? try binder.floats("lower_bound_table", [shape.layers, e]) : nil
            var layers: [LayerWeights] = []
            layers.reserveCapacity(shape.layers)
            for n in 0..<shape.layers {
                let b = "blk.\(n)."
                layers.append(
                    LayerWeights(
                        attentionNorm: try binder.floats(b + "attn_norm", [d]),
                        input: try binder.matrix(b + "attn_i", e, d),
                        forget: try binder.matrix(b + "attn_f", e, d),
                        gate: try binder.matrix(b + "attn_g", e, d),
                        mixNorms: binder.list([
                            try binder.floats(b + "attn_i_norm", [d]),
                            try binder.floats(b + "attn_f_norm", [d]),
                            try binder.floats(b + "attn_g_norm", [d]),
                        ]),
                        lowerBound: n > 0 ? bounds.map { $0 + n * e } : nil,
                        gateNorm: try binder.floats(b + "attn_gate_norm", [e]),
                        outputNorm: try binder.floats(b + "attn_output_norm", [e]),
                        output: try binder.matrix(b + "attn_output", d, e),
                        feedForwardNorm: try binder.floats(b + "ffn_norm", [d]),
                        gateUpNorm: binder.list([try binder.floats(b + "ffn_gate_up_norm", [d])]),
                        gateUp: try binder.matrix(b + "ffn_gate_up", 2 * i, d),
                        downNorm: binder.list([try binder.floats(b + "ffn_down_norm", [i])]),
                        down: try binder.matrix(b + "ffn_down", d, i)))
            }
            finalNorm = try binder.floats("output_norm", [d])
            headNorm = binder.list([try binder.floats("output_head_norm", [d])])
            head = try binder.matrix("output", shape.vocabulary, d)
            lists = binder.lists
            // Where the forward pass finds it without copying or counting references.
            let memory = UnsafeMutablePointer<LayerWeights>.allocate(capacity: layers.count)
            memory.initialize(from: layers, count: layers.count)
            self.layers = UnsafePointer(memory)
        } catch {
            for list in binder.lists { list.deallocate() }
            throw error
        }
    }
}

/// Resolves names to pointers, checking each shape.
private struct Binder {
    let file: PackedFile
    var lists: [UnsafeMutablePointer<UnsafePointer<Float>>] = []

    /// A float32 tensor `name.weight` of exactly `shape`.
    func floats(_ name: String, _ shape: [Int]) throws(ModelError) -> UnsafePointer<Float> {
        let name = name + ".weight"
        guard let info = file[name] else { throw .missingTensor(name) }
        guard info.type == .f32, info.shape == shape else {
            throw .wrongShape(name, expected: "f32 \(shape)", found: "\(info.type) \(info.shape)")
        }
        return file.pointer(to: info).assumingMemoryBound(to: Float.self)
    }

    /// A packed ternary matrix `name.weight` of rows × columns.
    func matrix(_ name: String, _ rows: Int, _ columns: Int) throws(ModelError) -> TernaryMatrix {
        let name = name + ".weight"
        guard let matrix = file.packed[name] else { throw .missingTensor(name) }
        guard matrix.rows == rows, matrix.columns == columns else {
            throw .wrongShape(
                name, expected: "packed [\(rows), \(columns)]",
                found: "packed [\(matrix.rows), \(matrix.columns)]")
        }
        return TernaryMatrix(
            packed: file.pointer(to: matrix.info).assumingMemoryBound(to: UInt8.self),
            rows: rows, columns: columns, scale: matrix.scale)
    }

    mutating func list(_ pointers: [UnsafePointer<Float>]) -> UnsafePointer<UnsafePointer<Float>> {
        let list = UnsafeMutablePointer<UnsafePointer<Float>>.allocate(capacity: pointers.count)
        list.initialize(from: pointers, count: pointers.count)
        lists.append(list)
        return UnsafePointer(list)
    }
}
