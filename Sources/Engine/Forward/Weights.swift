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

    init(_ file: PackedFile, _ shape: ModelShape) throws(StoreError) {
        var binder = Binder(file: file)
        do {
            let layout = TensorLayout(shape)
            embedding = try EmbeddingTable(file, layout.embedding)
            let bounds = try layout.lowerBoundTable.map { table throws(StoreError) in
                try binder.floats(table)
            }
            var layers: [LayerWeights] = []
            layers.reserveCapacity(shape.layers)
            for (n, layer) in layout.layers.enumerated() {
                layers.append(
                    LayerWeights(
                        attentionNorm: try binder.floats(layer.attentionNorm),
                        input: try binder.matrix(layer.input.weight),
                        forget: try binder.matrix(layer.forget.weight),
                        gate: try binder.matrix(layer.gate.weight),
                        mixNorms: try binder.list(layer.input, layer.forget, layer.gate),
                        lowerBound: n > 0 ? bounds.map { $0 + n * shape.inner } : nil,
                        gateNorm: try binder.floats(layer.gateNorm),
                        outputNorm: try binder.floats(layer.output.norm),
                        output: try binder.matrix(layer.output.weight),
                        feedForwardNorm: try binder.floats(layer.feedForwardNorm),
                        gateUpNorm: try binder.list(layer.gateUp),
                        gateUp: try binder.matrix(layer.gateUp.weight),
                        downNorm: try binder.list(layer.down),
                        down: try binder.matrix(layer.down.weight)))
            }
            finalNorm = try binder.floats(layout.finalNorm)
            headNorm = try binder.list(layout.head)
            head = try binder.matrix(layout.head.weight)
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

/// Resolves roles to pointers into the mapping.
private struct Binder {
    let file: PackedFile
    var lists: [UnsafeMutablePointer<UnsafePointer<Float>>] = []

    func floats(_ role: TensorRole) throws(StoreError) -> UnsafePointer<Float> {
        file.pointer(to: try file.tensor(role)).assumingMemoryBound(to: Float.self)
    }

    func matrix(_ role: TensorRole) throws(StoreError) -> TernaryMatrix {
        let matrix = try file.matrix(role)
        return TernaryMatrix(
            packed: file.pointer(to: matrix.info).assumingMemoryBound(to: UInt8.self),
            rows: matrix.rows, columns: matrix.columns, scale: matrix.scale)
    }

    /// The norms of some products, as the kernels take them.
    mutating func list(
        _ products: TensorLayout.Product...
    ) throws(StoreError) -> UnsafePointer<UnsafePointer<Float>> {
        let pointers = try products.map { product throws(StoreError) in try floats(product.norm) }
        let list = UnsafeMutablePointer<UnsafePointer<Float>>.allocate(capacity: pointers.count)
        list.initialize(from: pointers, count: pointers.count)
        lists.append(list)
        return UnsafePointer(list)
    }
}
