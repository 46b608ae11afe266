// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC

/// What a request's rows are computed for, and its way back to the caller. Used by the decode thread only, but for `compute`.
protocol Consumer: AnyObject {
    /// Tells the caller that the request is in.
    func begin()
    /// What row `index` of a prompt of `count` tokens is computed for.
    func wants(_ index: Int, of count: Int) -> Wants
    /// The first row of a prompt of `count` tokens whose own result is wanted: a known prefix is of use up to there.
    func firstResult(of count: Int) -> Int
    /// What it can use of a prefix that is known.
    var prefixUse: PrefixUse { get }
    /// A sequence begins after a known prefix.
    func begin(_ sequence: Sequence, after prefix: KnownPrefix)
    /// Its sequence has room for so many more tokens than its prompt; at least one.
    func limit(to tokens: Int)
    /// Whether it needs room for an answer, and for how many tokens at most; 0 if it reads only.
    var answerTokens: Int { get }
    /// The sum of the hidden states of the first `mark` tokens of a sequence, of the rows just taken, if that is of use.
    func hiddenSum(of sequence: Sequence, at mark: Int) -> [Float]?
    /// The scores of the first `mark` tokens after the first one, likewise.
    func scores(at mark: Int) -> KnownScores?
    /// What takes long before `take` of the same rows: on any thread while the decode thread waits, beside other consumers, so
    /// nothing is sent from here. A consumer that does something here has one sequence.
    func compute(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool)
    /// Takes the rows just computed for a sequence.
    ///
    /// - Parameter isPromptDone: whether the prompt ends with the last row, or ended before.
    func take(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool) -> Step
    /// Since when the caller has not read what waits for it. CLOCK_MONOTONIC, nanoseconds; 0 while nothing waits.
    var stalledSince: UInt64 { get }
    /// Whether a request that is cut short ends with what there is, and not with an error.
    var keepsPartialAnswer: Bool { get }
    /// Sends the last of the answer.
    func end(_ reason: FinishReason?, usage: Usage, timings: Timings)
    func fail(_ error: RPCError)
    /// What is to be logged of the answer's text.
    var transcript: String? { get }
}

extension Consumer {
    var prefixUse: PrefixUse { .state }
    func firstResult(of count: Int) -> Int { count - 1 }
    func begin(_ sequence: Sequence, after prefix: KnownPrefix) {}
    func limit(to tokens: Int) {}
    var answerTokens: Int { 0 }
    func compute(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool) {}
    func hiddenSum(of sequence: Sequence, at mark: Int) -> [Float]? { nil }
    func scores(at mark: Int) -> KnownScores? { nil }
}

/// What of a known prefix a request can begin with.
enum PrefixUse: Equatable {
    /// Every token's own result is wanted.
    case nothing
    case state
    case stateAndSum
    /// With so many of the likeliest tokens beside each.
    case stateAndScores(top: Int)

    func allows(_ prefix: KnownPrefix, of tokens: [UInt32]) -> Bool {
        switch self {
        case .nothing: false
        case .state: true
        case .stateAndSum: prefix.hiddenSum != nil
        case .stateAndScores(let top):
            prefix.scores.map { $0.top == top && $0.next == tokens[$0.count] } ?? false
        }
    }
}

extension PromptScorer {
    var prefixUse: PrefixUse { from == 1 ? .stateAndScores(top: top) : .state }
}

/// What has become of a sequence after a batch.
enum Step: Equatable {
    /// Its prompt is being read.
    case reading
    /// A token was chosen and is to be fed next.
    case next(UInt32)
    /// All of the input has been used; the request goes on with its others.
    case inputDone
    /// The whole request is answered; the last token chosen, if it belongs to the answer, has not been fed.
    case over(FinishReason, unread: UInt32? = nil)
    /// Nobody reads the answer any more.
    case closed
    /// The model's results are of no use: why.
    case unusable(String)
    /// The request cannot go on: why.
    case refused(RPCError)

    static let notFinite = unusable("\(ModelError.notFinite)")
}

/// Rows of the last batch that belong to one sequence.
struct ComputedRows {
    let evaluator: Evaluator
    let rows: Range<Int>

    /// The logits of the last row: [vocabulary]; `nil` if they are not finite.
    func withLogits<R>(_ body: (UnsafeBufferPointer<Float>) -> R) -> R? {
        evaluator.withLogits(row: rows.upperBound - 1) { $0.isFinite ? body($0) : nil }
    }

    /// The hidden state of row `index` of these: [hidden].
    func withHidden(_ index: Int, _ body: (UnsafeBufferPointer<Float>) -> Void) {
        evaluator.withHidden(row: rows.lowerBound + index, body)
    }
}
