// SPDX-License-Identifier: Apache-2.0

/// What one tensor of the architecture is called, on both sides, and how large it is.
package struct TensorRole: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        /// Becomes trits and one scale.
        case ternary
        /// A norm's weight or the lower bounds: kept as F32.
        case vector
        case embedding
    }

    /// The checkpoint's name.
    package let name: String
    /// The packed file's name.
    package let packedName: String
    package let shape: [Int]
    package let kind: Kind

    package var count: Int { shape.reduce(1, *) }
}

extension CheckpointConfig {
    /// All tensors of a model with this configuration, in the order of the packed file: the small
    /// ones, then the ternary matrices in order of use, then the embedding. A tied head, which no
    /// checkpoint stores, is listed as `lm_head.weight`.
    package var roles: [TensorRole] {
        let (D, E, I) = (hiddenSize, innerSize, intermediateSize)
        var vectors: [TensorRole] = []
        var matrices: [TensorRole] = []
        func vector(_ name: String, _ packed: String, _ shape: Int...) {
            vectors.append(
                TensorRole(name: name, packedName: packed, shape: shape, kind: .vector))
        }
        func matrix(_ name: String, _ packed: String, _ rows: Int, _ columns: Int) {
            matrices.append(
                TensorRole(
                    name: name + ".weight", packedName: packed + ".weight",
                    shape: [rows, columns], kind: .ternary))
            vector(name + ".norm.weight", packed + "_norm.weight", columns)
        }
        for layer in 0..<layerCount {
            let (from, to) = ("model.layers.\(layer).", "blk.\(layer).")
            vector(from + "attn_norm.weight", to + "attn_norm.weight", D)
            matrix(from + "attn.i_proj", to + "attn_i", E, D)
            matrix(from + "attn.f_proj", to + "attn_f", E, D)
            matrix(from + "attn.g_proj", to + "attn_g", E, D)
            vector(from + "attn.g_norm.weight", to + "attn_gate_norm.weight", E)
            matrix(from + "attn.o_proj", to + "attn_output", D, E)
            vector(from + "mlp_norm.weight", to + "ffn_norm.weight", D)
            matrix(from + "mlp.gate_proj", to + "ffn_gate_up", 2 * I, D)
            matrix(from + "mlp.down_proj", to + "ffn_down", D, I)
        }
        vector("model.norm.weight", "output_norm.weight", D)
        vector("lm_head.norm.weight", "output_head_norm.weight", D)
        if useLowerBound {
            vector("model.lower_bounds", "lower_bounds.weight", layerCount, D)
        }
        matrices.append(
            TensorRole(
                name: "lm_head.weight", packedName: "output.weight",
                shape: [vocabularySize, D], kind: .ternary))
        return vectors + matrices + [
            TensorRole(
                name: "model.embeddings.weight", packedName: "token_embd.weight",
                shape: [vocabularySize, D], kind: .embedding)
        ]
    }
}
