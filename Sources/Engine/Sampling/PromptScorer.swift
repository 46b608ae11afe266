// SPDX-License-Identifier: Apache-2.0

/// The log-probabilities of a prompt's tokens, each given those before it, as the rows before them are computed.
package struct PromptScorer {
    /// The whole prompt.
    package let tokens: [UInt32]
    /// The first position that is scored: 1 or more.
    package let from: Int
    /// How many of the likeliest tokens are reported with each.
    package let top: Int
    private var scorer: TokenScorer
    /// Of all positions so far; `nil` where the first of them is not scored.
    private var known: KnownScores?

    /// The most rows of one batch that should want logits for this: each takes four bytes for each token of the vocabulary.
    package static let batchRows = 64

    package init(_ tokens: [UInt32], from: Int, top: Int, kernels: Kernels.Table) {
        precondition(from >= 1)
        self.tokens = tokens
        self.from = from
        self.top = top
        scorer = TokenScorer(kernels: kernels)
        known = from == 1 ? KnownScores(top: top) : nil
    }

    /// How many tokens of a prefix it can begin after: with their scores, if it scores all, or those before the first that it scores.
    package var longestPrefix: Int {
        from == 1 ? min(tokens.count - 1, KnownScores.limit(top: top)) : from - 1
    }

    /// Goes on after a prefix.
    ///
    /// - Returns: its scores.
    package mutating func begin(after prefix: KnownScores) -> [SampledToken] {
        known = prefix
        return prefix.scores(of: tokens)
    }

    /// What is known after the first `mark` tokens.
    package func known(at mark: Int) -> KnownScores? {
        mark < tokens.count ? known?.prefix(mark, of: tokens) : nil
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
            // Of a vocabulary that is smaller there are fewer.
            if score.top.count == top { known?.append(score) } else { known = nil }
        }
        return scores
    }
}
