// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC
import Synchronization

/// Turns requests from outside into what the engine takes, or says which field is wrong.
struct RequestChecks {
    let configuration: ServingConfiguration

    /// The tokens of a prompt: at least one, all in the vocabulary.
    ///
    /// - Parameter appends: to a session: there may be none, and there is no beginning-of-text token.
    func tokens(
        _ prompt: Prompt?, _ field: String, _ name: String, _ model: Model, parseSpecial: Bool,
        appends: Bool = false
    ) throws(RPCError) -> [UInt32] {
        var tokens: [UInt32]
        switch prompt {
        case nil where appends: tokens = []
        case nil: throw .invalid(field, "give text or tokens")
        case .tokens(let ids):
            guard !ids.isEmpty || appends else { throw .invalid(field, "no tokens") }
            tokens = ids
        case .text(let text):
            let tokenizer = try tokenizer(name, model)
            // A token has at least one byte of text, so this bounds the work before it is done.
            guard text.utf8.count <= configuration.maxPromptTokens * 64 else {
                throw .invalid(
                    field,
                    "\(text.utf8.count) bytes of text; at most \(configuration.maxPromptTokens) tokens are allowed"
                )
            }
            tokens = Self.encode(
                text, tokenizer, addBOS: tokenizer.addsBOS && !appends, parseSpecial: parseSpecial)
            if tokens.isEmpty, !appends {
                guard let bos = tokenizer.bos else { throw .invalid(field, "the text is empty") }
                tokens = [bos]
            }
        }
        guard tokens.count <= configuration.maxPromptTokens else {
            throw .invalid(
                field,
                "\(tokens.count) tokens; at most \(configuration.maxPromptTokens) are allowed")
        }
        let vocabulary = UInt32(model.shape.vocabulary)
        if let wrong = tokens.first(where: { $0 >= vocabulary }) {
            throw .invalid(field, "token \(wrong); the vocabulary has \(vocabulary)")
        }
        return tokens
    }

    /// Whether the model predicts tokens.
    func hasHead(_ name: String, _ model: Model) throws(RPCError) {
        guard model.shape.hasHead else {
            throw RPCError(
                .failedPrecondition,
                "model '\(name)' is an embedding model (\(model.shape.name)): it predicts no tokens; call Embed",
                reason: "EMBEDDING_MODEL")
        }
    }

    /// The tokens of a text whose vector is wanted: of an embedding model with its end token, which stays where the text is cut.
    func embedded(
        _ input: Prompt?, _ field: String, _ name: String, _ model: Model
    ) throws(RPCError) -> [UInt32] {
        if case .text = input, model.shape.embedding != nil, let suffix = model.tokenizer?.suffix {
            let tokens = try tokens(input, field, name, model, parseSpecial: false, appends: true)
            return tokens.prefix((model.memory.context ?? .max) - 1) + [suffix]
        }
        return try tokens(input, field, name, model, parseSpecial: false)
    }

    /// The tokens of what is to be scored: two or more, or there is nothing to be scored.
    func scored(
        _ request: ScoreRequest, _ name: String, _ model: Model
    ) throws(RPCError) -> [UInt32] {
        var tokens = try tokens(
            request.input, "input", name, model, parseSpecial: request.parseSpecial)
        if request.addBOS {
            guard let bos = try tokenizer(name, model).bos else {
                throw .invalid("add_bos", "model '\(name)' has no beginning-of-text token")
            }
            if tokens.first != bos { tokens.insert(bos, at: 0) }
        }
        return tokens
    }

    /// Encoding takes some 40 bytes of memory for each byte of a long word, so texts over 256 KiB are encoded one at a time.
    static func encode(
        _ text: String, _ tokenizer: Tokenizer, addBOS: Bool, parseSpecial: Bool
    ) -> [UInt32] {
        func encode() -> [UInt32] {
            tokenizer.encode(text, addBOS: addBOS, parseSpecial: parseSpecial)
        }
        return text.utf8.count > 256 << 10 ? large.withLock { _ in encode() } : encode()
    }

    private static let large = Mutex(())

    func tokenizer(_ name: String, _ model: Model) throws(RPCError) -> Tokenizer {
        guard let tokenizer = model.tokenizer else {
            throw RPCError(
                .failedPrecondition,
                "model '\(name)' was packed without a tokenizer and serves token ids only: send tokens, not text",
                reason: "NO_TOKENIZER")
        }
        return tokenizer
    }

    func maxTokens(_ request: GenerateRequest) throws(RPCError) -> Int {
        if request.maxTokens == 0 {
            return min(configuration.defaultTokens, configuration.maxTokens)
        }
        guard request.maxTokens <= UInt32(clamping: configuration.maxTokens) else {
            throw .invalid(
                "max_tokens", "\(request.maxTokens); at most \(configuration.maxTokens) are allowed"
            )
        }
        return Int(request.maxTokens)
    }

    func stops(_ request: GenerateRequest, _ name: String, _ model: Model) throws(RPCError)
        -> StopMatcher
    {
        guard request.stop.count <= configuration.maxStops else {
            throw .invalid(
                "stop",
                "\(request.stop.count) strings; at most \(configuration.maxStops) are allowed")
        }
        guard request.stop.allSatisfy({ !$0.isEmpty && $0.utf8.count <= 4096 }) else {
            throw .invalid("stop", "a string that is empty or over 4096 bytes long")
        }
        if !request.stop.isEmpty { _ = try tokenizer(name, model) }
        return StopMatcher(request.stop)
    }

    func sampling(_ request: GenerateRequest, vocabulary: Int) throws(RPCError) -> SamplingOptions {
        var options = SamplingOptions()
        if let sampling = request.sampling {
            options.temperature = sampling.temperature ?? options.temperature
            options.topK = sampling.topK.map { Int($0) } ?? options.topK
            options.topP = sampling.topP ?? options.topP
            options.minP = sampling.minP ?? options.minP
            options.repetitionPenalty = sampling.repetitionPenalty ?? options.repetitionPenalty
            options.presencePenalty = sampling.presencePenalty ?? options.presencePenalty
            options.frequencyPenalty = sampling.frequencyPenalty ?? options.frequencyPenalty
            for bias in sampling.logitBias { options.logitBias[bias.token] = bias.bias }
        }
        // Below 2⁵³: clients in JavaScript, and jq, read JSON's numbers as doubles.
        options.seed = request.sampling?.seed ?? UInt64.random(in: 0..<1 << 53)
        options.logprobs = request.logprobs.map { Int($0) }
        do { try options.validate(vocabulary: vocabulary) } catch {
            throw .invalid(error.field, "\(error.value); allowed: \(error.allowed)")
        }
        return options
    }
}
