// SPDX-License-Identifier: Apache-2.0

/// The log-probabilities of a prompt's tokens, each given those before it, as the rows before them are computed.
package struct PromptScorer {
    /// The whole prompt.
    package let tokens: [UInt32]
    /// The first position that is scored: 1 or more.
    package let from: Int
    /// How many of the likeliest tokens are reported with each.
    private let top: Int
    private var scorer: TokenScorer

    /// The most rows of one batch that should want logits for this: each takes four bytes for each token of the vocabulary.
    package static let batchRows = 64

    package init(_ tokens: [UInt32], from: Int, top: Int, kernels: Kernels.Table) {
        precondition(from >= 1)
        self.tokens = tokens
        self.from = from
        self.top = top
        scorer = TokenScorer(kernels: kernels)
    }

    /// Whether the logits of the row at `index` score a token.
    package func needs(_ index: Int) -> Bool { index >= from - 1 && index + 1 < tokens.count }

    /// Takes rows of the evaluator's last batch; the first of them is at `first` of the prompt.
    ///
    /// - Returns: the scores of the tokens after them that are to be scored; `nil` if logits are not finite.
    package mutating func take(
        _ rows: Range<Int>, of evaluator: Evaluator, from first: Int
    ) -> [SampledToken]? {
        var scores: [SampledToken] = []
        for row in rows {
            let index = first + row - rows.lowerBound
            guard needs(index) else { continue }
            let score = evaluator.withLogits(row: row) { logits in
                logits.isFinite ? scorer.score(tokens[index + 1], logits, top: top) : nil
            }
            guard let score else { return nil }
            scores.append(score)
        }
        return scores
    }
}
