// SPDX-License-Identifier: Apache-2.0

/// What packing did, in numbers.
package struct PackReport: Sendable, Equatable {
    package struct Zeros: Sendable, Equatable {
        /// The matrices' name without the layer, such as "attn_i" or "output".
        package var kind: String
        package var zeros: Int
        package var weights: Int
        /// 0...1
        package var fraction: Double { weights == 0 ? 0 : Double(zeros) / Double(weights) }
    }

    package var name: String
    /// Bytes of all tensors of the checkpoint, and of the file written.
    package var checkpointBytes = 0
    package var fileBytes = 0
    /// Weights of the checkpoint; how many of them are ternary, and the bytes those take.
    package var weights = 0
    package var ternaryWeights = 0
    package var ternaryBytes = 0
    /// One entry for each kind of matrix, in order of use.
    package var zeros: [Zeros] = []
    package var matrices = 0
    package var alreadyTernary = 0
    /// "f32", "f16", "bf16" or "q6"
    package var embedding = ""
    package var embeddingBytes = 0
    /// Root mean square of the embedding's error over that of its values; 0 if kept as it was.
    package var embeddingError = 0.0
    /// The tokenizer's file; nil if the model serves token ids only.
    package var tokenizer: String?
    package var digest = ""
    package var warnings: [String] = []
    package var seconds = 0.0

    /// Bits of the file for each weight of the model.
    package var bitsPerWeight: Double {
        weights == 0 ? 0 : Double(fileBytes) * 8 / Double(weights)
    }
    package var bitsPerTernaryWeight: Double {
        ternaryWeights == 0 ? 0 : Double(ternaryBytes) * 8 / Double(ternaryWeights)
    }

    package init(name: String) { self.name = name }
}
