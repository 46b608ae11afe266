// SPDX-License-Identifier: Apache-2.0

import RPC

/// How likely a model finds the tokens of a text, each given all those before it.
public struct Scores: Sendable, Equatable {
    /// The position of the first token that is scored; tokens are counted from 0, a beginning-of-text token with them.
    public var first: Int
    /// One for each position from ``first`` on.
    public var logprobs: [TokenLogprobs]
    public var usage: Usage
    public var model: String
    public var modelDigest: String

    /// The sum of the tokens' log-probabilities: the natural logarithm of the probability of all of them.
    public var total: Double { logprobs.reduce(0) { $0 + Double($1.chosen.logprob) } }
}
