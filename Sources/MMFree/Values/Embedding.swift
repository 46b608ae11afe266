// SPDX-License-Identifier: Apache-2.0

import RPC

/// The vector of an input, or, with ``Pooling/none``, one for each of its tokens.
public struct Embedding: Sendable, Equatable {
    /// Which input it is of.
    public var index: Int
    /// Numbers in one vector.
    public var dimensions: Int
    /// [dimensions], or [tokens][dimensions].
    public var values: [Float]
    public var promptTokens: Int
}

/// How the vectors of an input's tokens become one.
public enum Pooling: Sendable, CaseIterable {
    /// What the model's files say, at length one if they say so; their mean where they say nothing.
    case automatic
    /// Their mean.
    case mean
    /// The last token's.
    case last
    /// All of them.
    case none
}

/// The tokens of a text.
public struct Tokens: Sendable, Equatable {
    public var ids: [TokenID]
    /// As they stand in the vocabulary, one for each of ``ids``.
    public var pieces: [String]
}

// MARK: The wire

extension Pooling {
    var wire: RPC.Pooling {
        switch self {
        case .automatic: .unspecified
        case .mean: .mean
        case .last: .last
        case .none: .none
        }
    }
}

extension Embedding {
    /// - Parameter first: the place of the request's first input among all.
    init(_ wire: RPC.Embedding, first: Int) {
        self.init(
            index: first + Int(wire.index), dimensions: Int(wire.dimensions), values: wire.values,
            promptTokens: Int(wire.promptTokens))
    }
}
