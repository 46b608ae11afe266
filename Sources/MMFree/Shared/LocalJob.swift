// SPDX-License-Identifier: Apache-2.0

import Engine

/// One input on its way through a model in this process. Once it is submitted, the engine's thread has it alone.
final class LocalJob: @unchecked Sendable {
    /// At least one, all in the vocabulary.
    let tokens: [TokenID]
    let consumer: any LocalConsumer
    /// Tokens its state has read.
    private(set) var history = TokenHistory()
    /// Chosen, and to be fed next.
    private(set) var last: TokenID?
    var slot: Int?
    /// What it remembered when it had to leave its slot.
    var snapshot: StateSnapshot?

    init(_ tokens: [TokenID], _ consumer: any LocalConsumer) {
        self.tokens = tokens
        self.consumer = consumer
    }

    /// Prompt tokens that are not read yet.
    var promptLeft: Int { max(0, tokens.count - history.count) }

    /// Its next rows, at most `count`.
    func rows(_ count: Int, slot: Int) -> [BatchRow] {
        if let last { return [BatchRow(slot: slot, token: last, wants: .logits)] }
        let most = min(count, consumer.mostRows)
        return tokens[history.count...].prefix(most).indices.map {
            BatchRow(slot: slot, token: tokens[$0], wants: consumer.wants($0, of: tokens.count))
        }
    }

    /// Takes what came of `rows`, numbers in the evaluator's last batch.
    ///
    /// - Returns: whether it is over.
    func take(_ rows: Range<Int>, of evaluator: Evaluator) -> Bool {
        let first = history.count
        if let last {
            history.append(last)
        } else {
            history.append(tokens[first..<first + rows.count])
        }
        switch consumer.take(rows, of: evaluator, from: first, isPromptDone: promptLeft == 0) {
        case .reading: return false
        case .next(let token):
            last = token
            return false
        case .over: return true
        }
    }
}

/// What has become of a job after a batch.
enum LocalStep {
    case reading
    /// A token was chosen.
    case next(TokenID)
    case over
}

/// What a job's rows are computed for, and its way back to the caller. Used by the engine's thread.
protocol LocalConsumer: AnyObject {
    /// Whether it takes what may be computed next.
    var hasRoom: Bool { get }
    /// Whether nobody wants the rest.
    var isCancelled: Bool { get }
    /// - Parameter ahead: jobs that wait before this one.
    func begin(ahead: Int)
    /// The job has a slot.
    func enter()
    /// What row `index` of a prompt of `count` tokens is computed for.
    func wants(_ index: Int, of count: Int) -> Wants
    /// The most rows of its prompt in one batch.
    var mostRows: Int { get }
    /// - Parameter first: how many tokens were read before these rows.
    func take(
        _ rows: Range<Int>, of evaluator: Evaluator, from first: Int, isPromptDone: Bool
    ) -> LocalStep
    func fail(_ error: MMFreeError)
}

extension LocalConsumer {
    var mostRows: Int { .max }

    /// Ends the call of a model whose results are not finite.
    var failed: LocalStep {
        fail(MMFreeError(.dataLoss, "\(ModelError.notFinite)", reason: "MODEL_DAMAGED"))
        return .over
    }
}

/// An answer as it is written.
final class LocalCompletion: LocalConsumer {
    let call: LocalCall<GenerateEvent>
    private var started: GenerateEvent.Started
    private let tokenizer: Tokenizer?
    private let echo: String
    /// Of the prompt, if its log-probabilities are reported as well.
    private var scorer: PromptScorer?
    private var step: DecodingStep
    private var timings = Timings()
    private var mark = ContinuousClock.now

    init(
        _ call: LocalCall<GenerateEvent>, started: GenerateEvent.Started, tokenizer: Tokenizer?,
        echo: String, scorer: PromptScorer?, step: DecodingStep
    ) {
        self.call = call
        self.started = started
        self.tokenizer = tokenizer
        self.echo = echo
        self.scorer = scorer
        self.step = step
    }

    var hasRoom: Bool { call.hasRoom }
    var isCancelled: Bool { call.isCancelled }

    func begin(ahead: Int) {
        started.queuePosition = ahead
        var event = GenerateEvent(started: started, text: echo)
        if let first = scorer?.tokens.first {
            event.promptLogprobs = [
                TokenLogprobs(SampledToken(id: first, logprob: .nan), tokenizer)
            ]
        }
        call.send(event)
    }

    func enter() { lap(\.queue) }
    func wants(_ index: Int, of count: Int) -> Wants {
        index == count - 1 || scorer?.needs(index) == true ? .logits : .nothing
    }
    var mostRows: Int { scorer == nil ? .max : PromptScorer.batchRows }
    func fail(_ error: MMFreeError) { call.finish(.failure(error)) }

    private func lap(_ part: WritableKeyPath<Timings, Duration>) {
        let now = ContinuousClock.now
        timings[keyPath: part] += now - mark
        mark = now
    }

    func take(
        _ rows: Range<Int>, of evaluator: Evaluator, from first: Int, isPromptDone: Bool
    ) -> LocalStep {
        if let count = scorer?.tokens.count, first < count {
            guard let added = scorer?.take(rows, of: evaluator, from: first) else { return failed }
            if !added.isEmpty {
                call.send(
                    GenerateEvent(promptLogprobs: added.map { TokenLogprobs($0, tokenizer) }))
            }
        }
        guard isPromptDone else { return .reading }
        lap(step.count == 0 ? \.prefill : \.decode)
        guard
            let added = evaluator.withLogits(
                row: rows.upperBound - 1, { $0.isFinite ? step.take($0) : nil })
        else { return failed }
        var event = GenerateEvent(text: added.text)
        if added.ending != .endOfText {
            event.tokens = added.tokens.map(\.id)
            if step.reportsLogprobs {
                event.logprobs = added.tokens.map { TokenLogprobs($0, tokenizer) }
            }
        }
        guard let ending = added.ending else {
            call.send(event)
            return .next(added.tokens[added.tokens.count - 1].id)
        }
        if case .failed(let error) = ending {
            fail(.invalid("format", "\(error)"))
            return .over
        }
        event.text += step.finish()
        event.finished = GenerateEvent.Finished(
            reason: ending == .length ? .length : .stop,
            usage: Usage(promptTokens: started.promptTokens, completionTokens: step.count),
            timings: timings)
        call.send(event)
        call.finish()
        return .over
    }

}

extension TokenLogprobs {
    init(_ token: SampledToken, _ tokenizer: Tokenizer?) {
        func alternative(_ id: TokenID, _ logprob: Float) -> Alternative {
            Alternative(token: id, logprob: logprob, bytes: tokenizer?.bytes(of: id) ?? [])
        }
        chosen = alternative(token.id, token.logprob)
        top = token.top.map { alternative($0.id, $0.logprob) }
    }
}

/// The vector of one input.
final class LocalVector: LocalConsumer {
    let call: LocalCall<Embedding>
    private let index: Int
    private let normalizes: Bool
    private var vector: PooledVector
    private var tokens = 0
    /// Of the whole input.
    private var count = 0

    init(
        _ call: LocalCall<Embedding>, index: Int, kind: PooledVector.Kind, normalizes: Bool
    ) {
        self.call = call
        self.index = index
        self.normalizes = normalizes
        vector = PooledVector(kind)
    }

    var hasRoom: Bool { true }
    var isCancelled: Bool { call.isCancelled }
    func begin(ahead: Int) {}
    func enter() {}
    func fail(_ error: MMFreeError) { call.finish(.failure(error)) }
    func wants(_ index: Int, of count: Int) -> Wants {
        self.count = count
        return vector.kind.needs(index, of: count) ? .hidden : .nothing
    }

    func take(
        _ rows: Range<Int>, of evaluator: Evaluator, from first: Int, isPromptDone: Bool
    ) -> LocalStep {
        tokens += rows.count
        for row in rows where vector.kind.needs(first + row - rows.lowerBound, of: count) {
            evaluator.withHidden(row: row) { vector.add($0) }
        }
        guard isPromptDone else { return .reading }
        guard vector.finish(normalizes: normalizes) else { return failed }
        call.send(
            Embedding(
                index: index, dimensions: vector.width, values: vector.values,
                promptTokens: tokens))
        call.finish()
        return .over
    }
}

extension PooledVector.Kind {
    init(_ pooling: Pooling) {
        switch pooling {
        case .automatic, .mean: self = .mean
        case .last: self = .last
        case .none: self = .all
        }
    }
}
