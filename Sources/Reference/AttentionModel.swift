// SPDX-License-Identifier: Apache-2.0

package import ModelStore
package import Packer

/// A model with attention as the authors' code computes it, in float32 or in bfloat16: one token and one row at a time, in the order the
/// model is written down. Slow, and meant to be read.
package final class AttentionModel {
    /// What tokens leave behind, by layer.
    package struct State: Equatable {
        package var layers: [LayerCache]
        package var count: Int { layers.first?.keys.count ?? 0 }
    }

    package let shape: AttentionShape
    private let weights: AttentionWeights
    private let rounded: Precision
    private let layers: [AttentionLayer]
    private let norm: [Float]
    private let rotation: Rotation
    /// The embedding, where it is the head; nil in embedding models.
    private let head: TensorRole?

    /// - Parameter precision: in bfloat16 the checkpoint's numbers are rounded to it first, as casting a loaded model does.
    package init(
        _ weights: AttentionWeights, precision: Precision = .float32
    ) throws(PackError) {
        self.weights = weights
        rounded = precision
        shape = weights.shape
        let layout = weights.layout
        var layers: [AttentionLayer] = []
        for layer in layout.layers { layers.append(try AttentionLayer(weights, layer, precision)) }
        self.layers = layers
        norm = try weights.vector(layout.finalNorm, precision)
        rotation = Rotation(theta: shape.theta, headSize: shape.headSize)
        head = shape.family.hasHead ? layout.head ?? layout.embedding : nil
    }

    package var freshState: State {
        State(layers: [LayerCache](repeating: LayerCache(), count: layers.count))
    }

    /// Runs `tokens` (each below the vocabulary's size) after whatever `state` has seen.
    package func run(
        _ tokens: [Int], state: inout State, logits wanted: ReferenceModel.Logits = .all
    ) throws(PackError) -> ReferenceModel.Output {
        guard tokens.count <= shape.context - state.count else {
            throw .tensor(
                "a prompt",
                what:
                    "\(state.count + tokens.count) tokens; this model has positions for \(shape.context) (context_length)"
            )
        }
        var output = ReferenceModel.Output(
            hiddenLayers: Array(repeating: [], count: layers.count))
        for (place, token) in tokens.enumerated() {
            precondition(token >= 0 && token < shape.vocabulary, "token out of range")
            var h = rounded(try weights.row(weights.layout.embedding, token))
            for (index, layer) in layers.enumerated() {
                output.hiddenLayers[index].append(h)
                h = layer.run(h, cache: &state.layers[index], rotation)
            }
            let y = Arithmetic.rms(h, norm, shape.epsilon, rounded)
            output.hidden.append(y)
            switch wanted {
            case .all: output.logits.append(try logits(y))
            case .last where place == tokens.count - 1: output.logits.append(try logits(y))
            case .last, .none: break
            }
        }
        return output
    }

    /// y · headᵀ, dense.   y: [D]. Returns [V]; nothing in embedding models.
    private func logits(_ y: [Float]) throws(PackError) -> [Float] {
        guard let head else { return [] }
        var out: [Float] = []
        out.reserveCapacity(shape.vocabulary)
        for index in 0..<shape.vocabulary {
            let row = rounded(try weights.row(head, index))
            var sum = 0.0
            for k in 0..<row.count { sum += Double(y[k]) * Double(row[k]) }
            out.append(rounded(Float(sum)))
        }
        return out
    }

    /// The most likely continuation of `prompt`, `count` tokens long; ties go to the lowest id.
    package func greedy(_ prompt: [Int], count: Int) throws(PackError) -> [Int] {
        var state = freshState
        var next = try run(prompt, state: &state, logits: .last).logits.last
        var out: [Int] = []
        while out.count < count, let logits = next {
            let token = ReferenceModel.argmax(logits)
            out.append(token)
            if out.count < count {
                next = try run([token], state: &state, logits: .last).logits.last
            }
        }
        return out
    }

    /// A text's vector, [D]: of the tokens' hidden states the one or the mean that the model's files name, at length 1 if they
    /// say so.
    ///
    /// - Parameter pooling: another than the files'.
    package func embed(_ tokens: [Int], pooling: Pooling? = nil) throws(PackError) -> [Float] {
        guard !tokens.isEmpty else { throw .tensor("a text", what: "it has no tokens") }
        var state = freshState
        let output = try run(tokens, state: &state, logits: .none)
        let vector =
            switch pooling ?? shape.pooling {
            case .first: output.hidden[0]
            case .last: output.hidden[tokens.count - 1]
            case .mean: output.meanHidden
            }
        guard shape.normalizes else { return vector }
        var squares = 0.0
        for value in vector { squares += Double(value) * Double(value) }
        let length = max(squares.squareRoot(), 1e-12)
        return vector.map { Float(Double($0) / length) }
    }
}
