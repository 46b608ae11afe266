// SPDX-License-Identifier: Apache-2.0

import Engine
import Grammar
import ModelStore
import Synchronization

extension SharedModel {
    /// Continues a prompt; what ``Client/generate(_:model:options:timeout:)`` does, in this process.
    ///
    /// ``GenerateOptions/maxTokens`` is 256 where it is `nil` or 0.
    public func generate(
        _ prompt: Prompt, options: GenerateOptions = GenerateOptions()
    ) -> Generation {
        Generation { [self] in LocalGeneration(self, prompt, options) }
    }

    /// The vectors of any number of inputs, in their order.
    ///
    /// - Parameter normalized: whether every vector is scaled to length one.
    public func embed(
        _ inputs: [Prompt], pooling: Pooling = .automatic, normalized: Bool = false
    ) async throws -> [Embedding] {
        let jobs = try await computing(inputs.reduce(0) { $0 + $1.byteCount }) { [self] in
            try inputs.enumerated().map { index, input in
                let call = LocalCall<Embedding>(wake: engine.wake)
                let files = pooling == .automatic ? model.shape.embedding : nil
                let vector = LocalVector(
                    call, index: index,
                    kind: files.map { .init($0.pooling) } ?? .init(pooling),
                    normalizes: normalized || files?.normalizes == true)
                let ids = try embedded(input, "input[\(index)]")
                try fits(ids.count, "input[\(index)]")
                return (call, LocalJob(ids, vector))
            }
        }
        defer { for (call, _) in jobs { call.cancel() } }
        for (_, job) in jobs { engine.submit(job) }
        var vectors: [Embedding] = []
        vectors.reserveCapacity(jobs.count)
        for (call, _) in jobs {
            if let vector = try await call.next() { vectors.append(vector) }
        }
        return vectors
    }

    /// The vector of a text.
    public func embed(
        _ text: String, pooling: Pooling = .automatic, normalized: Bool = false
    ) async throws -> Embedding {
        try await embed([.text(text)], pooling: pooling, normalized: normalized)[0]
    }

    /// The log-probabilities of given tokens, or of a text's: what
    /// ``Client/score(_:model:from:top:addsBOS:parsesSpecialTokens:timeout:)`` does, in this process, with the same bits.
    public func score(
        _ input: Prompt, from: Int = 0, top: Int = 0, addsBOS: Bool = false,
        parsesSpecialTokens: Bool = false
    ) async throws -> Scores {
        _ = try GenerateOptions.unsigned(from, "from")
        let first = max(1, from)
        let call = LocalCall<[TokenLogprobs]>(wake: engine.wake)
        defer { call.cancel() }
        let ids = try await computing(input.byteCount) { [self] in
            try scored(input, addsBOS, parsesSpecialTokens)
        }
        try predicts()
        try fits(ids.count - 1, "input")
        guard first < ids.count else {
            throw MMFreeError.invalid(
                "from",
                "\(first), of \(ids.count) tokens; the first has no predecessor, so 1 to \(ids.count - 1) can be scored"
            )
        }
        guard (0...SamplingOptions.logprobsLimit).contains(top) else {
            throw MMFreeError.invalid(
                "top_k", "\(top); allowed: 0 to \(SamplingOptions.logprobsLimit)")
        }
        let scorer = PromptScorer(ids, from: first, top: top, kernels: kernels)
        let score = LocalScore(call, tokenizer: model.tokenizer, scorer: scorer)
        engine.submit(LocalJob(Array(ids.dropLast()), score))
        var logprobs: [TokenLogprobs] = []
        while let part = try await call.next() { logprobs += part }
        return Scores(
            first: first, logprobs: logprobs, usage: Usage(promptTokens: ids.count),
            model: info.name, modelDigest: info.digest)
    }

    /// The tokens of a text.
    ///
    /// - Parameters:
    ///   - addsBOS: put the beginning-of-text token first; `nil`: as for a prompt, if the model's tokenizer says so.
    ///   - parsesSpecialTokens: take "<s>" and the like for the tokens they name.
    public func tokenize(
        _ text: String, addsBOS: Bool? = nil, parsesSpecialTokens: Bool = false
    ) async throws -> Tokens {
        try await computing(text.utf8.count) { [self] in
            let tokenizer = try tokenizer()
            let ids = tokenizer.encode(
                text, addBOS: addsBOS ?? tokenizer.addsBOS, parseSpecial: parsesSpecialTokens)
            return Tokens(ids: ids, pieces: ids.map { tokenizer.piece($0) })
        }
    }

    /// The text of tokens.
    ///
    /// - Parameter keepsSpecialTokens: write control tokens by their names instead of leaving them out.
    public func detokenize(
        _ tokens: [TokenID], keepsSpecialTokens: Bool = false
    ) async throws -> String {
        try await computing(tokens.count * 4) { [self] in
            try check(tokens, "tokens")
            return try tokenizer().decode(tokens, skipSpecial: !keepsSpecialTokens)
        }
    }

    /// What takes long is done on a thread of its own.
    ///
    /// - Parameter bytes: of text; a kilobyte takes some 30 µs.
    func computing<R: Sendable>(
        _ bytes: Int, _ body: @escaping @Sendable () throws -> R
    ) async throws -> R {
        if bytes > 4096 { return try await onThread("mmf-tokens", body) }
        return try body()
    }

    // MARK: Checks

    private func tokenizer() throws(MMFreeError) -> Tokenizer {
        guard let tokenizer = model.tokenizer else {
            throw MMFreeError(
                .failedPrecondition,
                "model '\(info.name)' was packed without a tokenizer and takes token ids only: give tokens, not text",
                reason: "NO_TOKENIZER")
        }
        return tokenizer
    }

    /// An embedding model predicts no tokens.
    private func predicts() throws(MMFreeError) {
        guard model.shape.hasHead else {
            throw MMFreeError(
                .failedPrecondition,
                "model '\(info.name)' is an embedding model (\(model.shape.name)): it predicts no tokens; embed",
                reason: "EMBEDDING_MODEL")
        }
    }

    /// Whether so many tokens have places in the model's context.
    private func fits(_ count: Int, _ field: String) throws(MMFreeError) {
        guard let context = model.memory.context, count > context else { return }
        throw .invalid(field, "\(count) tokens; model '\(info.name)' has positions for \(context)")
    }

    /// The tokens of a text whose vector is wanted: of an embedding model with its end token, which stays where the text is cut.
    private func embedded(_ input: Prompt, _ field: String) throws(MMFreeError) -> [TokenID] {
        guard case .text(let text) = input.content, model.shape.embedding != nil,
            let suffix = model.tokenizer?.suffix
        else { return try tokens(of: input, field, false) }
        let tokenizer = try tokenizer()
        let ids = tokenizer.encode(text, addBOS: tokenizer.addsBOS, parseSpecial: false)
        return ids.prefix((model.memory.context ?? .max) - 1) + [suffix]
    }

    private func check(_ tokens: [TokenID], _ field: String) throws(MMFreeError) {
        let vocabulary = UInt32(model.shape.vocabulary)
        if let wrong = tokens.first(where: { $0 >= vocabulary }) {
            throw .invalid(field, "token \(wrong); the vocabulary has \(vocabulary)")
        }
    }

    /// The tokens of a prompt: at least one, all in the vocabulary.
    private func tokens(
        of prompt: Prompt, _ field: String, _ parsesSpecial: Bool
    ) throws(MMFreeError) -> [TokenID] {
        switch prompt.content {
        case .tokens(let ids):
            guard !ids.isEmpty else { throw .invalid(field, "no tokens") }
            try check(ids, field)
            return ids
        case .text(let text):
            let tokenizer = try tokenizer()
            let ids = tokenizer.encode(
                text, addBOS: tokenizer.addsBOS, parseSpecial: parsesSpecial)
            if !ids.isEmpty { return ids }
            guard let bos = tokenizer.bos else { throw .invalid(field, "the text is empty") }
            return [bos]
        }
    }

    private func scored(
        _ input: Prompt, _ addsBOS: Bool, _ parsesSpecial: Bool
    ) throws(MMFreeError) -> [TokenID] {
        let ids = try tokens(of: input, "input", parsesSpecial)
        guard addsBOS else { return ids }
        guard let bos = try tokenizer().bos else {
            throw .invalid("add_bos", "model '\(info.name)' has no beginning-of-text token")
        }
        return ids.first == bos ? ids : [bos] + ids
    }

    // MARK: One answer

    private func constraint(_ format: AnswerFormat) throws(MMFreeError) -> Constraint {
        let tokenizer = try tokenizer()
        let trie: TokenTrie
        do { trie = try tokenizer.trie() } catch {
            throw MMFreeError(
                .failedPrecondition, "model '\(info.name)': \(error)",
                reason: "VOCABULARY_INCOMPLETE")
        }
        if let known = grammars.withLock({ $0 }), known.format == format {
            return known.grammar.start
        }
        do {
            let grammar = try TokenGrammar(format.source, trie)
            grammars.withLock { $0 = (format, grammar) }
            return grammar.start
        } catch { throw .invalid(format.field, "\(error)") }
    }

    /// A request as the engine takes it.
    fileprivate func job(
        _ prompt: Prompt, _ options: GenerateOptions
    ) throws(MMFreeError) -> (LocalCall<GenerateEvent>, LocalJob) {
        guard options.session == nil else {
            throw .invalid("session", "a daemon has sessions, a model in this process has none")
        }
        let sampling = try options.sampling(vocabulary: model.shape.vocabulary)
        do throws(SamplingError) { try StopMatcher.check(options.stop) } catch {
            throw .invalid(error.field, "\(error.value); allowed: \(error.allowed)")
        }
        let maxTokens = options.maxTokens ?? 0
        guard maxTokens >= 0 else {
            throw .invalid("max_tokens", "\(maxTokens); allowed: 0 and more")
        }
        if !options.stop.isEmpty { _ = try tokenizer() }
        try predicts()
        let ids = try tokens(of: prompt, "prompt", options.parsesSpecialTokens)
        try fits(ids.count + 1, "prompt")
        let room = model.memory.context.map { $0 - ids.count } ?? .max
        var echo = ""
        if options.echo {
            switch prompt.content {
            case .text(let text): echo = text
            case .tokens: echo = model.tokenizer?.decode(ids) ?? ""
            }
        }
        let constraint = try options.format.map { (format) throws(MMFreeError) in
            try self.constraint(format)
        }
        let call = LocalCall<GenerateEvent>(wake: engine.wake)
        let completion = LocalCompletion(
            call,
            started: GenerateEvent.Started(
                requestID: nil, model: info.name, modelDigest: info.digest, queuePosition: 0,
                seed: sampling.seed, promptTokens: ids.count),
            tokenizer: model.tokenizer, echo: echo,
            scorer: options.echo
                ? options.logprobs.map {
                    PromptScorer(ids, from: 1, top: $0, kernels: kernels)
                } : nil,
            step: DecodingStep(
                Sampler(sampling, prompt: ids, kernels: kernels), tokenizer: model.tokenizer,
                stops: StopMatcher(options.stop), constraint: constraint,
                maxTokens: min(maxTokens == 0 ? 256 : maxTokens, room)))
        return (call, LocalJob(ids, completion))
    }
}

/// A request in this process.
private final class LocalGeneration: GenerationSource {
    private let model: SharedModel
    private let prompt: Prompt
    private let options: GenerateOptions
    private var call: LocalCall<GenerateEvent>?

    init(_ model: SharedModel, _ prompt: Prompt, _ options: GenerateOptions) {
        self.model = model
        self.prompt = prompt
        self.options = options
    }

    deinit { call?.cancel() }

    func next(isolation: isolated (any Actor)?) async throws -> GenerateEvent? {
        if let call { return try await call.next() }
        // A small schema may take as long as a large text.
        let bytes = options.format == nil ? prompt.byteCount : .max
        let (call, job) = try await model.computing(bytes) {
            [model, prompt, options] in try model.job(prompt, options)
        }
        self.call = call
        model.engine.submit(job)
        return try await call.next()
    }
}

extension GenerateOptions {
    /// As the engine takes them, checked.
    fileprivate func sampling(vocabulary: Int) throws(MMFreeError) -> SamplingOptions {
        var sampling = SamplingOptions()
        sampling.temperature = temperature ?? sampling.temperature
        sampling.topK = topK ?? sampling.topK
        sampling.topP = topP ?? sampling.topP
        sampling.minP = minP ?? sampling.minP
        sampling.repetitionPenalty = repetitionPenalty ?? sampling.repetitionPenalty
        sampling.presencePenalty = presencePenalty ?? sampling.presencePenalty
        sampling.frequencyPenalty = frequencyPenalty ?? sampling.frequencyPenalty
        sampling.logitBias = logitBias
        // Below 2⁵³: whoever reads it from JSON may take it for a double.
        sampling.seed = seed ?? UInt64.random(in: 0..<1 << 53)
        sampling.logprobs = logprobs
        do { try sampling.validate(vocabulary: vocabulary) } catch {
            throw .invalid(error.field, "\(error.value); allowed: \(error.allowed)")
        }
        return sampling
    }
}
