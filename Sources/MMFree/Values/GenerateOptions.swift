// SPDX-License-Identifier: Apache-2.0

import RPC

/// How a text is continued. What is `nil` is the daemon's default, which is in parentheses.
///
/// Values out of range are refused with ``MMFreeError/Code-swift.struct/invalidArgument`` and the option's name on the wire
/// ("top_p").
public struct GenerateOptions: Sendable, Equatable {
    /// The most tokens of the answer (the daemon's `default_tokens`, 256 if unset).
    public var maxTokens: Int?
    /// 0 takes the likeliest token each time; higher is more varied; at most 100 (0.7).
    public var temperature: Float?
    /// Keep the k likeliest tokens; 0 keeps all (0).
    public var topK: Int?
    /// Keep the likeliest tokens that make up this share, 0 to 1 (0.9).
    public var topP: Float?
    /// Keep tokens at least this fraction as likely as the likeliest, 0 to 1 (0).
    public var minP: Float?
    /// Makes tokens that have been there less likely: above 1 (1).
    public var repetitionPenalty: Float?
    /// Taken off the logit of tokens already in the answer (0).
    public var presencePenalty: Float?
    /// Taken off once for each time a token is in the answer (0).
    public var frequencyPenalty: Float?
    /// Added to single tokens' logits; −infinity forbids one.
    public var logitBias: [TokenID: Float] = [:]
    /// The same seed gives the same answer, on every machine (a random one, reported in ``GenerateEvent/Started/seed``).
    public var seed: UInt64?
    /// Texts that end the answer; they are no part of it.
    public var stop: [String] = []
    /// Report each token's log-probability, and those of this many likeliest tokens: 0 to 64 (none).
    public var logprobs: Int?
    /// What the answer must be; `nil` for any text. An answer that is cut short by ``maxTokens``, a stop string or a deadline may be
    /// incomplete: ``GenerateEvent/Finished/reason`` tells.
    public var format: AnswerFormat?
    /// Give the prompt back before the answer; with ``logprobs`` also its log-probabilities (``GenerateEvent/promptLogprobs``).
    public var echo = false
    /// Take "<s>" and the like in the prompt for the tokens they name. Not for text from outside.
    public var parsesSpecialTokens = false
    /// The ``Session/id`` of a session that the prompt and its answer are appended to; `nil` for none. Only for a ``Client``; the
    /// request is made once and not retried, for it changes the session.
    public var session: String?
    /// Be refused where other turns of the session run or wait, instead of waiting for them.
    public var refusesBusySession = false

    public init(
        maxTokens: Int? = nil, temperature: Float? = nil, seed: UInt64? = nil, stop: [String] = []
    ) {
        self.maxTokens = maxTokens
        self.temperature = temperature
        self.seed = seed
        self.stop = stop
    }

    /// The likeliest token each time: an answer without chance.
    public static var greedy: GenerateOptions { GenerateOptions(temperature: 0) }
}

// MARK: The wire

extension GenerateOptions {
    func request(_ prompt: Prompt, model: String) throws(MMFreeError) -> GenerateRequest {
        var request = GenerateRequest()
        request.model = model
        request.prompt = prompt.wire
        request.maxTokens = try Self.unsigned(maxTokens, "max_tokens") ?? 0
        request.stop = stop
        request.echo = echo
        request.parseSpecial = parsesSpecialTokens
        request.session = session ?? ""
        request.refuseIfBusy = refusesBusySession
        request.format = format?.wire
        request.logprobs = try Self.unsigned(logprobs, "logprobs")
        var sampling = Sampling()
        sampling.temperature = temperature
        sampling.topK = try Self.unsigned(topK, "top_k")
        sampling.topP = topP
        sampling.minP = minP
        sampling.repetitionPenalty = repetitionPenalty
        sampling.presencePenalty = presencePenalty
        sampling.frequencyPenalty = frequencyPenalty
        sampling.seed = seed
        sampling.logitBias = logitBias.sorted { $0.key < $1.key }
            .map { LogitBias(token: $0.key, bias: $0.value) }
        request.sampling = sampling
        return request
    }

    static func unsigned(_ value: Int?, _ field: String) throws(MMFreeError) -> UInt32? {
        guard let value else { return nil }
        guard let number = UInt32(exactly: value) else {
            throw .invalid(field, "\(value); allowed: 0 to \(UInt32.max)")
        }
        return number
    }
}
