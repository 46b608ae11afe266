// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC

/// The scores of a Score call, sent as they are computed. Its sequence has all tokens but the last, which nothing follows.
final class ScoreJob: Consumer {
    private let outbox: Outbox<ScoreResponse>
    private let tokenizer: Tokenizer?
    private var scorer: PromptScorer
    /// Of the last rows; `nil` where logits are not finite.
    private var scores: [SampledToken]? = []
    /// What every message says.
    private let head: ScoreResponse

    init(
        record: RequestRecord, outbox: Outbox<ScoreResponse>, digest: String,
        tokenizer: Tokenizer?, scorer: PromptScorer
    ) {
        self.outbox = outbox
        self.tokenizer = tokenizer
        self.scorer = scorer
        head = ScoreResponse(
            requestID: record.id, model: record.model, modelDigest: digest,
            first: UInt32(clamping: scorer.from))
    }

    var stalledSince: UInt64 { outbox.stalledSince }
    var keepsPartialAnswer: Bool { false }
    var transcript: String? { nil }

    func begin() {}

    func wants(_ index: Int, of count: Int) -> Wants { scorer.needs(index) ? .logits : .nothing }
    func firstResult(of count: Int) -> Int { min(scorer.longestPrefix, count - 1) }
    var prefixUse: PrefixUse { scorer.prefixUse }
    func scores(at mark: Int) -> KnownScores? { scorer.known(at: mark) }

    func begin(_ sequence: Sequence, after prefix: KnownPrefix) {
        guard scorer.from == 1, let known = prefix.scores else { return }
        send(scorer.begin(after: known), from: 1)
    }

    func compute(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool) {
        scores = scorer.take(rows.rows, of: rows.evaluator, from: sequence.read)
    }

    func take(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool) -> Step {
        guard let scores else { return .notFinite }
        guard scores.isEmpty || send(scores, from: max(sequence.read + 1, scorer.from))
        else { return .closed }
        return isPromptDone ? .inputDone : .reading
    }

    /// - Returns: whether somebody reads it.
    @discardableResult
    private func send(_ scores: [SampledToken], from first: Int) -> Bool {
        var response = head
        response.scores = scores.map { TokenLogprobs($0, tokenizer) }
        response.first = UInt32(clamping: first)
        return outbox.send(response) != .closed
    }

    func end(_ reason: FinishReason?, usage: Usage, timings: Timings) {
        var response = head
        response.first = UInt32(clamping: scorer.tokens.count)
        response.usage = usage
        outbox.send(response)
        outbox.finish()
    }

    func fail(_ error: RPCError) { outbox.fail(error) }
}
