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
    func firstResult(of count: Int) -> Int { scorer.from - 1 }

    func compute(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool) {
        scores = scorer.take(rows.rows, of: rows.evaluator, from: sequence.read)
    }

    func take(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool) -> Step {
        guard let scores else { return .notFinite }
        if !scores.isEmpty {
            var response = head
            response.scores = scores.map { TokenLogprobs($0, tokenizer) }
            response.first = UInt32(clamping: max(sequence.read + 1, scorer.from))
            guard outbox.send(response) != .closed else { return .closed }
        }
        return isPromptDone ? .inputDone : .reading
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
