// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
package import Packer

/// The original checkpoint run as the original code runs it, for comparison only.
///
/// It shares no line with the engine: no packed file, no kernels, one token and one row at a time,
/// in the order the model is written down. Slow, and meant to be read. With the packer it shares
/// how weights are made ternary.
package final class ReferenceModel {
    /// What one call computed.   T: tokens given.
    package struct Output {
        /// [L][T][D]: what each layer was given.
        package var hiddenLayers: [[[Float]]]
        /// [T][D]: after the last norm.
        package var hidden: [[Float]] = []
        /// [T][V], or only the last token's.
        package var logits: [[Float]] = []
    }

    package enum Logits { case all, last, none }

    /// The recurrent state: [L][E]. All zero before the first token.
    package struct State: Equatable {
        package var layers: [[Float]]
    }

    private let shape: ModelShape
    private let embedding: CheckpointTensor
    private let layers: [Layer]
    private let norm: [Float]
    private let head: BitLinear
    /// Keeps the mapped files alive.
    private let checkpoint: Checkpoint

    package init(_ checkpoint: Checkpoint) throws(PackError) {
        self.checkpoint = checkpoint
        shape = checkpoint.config.shape
        let layout = checkpoint.layout
        embedding = try checkpoint.tensor(layout.embedding)
        var bounds: [[Float]]?
        if let role = layout.lowerBounds {
            bounds = Arithmetic.lowerBounds(
                try checkpoint.tensor(role).floats(), layers: shape.layers,
                width: shape.hidden)
        }
        var layers: [Layer] = []
        for (index, layer) in layout.layers.enumerated() {
            layers.append(try Layer(checkpoint, layer, bound: index > 0 ? bounds?[index] : nil))
        }
        self.layers = layers
        norm = try checkpoint.tensor(layout.finalNorm).floats()
        head = try BitLinear(checkpoint, layout.head)
    }

    package var freshState: State {
        State(
            layers: Array(repeating: Array(repeating: 0, count: shape.inner), count: shape.layers))
    }

    /// Runs `tokens` (each below the vocabulary's size) after whatever `state` has seen.
    package func run(
        _ tokens: [Int], state: inout State, logits wanted: Logits = .all
    ) -> Output {
        var output = Output(hiddenLayers: Array(repeating: [], count: shape.layers))
        for (position, token) in tokens.enumerated() {
            var h = embeddingRow(token)
            for (index, layer) in layers.enumerated() {
                output.hiddenLayers[index].append(h)
                h = layer.run(h, state: &state.layers[index], epsilon: shape.epsilon)
            }
            let y = Arithmetic.rms(h, norm, shape.epsilon)
            output.hidden.append(y)
            switch wanted {
            case .all: output.logits.append(head(y))
            case .last where position == tokens.count - 1: output.logits.append(head(y))
            case .last, .none: break
            }
        }
        return output
    }

    /// The most likely continuation of `prompt`, `count` tokens long; ties go to the lowest id.
    package func greedy(_ prompt: [Int], count: Int) -> [Int] {
        var state = freshState
        var next = run(prompt, state: &state, logits: .last).logits.last
        var out: [Int] = []
        while out.count < count, let logits = next {
            let token = Self.argmax(logits)
            out.append(token)
            next = run([token], state: &state, logits: .last).logits.last
        }
        return out
    }

    /// Lowest index of the largest value.
    package static func argmax(_ values: [Float]) -> Int {
        var best = 0
        for k in 0..<values.count where values[k] > values[best] { best = k }
        return best
    }

    private func embeddingRow(_ token: Int) -> [Float] {
        precondition(token >= 0 && token < shape.vocabulary, "token out of range")
        let width = shape.hidden
        return [Float](unsafeUninitializedCapacity: width) { buffer, initialized in
            if let base = buffer.baseAddress {
                embedding.copyFloats(token * width..<(token + 1) * width, to: base)
            }
            initialized = width
        }
    }
}

extension ReferenceModel.Output {
    /// Average over the positions of the last norm's output, as embeddings of a text are made.
    package var meanHidden: [Float] {
        guard let width = hidden.first?.count else { return [] }
        return (0..<width).map { k in
            Float(hidden.reduce(0.0) { $0 + Double($1[k]) } / Double(hidden.count))
        }
    }
}
