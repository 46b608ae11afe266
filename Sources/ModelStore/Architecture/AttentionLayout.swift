// SPDX-License-Identifier: Apache-2.0

/// The tensors of a model with attention: the one place that knows their names and shapes.
package struct AttentionLayout: Sendable {
    /// A ternary matrix, the norm inside its product, and what its scale is called in a packed checkpoint.
    package struct Product: Sendable {
        package let weight: TensorRole
        package let norm: TensorRole?
        package let scale: String
    }

    package struct Layer: Sendable {
        /// [D] each
        package let attentionNorm, feedForwardNorm: TensorRole
        /// [H·d, D], [G·d, D] twice, [D, H·d]
        package let query, key, value, output: Product
        /// [I, D] twice, [D, I]
        package let gate, up, down: Product
        /// [d] each: of one head's queries and keys
        package let queryNorm, keyNorm: TensorRole?
        /// [D], [I]
        package let attentionSubNorm, feedForwardSubNorm: TensorRole?

        package var products: [Product] { [query, key, value, output, gate, up, down] }
    }

    package let layers: [Layer]
    /// [D]
    package let finalNorm: TensorRole
    /// [V, D]
    package let embedding: TensorRole
    /// [V, D], dense; nil where the embedding is the head, and in embedding models.
    package let head: TensorRole?

    /// - Parameter root: what all names but the head's begin with in the checkpoint: "model.", or nothing.
    package init(_ shape: AttentionShape, root: String = "model.") {
        let (v, d, i) = (shape.vocabulary, shape.hidden, shape.intermediate)
        let (q, k) = (shape.queryWidth, shape.keyWidth)
        let family = shape.family
        func role(
            _ name: String, _ packed: String, _ sizes: Int..., kind: TensorRole.Kind = .vector
        ) -> TensorRole {
            TensorRole(
                name: name + ".weight", packedName: packed + ".weight", shape: sizes, kind: kind)
        }
        func product(_ name: String, _ packed: String, _ rows: Int, _ columns: Int) -> Product {
            let inside = family == .qwen3 ? ".norm" : ".rms_norm"
            return Product(
                weight: role(name, packed, rows, columns, kind: .ternary),
                norm: shape.innerEpsilon.map { _ in
                    role(name + inside, packed + "_inner_norm", columns)
                }, scale: name + ".weight_scale")
        }
        layers = (0..<shape.layers).map { n in
            let to = "blk.\(n)."
            let from = root + "layers.\(n)."
            let (attention, mlp) = (from + "self_attn.", from + "mlp.")
            return Layer(
                attentionNorm: role(from + "input_layernorm", to + "attn_norm", d),
                feedForwardNorm: role(from + "post_attention_layernorm", to + "ffn_norm", d),
                query: product(attention + "q_proj", to + "attn_q", q, d),
                key: product(attention + "k_proj", to + "attn_k", k, d),
                value: product(attention + "v_proj", to + "attn_v", k, d),
                output: product(attention + "o_proj", to + "attn_output", d, q),
                gate: product(mlp + "gate_proj", to + "ffn_gate", i, d),
                up: product(mlp + "up_proj", to + "ffn_up", i, d),
                down: product(mlp + "down_proj", to + "ffn_down", d, i),
                queryNorm: family.hasHeadNorms
                    ? role(attention + "q_norm", to + "attn_q_norm", shape.headSize) : nil,
                keyNorm: family.hasHeadNorms
                    ? role(attention + "k_norm", to + "attn_k_norm", shape.headSize) : nil,
                attentionSubNorm: family.hasSubNorms
                    ? role(attention + "attn_sub_norm", to + "attn_sub_norm", d) : nil,
                feedForwardSubNorm: family.hasSubNorms
                    ? role(mlp + "ffn_sub_norm", to + "ffn_sub_norm", i) : nil)
        }
        finalNorm = role(root + "norm", "output_norm", d)
        embedding = role(root + "embed_tokens", "token_embd", v, d, kind: .embedding)
        head =
            family.hasHead && !shape.isTied ? role("lm_head", "output", v, d, kind: .dense) : nil
    }

    package var products: [Product] { layers.flatMap(\.products) }

    /// All tensors in the order of the packed file: the small ones, the ternary matrices in order of use, the embedding, the head.
    package var roles: [TensorRole] {
        var vectors: [TensorRole] = []
        for layer in layers {
            vectors += [layer.attentionNorm, layer.feedForwardNorm]
            vectors += [
                layer.queryNorm, layer.keyNorm, layer.attentionSubNorm, layer.feedForwardSubNorm,
            ].compactMap { $0 }
            vectors += layer.products.compactMap(\.norm)
        }
        vectors.append(finalNorm)
        return vectors + products.map(\.weight) + [embedding] + [head].compactMap { $0 }
    }

    /// The packed file's tensors in order.
    ///
    /// - Parameter sourceType: the element type that a ternary or dense tensor has in the checkpoint.
    package func plans<E: Error>(
        _ encoding: EmbeddingEncoding, sourceType: (TensorRole) throws(E) -> String
    ) throws(E) -> [TensorPlan] {
        var plans: [TensorPlan] = []
        for role in roles { plans.append(role.plan(encoding, sourceType: try sourceType(role))) }
        return plans
    }
}

/// A packed file of a model with attention, every tensor found and of the shape that it must have.
package struct AttentionFile: Sendable {
    package let file: PackedFile
    package let shape: AttentionShape
    package let layout: AttentionLayout
    package let encoding: EmbeddingEncoding

    package init(_ file: PackedFile) throws(StoreError) {
        self.file = file
        shape = try AttentionShape(file.metadata)
        layout = AttentionLayout(shape)
        encoding = try EmbeddingEncoding(file.metadata)
        let roles = layout.roles
        for role in roles {
            switch role.kind {
            case .ternary: _ = try file.matrix(role)
            case .dense: _ = try file.dense(role)
            case .vector, .embedding: _ = try file.tensor(role, encoding)
            }
        }
        let names = Set(roles.map(\.packedName))
        if let other = file.tensors.first(where: { !names.contains($0.name) }) {
            throw .malformed(
                "tensor \(other.name.quoted) is none that architecture \(shape.family.rawValue) has"
            )
        }
        try file.map.checkUnchanged()
    }
}

extension PackedFile {
    /// The matrix of floats of a role, in any of the types that it may have.
    package func dense(_ role: TensorRole) throws(StoreError) -> TensorInfo {
        guard let info = self[role.packedName] else { throw .missingTensor(role.packedName) }
        guard [.f32, .f16, .bf16].contains(info.type), info.shape == role.shape else {
            throw .wrongTensor(
                role.packedName, expected: "f32, f16 or bf16 \(role.shape)",
                found: "\(info.type) \(info.shape)")
        }
        return info
    }
}
