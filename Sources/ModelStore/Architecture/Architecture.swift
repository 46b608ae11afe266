// SPDX-License-Identifier: Apache-2.0

/// What model a packed file holds, of any architecture that is run.
package enum Architecture: Sendable, Equatable {
    case hgrnbit(ModelShape)
    case attention(AttentionShape)

    package init(_ metadata: Metadata) throws(StoreError) {
        let name = try metadata.string(forKey: FormatKeys.architecture)
        self =
            name == Format.architecture
            ? .hgrnbit(try ModelShape(metadata)) : .attention(try AttentionShape(metadata))
    }

    /// `general.architecture`
    package var name: String {
        switch self {
        case .hgrnbit: Format.architecture
        case .attention(let shape): shape.family.rawValue
        }
    }

    package var vocabulary: Int {
        switch self {
        case .hgrnbit(let shape): shape.vocabulary
        case .attention(let shape): shape.vocabulary
        }
    }

    package var hidden: Int {
        switch self {
        case .hgrnbit(let shape): shape.hidden
        case .attention(let shape): shape.hidden
        }
    }

    package var layers: Int {
        switch self {
        case .hgrnbit(let shape): shape.layers
        case .attention(let shape): shape.layers
        }
    }

    package var intermediate: Int {
        switch self {
        case .hgrnbit(let shape): shape.intermediate
        case .attention(let shape): shape.intermediate
        }
    }

    package var ternaryWeights: Int {
        switch self {
        case .hgrnbit(let shape): shape.ternaryWeights
        case .attention(let shape): shape.ternaryWeights
        }
    }

    /// - Parameter keyValues: how keys and values are stored, where there are any.
    package func memory(_ keyValues: KeyValueType) -> SequenceMemory {
        switch self {
        case .hgrnbit(let shape): .recurrent(floats: shape.stateCount)
        case .attention(let shape):
            .attention(
                numbersPerToken: shape.tokenNumbers, type: keyValues, context: shape.context)
        }
    }

    /// Whether it predicts tokens.
    package var hasHead: Bool {
        switch self {
        case .hgrnbit: true
        case .attention(let shape): shape.family.hasHead
        }
    }

    /// How the model's files make a text's vector: nil where they say nothing of it.
    package var embedding: (pooling: Pooling, normalizes: Bool)? {
        switch self {
        case .attention(let shape) where !shape.family.hasHead: (shape.pooling, shape.normalizes)
        default: nil
        }
    }
}
