// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC

/// An answer to Generate as it is written.
final class Completion: Consumer {
    private let record: RequestRecord
    private let outbox: Outbox<GenerateResponse>
    private let tokenizer: Tokenizer?
    private var step: DecodingStep
    private let started: Started
    private let echo: String?
    /// Of the prompt, if its log-probabilities are reported as well.
    private var scorer: PromptScorer?
    /// Of the last rows; `nil` where logits are not finite.
    private struct Computed {
        var scores: [SampledToken]? = []
        var added: DecodingStep.Added?
    }

    private var computed = Computed()
    /// The text of the answer so far, up to some 64 KiB, if it is to be logged.
    private(set) var transcript: String?

    init(
        record: RequestRecord, outbox: Outbox<GenerateResponse>, tokenizer: Tokenizer?,
        step: DecodingStep, started: Started, echo: String?, scorer: PromptScorer? = nil,
        keepsText: Bool
    ) {
        self.record = record
        self.outbox = outbox
        self.tokenizer = tokenizer
        self.step = step
        self.started = started
        self.echo = echo
        self.scorer = scorer
        transcript = keepsText ? "" : nil
    }

    var stalledSince: UInt64 { outbox.stalledSince }
    var keepsPartialAnswer: Bool { true }

    func begin() {
        var response = GenerateResponse()
        response.started = started
        response.text = echo ?? ""
        if let first = scorer?.tokens.first {
            // Nothing comes before it.
            response.promptLogprobs = [
                TokenLogprobs(SampledToken(id: first, logprob: .nan), tokenizer)
            ]
        }
        outbox.send(response)
    }

    func wants(_ index: Int, of count: Int) -> Wants {
        index == count - 1 || scorer?.needs(index) == true ? .logits : .nothing
    }

    func firstResult(of count: Int) -> Int { min(scorer?.longestPrefix ?? count, count - 1) }
    func limit(to tokens: Int) { step.maxTokens = min(step.maxTokens, tokens) }
    var answerTokens: Int { step.maxTokens }
    var prefixUse: PrefixUse { scorer?.prefixUse ?? .state }
    func scores(at mark: Int) -> KnownScores? { scorer?.known(at: mark) }

    func begin(_ sequence: Sequence, after prefix: KnownPrefix) {
        guard let known = prefix.scores, let scores = scorer?.begin(after: known) else { return }
        _ = report(scores)
    }

    func compute(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool) {
        computed = Computed()
        if scorer != nil, sequence.promptLeft != nil {
            computed.scores = scorer?.take(rows.rows, of: rows.evaluator, from: sequence.read)
        }
        if isPromptDone { computed.added = rows.withLogits { step.take($0) } }
    }

    func take(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool) -> Step {
        guard let scores = computed.scores else { return .notFinite }
        guard scores.isEmpty || report(scores) else { return .closed }
        guard isPromptDone else { return .reading }
        guard let added = computed.added else { return .notFinite }
        record.completionTokens = step.count
        if added.ending != .endOfText {
            var response = GenerateResponse()
            response.tokens = added.tokens.map(\.id)
            if step.reportsLogprobs {
                response.logprobs = added.tokens.map { TokenLogprobs($0, tokenizer) }
            }
            response.text = added.text
            guard send(response) else { return .closed }
        }
        return switch added.ending {
        case .endOfText: .over(.stop)
        case .stopString: .over(.stop, unread: added.tokens.last?.id)
        case .constraintMet: .over(.stop, unread: added.tokens.last?.id)
        case .length: .over(.length, unread: added.tokens.last?.id)
        case .failed(let error): .refused(.invalid("format", "\(error)"))
        case nil: .next(added.tokens[added.tokens.count - 1].id)
        }
    }

    func end(_ reason: FinishReason?, usage: Usage, timings: Timings) {
        var response = GenerateResponse()
        response.text = step.finish()
        var finished = Finished()
        if let reason { finished.reason = reason }
        finished.usage = usage
        if let tokens = record.sessionTokens { finished.sessionTokens = UInt64(tokens) }
        finished.sessionOnDisk = record.isSessionOnDisk
        finished.timings = timings
        response.finished = finished
        _ = send(response)
        outbox.finish()
    }

    func fail(_ error: RPCError) { outbox.fail(error) }

    /// Reports scores of the prompt.
    private func report(_ scores: [SampledToken]) -> Bool {
        var response = GenerateResponse()
        response.promptLogprobs = scores.map { TokenLogprobs($0, tokenizer) }
        return send(response)
    }

    /// - Returns: whether somebody reads it.
    private func send(_ response: GenerateResponse) -> Bool {
        if transcript.map({ $0.utf8.count < 64 << 10 }) ?? false { transcript? += response.text }
        return outbox.send(response) != .closed
    }
}
