// SPDX-License-Identifier: Apache-2.0

package import Grammar

/// What becomes of one answer's logits: constraint → sample → end? → text → stop strings → limit. The daemon and mmfreectl both run this.
package struct DecodingStep {
    /// Why an answer is complete.
    package enum Ending: Sendable, Equatable {
        case endOfText, stopString, length
        /// The answer is complete under its constraint, which allows nothing more.
        case constraintMet
        /// The constraint cannot be followed any further.
        case failed(GrammarError)
    }

    /// What some rows of logits have added to the answer.
    package struct Added {
        /// In order, without the end-of-text token.
        package var tokens: [SampledToken] = []
        /// Whole characters that no stop string can reach back into.
        package var text = ""
        package var ending: Ending?
    }

    /// Tokens of the answer so far.
    package private(set) var count = 0
    /// Whether log-probabilities are reported.
    package var reportsLogprobs: Bool { sampler.options.logprobs != nil }
    private var sampler: Sampler
    private let tokenizer: Tokenizer?
    private var detokenizer: Detokenizer?
    private var stops: StopMatcher
    private var constraint: Constraint?
    /// The most tokens of the answer, 1 or more.
    package var maxTokens: Int
    /// A stop string has cut the text: nothing that was held back belongs to the answer.
    private var isCut = false

    /// - Parameters:
    ///   - tokenizer: `nil` gives no text and never ends at an end-of-text token.
    ///   - constraint: what the answer obeys, over the tokenizer's vocabulary.
    package init(
        _ sampler: Sampler, tokenizer: Tokenizer?, stops: StopMatcher = StopMatcher([]),
        constraint: Constraint? = nil, maxTokens: Int
    ) {
        self.sampler = sampler
        self.stops = stops
        self.constraint = constraint
        self.maxTokens = maxTokens
        self.tokenizer = tokenizer
        detokenizer = tokenizer.map { Detokenizer($0, continuing: true) }
    }

    /// Chooses the next tokens, as many as rows of logits hold for: the first row always, each further one if the token chosen
    /// before it is the one it was computed after.
    ///
    /// - Parameters:
    ///   - logits: [1 + drafts][vocabulary].
    ///   - drafts: the token that row i + 1 was computed after, for each further row.
    package mutating func take(
        _ logits: UnsafeBufferPointer<Float>, drafts: [UInt32] = []
    ) -> Added {
        let vocabulary = logits.count / (1 + drafts.count)
        var added = Added()
        for row in 0...drafts.count {
            if row > 0, added.tokens[row - 1].id != drafts[row - 1] { break }
            let row = UnsafeBufferPointer(
                rebasing: logits[row * vocabulary..<(row + 1) * vocabulary])
            do throws(GrammarError) {
                // A constraint may be met by the empty text alone.
                if constraint?.isFinal == true {
                    added.ending = .constraintMet
                } else {
                    append(sampler.sample(row, mask: try constraint?.mask()), to: &added)
                    if added.ending != .endOfText { try obey(&added) }
                }
            } catch { added.ending = .failed(error) }
            if added.ending != nil { break }
        }
        return added
    }

    private mutating func append(_ token: SampledToken, to added: inout Added) {
        if tokenizer?.isEnd(token.id) == true {
            added.ending = .endOfText
            return
        }
        count += 1
        added.tokens.append(token)
        if count >= maxTokens { added.ending = .length }
        guard let text = detokenizer?.append(token.id) else { return }
        let (emit, stopped) = stops.append(text)
        added.text += emit
        if stopped {
            isCut = true
            added.ending = .stopString
        }
    }

    /// Follows the token that was added last.
    private mutating func obey(_ added: inout Added) throws(GrammarError) {
        guard let token = added.tokens.last, constraint != nil else { return }
        _ = try constraint?.take(token.id)
        // A complete answer is complete even where it also has as many tokens as are allowed.
        if constraint?.isFinal == true, added.ending != .stopString {
            added.ending = .constraintMet
        }
    }

    /// The text that was held back, when no more tokens come.
    package mutating func finish() -> String {
        guard !isCut else { return "" }
        return stops.append(detokenizer?.finish() ?? "").emit + stops.finish()
    }
}
