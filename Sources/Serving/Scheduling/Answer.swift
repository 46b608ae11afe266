// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import RPC

/// One answer as it is written: sampler, text, stop strings, and the way back to the caller.
final class Answer {
    private let sink: ReplySink<GenerateResponse>
    private let tokenizer: Tokenizer?
    private var sampler: Sampler
    private var detokenizer: Detokenizer?
    private var stops: StopMatcher
    private let maxTokens: Int
    private let wantsLogprobs: Bool
    private var started: Started
    private let echo: String?
    /// The text of the answer so far, up to some 64 KiB, if it is to be logged.
    private(set) var transcript: String?
    private(set) var count = 0
    /// Messages the reader has not taken; at most two.
    private var waiting: [GenerateResponse] = []
    private(set) var waitingSince: UInt64 = 0
    private(set) var isClosed = false

    init(
        sink: ReplySink<GenerateResponse>, tokenizer: Tokenizer?, sampler: Sampler,
        stops: StopMatcher, maxTokens: Int, started: Started, echo: String?, keepsText: Bool
    ) {
        self.sink = sink
        self.tokenizer = tokenizer
        self.sampler = sampler
        self.stops = stops
        self.maxTokens = maxTokens
        wantsLogprobs = sampler.options.logprobs != nil
        self.started = started
        self.echo = echo
        transcript = keepsText ? "" : nil
        detokenizer = tokenizer.map { Detokenizer($0, continuing: true) }
    }

    /// Tells the caller that the request is in.
    func begin() {
        var response = GenerateResponse()
        response.started = started
        response.text = echo ?? ""
        waiting.append(response)
        flush()
    }

    /// Whether the reader takes what is written; false pauses this answer alone.
    var isFlowing: Bool { waiting.isEmpty }

    /// Chooses the next token and sends what it adds.
    ///
    /// - Returns: the token to feed, or why the answer is over.
    func next(_ logits: UnsafeBufferPointer<Float>) -> Result<UInt32, Ending> {
        let token = sampler.sample(logits)
        if tokenizer?.isEnd(token.id) == true { return .failure(Ending(.stop)) }
        count += 1
        var response = GenerateResponse()
        response.tokens = [token.id]
        if wantsLogprobs { response.logprobs = [logprobs(token)] }
        var reason: FinishReason?
        if let text = detokenizer?.append(token.id) {
            let (emit, stopped) = stops.append(text)
            response.text = emit
            if stopped {
                reason = .stop
                isCut = true
            }
        }
        if reason == nil, count >= maxTokens { reason = .length }
        send(response)
        if let reason { return .failure(Ending(reason)) }
        return .success(token.id)
    }

    /// Why an answer is over.
    struct Ending: Error {
        let reason: FinishReason
        init(_ reason: FinishReason) { self.reason = reason }
    }

    /// Sends what was held back and the last message.
    func end(_ reason: FinishReason, usage: Usage, timings: Timings) {
        var response = GenerateResponse()
        if !isCut {
            response.text = stops.append(detokenizer?.finish() ?? "").emit + stops.finish()
        }
        var finished = Finished()
        finished.reason = reason
        finished.usage = usage
        finished.timings = timings
        response.finished = finished
        send(response)
        // A reader that is behind gets the end merged into what still waits for it, or nothing if it never reads again.
        if !waiting.isEmpty { hasEnded = true } else { sink.finish() }
    }

    /// The last message waits for the reader.
    private(set) var hasEnded = false
    /// A stop string has cut the text: nothing that was held back belongs to the answer.
    private var isCut = false

    func fail(_ error: RPCError) {
        isClosed = true
        waiting = []
        waitingSince = 0
        sink.fail(error)
    }

    /// Tries again what the reader did not take.
    func flush() {
        while let first = waiting.first {
            switch sink.send(first) {
            case .accepted:
                waiting.removeFirst()
            case .full:
                if waitingSince == 0 { waitingSince = cl_monotonic_nanoseconds() }
                return
            case .closed:
                isClosed = true
                waiting = []
            }
        }
        waitingSince = 0
        if hasEnded { sink.finish() }
    }

    func onReady(_ handler: @escaping @Sendable () -> Void) { sink.onReady(handler) }

    private func send(_ response: GenerateResponse) {
        if transcript.map({ $0.utf8.count < 64 << 10 }) ?? false { transcript? += response.text }
        waiting.append(response)
        flush()
    }

    private func logprobs(_ token: SampledToken) -> TokenLogprobs {
        func logprob(_ id: UInt32, _ value: Float) -> TokenLogprob {
            var logprob = TokenLogprob()
            logprob.token = id
            logprob.logprob = value
            logprob.text = tokenizer?.bytes(of: id) ?? []
            return logprob
        }
        var result = TokenLogprobs()
        result.chosen = logprob(token.id, token.logprob)
        result.top = token.top.map { logprob($0.id, $0.logprob) }
        return result
    }
}
