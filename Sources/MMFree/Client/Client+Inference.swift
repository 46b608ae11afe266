// SPDX-License-Identifier: Apache-2.0

import RPC

extension Client {
    /// Continues a prompt; the request is made when the result is gone through.
    ///
    /// ```swift
    /// for try await part in client.generate("Once upon a time") { print(part.text, terminator: "") }
    /// ```
    ///
    /// - Parameters:
    ///   - model: its name; empty for the daemon's default.
    ///   - timeout: how long the answer may take, waiting included; when it is over, the answer ends with
    ///     ``FinishReason/deadline``, or, where it has not begun, with an error of code `deadlineExceeded`.
    public func generate(
        _ prompt: Prompt, model: String = "", options: GenerateOptions = GenerateOptions(),
        timeout: Duration? = nil
    ) -> Generation {
        let request = Result { () throws(MMFreeError) in
            try options.request(prompt, model: model)
        }
        return Generation { [self] in RemoteGeneration(self, request, timeout) }
    }

    /// The vectors of any number of inputs, in their order.
    ///
    /// They are sent 64 at a time, and in requests of at most 2 MiB.
    ///
    /// - Parameters:
    ///   - model: its name; empty for the daemon's default.
    ///   - normalized: whether every vector is scaled to length one.
    ///   - timeout: for each request.
    public func embed(
        _ inputs: [Prompt], model: String = "", pooling: Pooling = .automatic,
        normalized: Bool = false, timeout: Duration? = nil
    ) async throws -> [Embedding] {
        var vectors: [Embedding] = []
        vectors.reserveCapacity(inputs.count)
        while vectors.count < inputs.count {
            let first = vectors.count
            var request = EmbedRequest(model: model, pooling: pooling.wire, normalize: normalized)
            var bytes = 0
            for input in inputs[first...].prefix(Self.embedBatch) {
                bytes += input.byteCount
                guard request.input.isEmpty || bytes <= Self.textLimit / 2 else { break }
                request.input.append(EmbedInput(input: input.wire))
            }
            vectors += try await embed(request, first, timeout)
        }
        return vectors
    }

    /// The vector of a text.
    public func embed(
        _ text: String, model: String = "", pooling: Pooling = .automatic, normalized: Bool = false,
        timeout: Duration? = nil
    ) async throws -> Embedding {
        try await embed(
            [.text(text)], model: model, pooling: pooling, normalized: normalized,
            timeout: timeout)[0]
    }

    /// Inputs of one request.
    package static let embedBatch = 64

    /// - Parameter first: the place of the request's first input among all.
    private func embed(
        _ request: EmbedRequest, _ first: Int, _ timeout: Duration?
    ) async throws -> [Embedding] {
        var attempts = Attempts(self, isIdempotent: true)
        while true {
            do {
                var vectors = [Embedding?](repeating: nil, count: request.input.count)
                let answer: AnswerStream<EmbedResponse> = try await attempts.next().stream(
                    ServiceName.inference, "Embed", request, timeout: nanoseconds(timeout))
                for try await part in answer {
                    for vector in part.embeddings where vector.index < vectors.count {
                        vectors[Int(vector.index)] = Embedding(vector, first: first)
                    }
                }
                if let missing = vectors.firstIndex(of: nil) {
                    throw ClientError.garbled("there is no vector for input \(first + missing)")
                }
                return vectors.compactMap { $0 }
            } catch ClientError.rpc(var error) {
                error.message = Self.placed(error.message, after: first)
                error.violations = error.violations.map {
                    .init(
                        field: Self.placed($0.field, after: first), description: $0.description)
                }
                try await attempts.wait(after: ClientError.rpc(error))
            } catch { try await attempts.wait(after: error) }
        }
    }

    /// "input[3]: …" of a request whose first input is number `first` of all, as "input[67]: …".
    static func placed(_ message: String, after first: Int) -> String {
        let parts = message.split(
            separator: "]", maxSplits: 1, omittingEmptySubsequences: false)
        guard message.hasPrefix("input["), parts.count == 2, let index = Int(parts[0].dropFirst(6))
        else { return message }
        return "input[\(first + index)]\(parts[1])"
    }

    /// The log-probabilities of given tokens, or of a text's, under the model itself: what ``GenerateOptions/logprobs`` tells of an
    /// answer's.
    ///
    /// - Parameters:
    ///   - model: its name; empty for the daemon's default.
    ///   - from: the first position to be scored; the first token has no predecessor, so 0 is as 1.
    ///   - top: how many of the likeliest tokens to report at each position, 0 to 64.
    ///   - addsBOS: put the beginning-of-text token before tokens, if they do not begin with it; a text gets it anyway, where the
    ///     model wants one.
    ///   - parsesSpecialTokens: take "<s>" and the like for the tokens they name.
    public func score(
        _ input: Prompt, model: String = "", from: Int = 0, top: Int = 0, addsBOS: Bool = false,
        parsesSpecialTokens: Bool = false, timeout: Duration? = nil
    ) async throws -> Scores {
        let request = ScoreRequest(
            model: model, input: input.wire,
            from: try GenerateOptions.unsigned(from, "from") ?? 0,
            topK: try GenerateOptions.unsigned(top, "top_k") ?? 0, addBOS: addsBOS,
            parseSpecial: parsesSpecialTokens)
        var attempts = Attempts(self, isIdempotent: true)
        while true {
            do {
                let answer: AnswerStream<ScoreResponse> = try await attempts.next().stream(
                    ServiceName.inference, "Score", request, timeout: nanoseconds(timeout))
                var whole = ScoreResponse()
                for try await part in answer { whole.merge(part) }
                guard let usage = whole.usage else {
                    throw ClientError.garbled("it ends before it is finished")
                }
                return Scores(
                    first: Int(whole.first), logprobs: whole.scores.map { TokenLogprobs($0) },
                    usage: Usage(usage), model: whole.model, modelDigest: whole.modelDigest)
            } catch { try await attempts.wait(after: error) }
        }
    }

    /// The tokens of a text.
    ///
    /// - Parameters:
    ///   - addsBOS: put the beginning-of-text token first; `nil`: as ``generate(_:model:options:timeout:)`` does, if the model's
    ///     tokenizer says so.
    ///   - parsesSpecialTokens: take "<s>" and the like for the tokens they name.
    public func tokenize(
        _ text: String, model: String = "", addsBOS: Bool? = nil,
        parsesSpecialTokens: Bool = false, timeout: Duration? = nil
    ) async throws -> Tokens {
        let answer: TokenizeResponse = try await call(
            ServiceName.inference, "Tokenize",
            TokenizeRequest(
                model: model, text: text, addBOS: addsBOS ?? false,
                parseSpecial: parsesSpecialTokens, asPrompt: addsBOS == nil),
            timeout)
        return Tokens(ids: answer.tokens, pieces: answer.pieces)
    }

    /// The text of tokens.
    ///
    /// - Parameter keepsSpecialTokens: write control tokens by their names instead of leaving them out.
    public func detokenize(
        _ tokens: [TokenID], model: String = "", keepsSpecialTokens: Bool = false,
        timeout: Duration? = nil
    ) async throws -> String {
        let answer: DetokenizeResponse = try await call(
            ServiceName.inference, "Detokenize",
            DetokenizeRequest(model: model, tokens: tokens, keepSpecial: keepsSpecialTokens),
            timeout)
        return answer.text
    }

    /// A model's chat template: what its authors, or the machine's administrator, say about how a conversation is put before it.
    ///
    /// - Parameter name: one of several that a model may have, such as "tool_use"; empty for the default one.
    /// - Throws: an error whose reason is "NO_CHAT_TEMPLATE" where there is none.
    public func chatTemplate(
        model: String = "", name: String = "", timeout: Duration? = nil
    ) async throws -> ModelTemplate {
        let answer: ChatTemplateResponse = try await call(
            ServiceName.inference, "ChatTemplate", ChatTemplateRequest(model: model, name: name),
            timeout)
        return ModelTemplate(answer)
    }

    /// Ends a request of one's own user, whoever made it: its answer is complete, with ``FinishReason/cancelled``. To end a
    /// request of one's own, cancel its task.
    ///
    /// - Returns: whether it was still running.
    public func cancel(_ requestID: String, timeout: Duration? = nil) async throws -> Bool {
        let answer: CancelResponse = try await call(
            ServiceName.inference, "Cancel", CancelRequest(requestID: requestID), timeout,
            isIdempotent: false)
        return answer.cancelled
    }
}
