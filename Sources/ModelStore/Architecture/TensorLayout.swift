// SPDX-License-Identifier: Apache-2.0

/// What one tensor of the architecture is called, in checkpoints and in packed files, and how large it is.
package struct TensorRole: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        /// Becomes trits and one scale.
        case ternary
        /// A norm's weight or the lower bounds: kept as F32.
        case vector
        case embedding
        /// A matrix of floats, kept as it is: a head that is not ternary.
        case dense
    }

    /// The checkpoint's name.
    package let name: String
    /// The packed file's name.
    package let packedName: String
    /// Outermost dimension first.
    package let shape: [Int]
    package let kind: Kind

    package var count: Int { shape.reduce(1, *) }

    /// How a packed file holds it.
    ///
    /// - Parameter sourceType: the element type of a ternary or dense matrix in the checkpoint.
    package func plan(_ encoding: EmbeddingEncoding, sourceType: String = "") -> TensorPlan {
        switch kind {
        case .ternary:
            TensorPlan(
                packed: packedName, rows: shape[0], columns: shape[1], sourceType: sourceType)
        case .vector: TensorPlan(name: packedName, type: .f32, shape: shape)
        case .embedding where encoding == .q6:
            TensorPlan(
                name: packedName, type: .i8, shape: [shape[0] * encoding.rowBytes(shape[1])])
        case .embedding: TensorPlan(name: packedName, type: encoding.type, shape: shape)
        case .dense:
            TensorPlan(
                name: packedName,
                type: ["F16": TensorType.f16, "BF16": .bf16][sourceType] ?? .f32, shape: shape)
        }
    }
}

/// The tensors of an HGRNBit model: the one place that knows their names and shapes.
package struct TensorLayout: Sendable {
    /// A ternary matrix and the norm before it, which is as wide as its columns.
    package struct Product: Sendable {
        package let weight, norm: TensorRole
    }

    package struct Layer: Sendable {
        /// [D], [E], [D]
        package let attentionNorm, gateNorm, feedForwardNorm: TensorRole
        /// [E, D] each
        package let input, forget, gate: Product
        /// [D, E]
        package let output: Product
        /// [2I, D]: the gate rows, then the value rows
        package let gateUp: Product
        /// [D, I]
        package let down: Product
    }

    package let layers: [Layer]
    /// [D]
    package let finalNorm: TensorRole
    /// [V, D]
    package let head: Product
    /// [L, D], the checkpoint's; [L, E], what packing makes of it, which no checkpoint has. Nil in models without.
    package let lowerBounds, lowerBoundTable: TensorRole?
    /// [V, D]
    package let embedding: TensorRole

    package init(_ shape: ModelShape) {
        let (v, d, e, i) = (shape.vocabulary, shape.hidden, shape.inner, shape.intermediate)
        func role(
            _ name: String, _ packed: String, _ sizes: Int..., kind: TensorRole.Kind = .vector
        ) -> TensorRole {
            TensorRole(name: name, packedName: packed + ".weight", shape: sizes, kind: kind)
        }
        func product(
            _ name: String, _ packed: String, norm: String? = nil, _ rows: Int, _ columns: Int
        ) -> Product {
            Product(
                weight: role(name + ".weight", packed, rows, columns, kind: .ternary),
                norm: role(name + ".norm.weight", norm ?? packed + "_norm", columns))
        }
        layers = (0..<shape.layers).map { n in
            let (from, to) = ("model.layers.\(n).", "blk.\(n).")
            return Layer(
                attentionNorm: role(from + "attn_norm.weight", to + "attn_norm", d),
                gateNorm: role(from + "attn.g_norm.weight", to + "attn_gate_norm", e),
                feedForwardNorm: role(from + "mlp_norm.weight", to + "ffn_norm", d),
                input: product(from + "attn.i_proj", to + "attn_i", e, d),
                forget: product(from + "attn.f_proj", to + "attn_f", e, d),
                gate: product(from + "attn.g_proj", to + "attn_g", e, d),
                output: product(from + "attn.o_proj", to + "attn_output", d, e),
                gateUp: product(from + "mlp.gate_proj", to + "ffn_gate_up", 2 * i, d),
                down: product(from + "mlp.down_proj", to + "ffn_down", d, i))
        }
        finalNorm = role("model.norm.weight", "output_norm", d)
        // "output_norm" is the final one.
        head = product("lm_head", "output", norm: "output_head_norm", v, d)
        let hasBounds = shape.hasLowerBound
        lowerBounds =
            hasBounds ? role("model.lower_bounds", "lower_bounds", shape.layers, d) : nil
        lowerBoundTable = hasBounds ? role("", "lower_bound_table", shape.layers, e) : nil
        embedding = role("model.embeddings.weight", "token_embd", v, d, kind: .embedding)
    }

    /// All tensors of a checkpoint in the order of the packed file: the small ones, then the ternary matrices in order of use,
    /// then the embedding. The head of a tied model, which its checkpoint need not store, is among them.
    package var roles: [TensorRole] {
        var vectors: [TensorRole] = []
        var matrices: [TensorRole] = []
        func add(_ products: Product...) {
            vectors += products.map(\.norm)
            matrices += products.map(\.weight)
        }
        for layer in layers {
            vectors.append(layer.attentionNorm)
            add(layer.input, layer.forget, layer.gate)
            vectors.append(layer.gateNorm)
            add(layer.output)
            vectors.append(layer.feedForwardNorm)
            add(layer.gateUp, layer.down)
        }
        vectors.append(finalNorm)
        add(head)
        if let lowerBounds { vectors.append(lowerBounds) }
        return vectors + matrices + [embedding]
    }

    /// The packed file's tensors in order. The folded table follows the lower bounds that it is made of.
    ///
    /// - Parameter sourceType: the element type that a ternary tensor had in the checkpoint.
    package func plans<E: Error>(
        _ encoding: EmbeddingEncoding, sourceType: (TensorRole) throws(E) -> String
    ) throws(E) -> [TensorPlan] {
        var plans: [TensorPlan] = []
        for role in roles {
            plans.append(role.plan(encoding, sourceType: try sourceType(role)))
            if role == lowerBounds, let lowerBoundTable {
                plans.append(lowerBoundTable.plan(encoding))
            }
        }
        return plans
    }
}

extension PackedFile {
    /// The tensor of a role that is no ternary matrix, of the type and shape that it must have.
    package func tensor(
        _ role: TensorRole, _ encoding: EmbeddingEncoding = .f32
    ) throws(StoreError) -> TensorInfo {
        let plan = role.plan(encoding)
        guard let info = self[plan.name] else { throw .missingTensor(plan.name) }
        guard info.type == plan.type, info.shape == plan.shape else {
            throw .wrongTensor(
                plan.name, expected: "\(plan.type) \(plan.shape)",
                found: "\(info.type) \(info.shape)")
        }
        return info
    }

    /// The ternary matrix of a role, of the shape that it must have.
    package func matrix(_ role: TensorRole) throws(StoreError) -> PackedMatrix {
        guard let matrix = packed[role.packedName] else { throw .missingTensor(role.packedName) }
        guard [matrix.rows, matrix.columns] == role.shape else {
            throw .wrongTensor(
                role.packedName, expected: "ternary \(role.shape)",
                found: "ternary \([matrix.rows, matrix.columns])")
        }
        return matrix
    }
}
