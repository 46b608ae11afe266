// SPDX-License-Identifier: Apache-2.0

/// How the next token is chosen from the logits.
///
/// Applied in this order, that of Hugging Face `transformers`: repetition penalty, presence and frequency penalty, bias,
/// temperature, top-k, top-p, min-p; then a draw from what is left.
package struct SamplingOptions: Sendable, Equatable {
    /// Logits are divided by it; 0 takes the most likely token, the lowest id on ties, after penalties and bias.
    package var temperature: Float = 0.7
    /// Keep the k most likely tokens, lower ids first on ties; 0 keeps all.
    package var topK: Int = 0
    /// Keep the smallest set of most likely tokens whose probabilities add up to p: a token stays if those before it add up to
    /// less than p, and the first one always does; 1 keeps all. Probabilities are those among the top k.
    package var topP: Float = 0.9
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    package var minP: Float = 0
    /// Divides positive logits and multiplies negative ones of tokens in the prompt or the answer; 1 is none.
    package var repetitionPenalty: Float = 1
    /// Taken off the logit of every token that is in the answer already (not in the prompt), as in OpenAI's API.
    package var presencePenalty: Float = 0
    /// Taken off a token's logit once for each time it is in the answer already (not in the prompt).
    package var frequencyPenalty: Float = 0
    /// Added to the logits of single tokens; −infinity forbids one.
    package var logitBias: [UInt32: Float] = [:]
    /// Decides all that is random. The same seed gives the same answer on every machine.
    package var seed: UInt64 = 0
    /// How many of the likeliest tokens to report with each token, with their log-probabilities; 0 reports the chosen token's
    /// only, `nil` none.
    package var logprobs: Int?

    package init() {}

    /// The most likely token each time.
    package static var greedy: SamplingOptions {
        var options = SamplingOptions()
        options.temperature = 0
        options.topP = 1
        return options
    }

    /// The most alternatives a token may be reported with.
    package static let logprobsLimit = 64

    /// Whether the logits are changed before temperature.
    var changesLogits: Bool {
        repetitionPenalty != 1 || presencePenalty != 0 || frequencyPenalty != 0
            || !logitBias.isEmpty
    }

    /// Refuses values that make no sense, by the name they have on the wire.
    package func validate(vocabulary: Int) throws(SamplingError) {
        try check("temperature", temperature, 0...100)
        try check("top_p", topP, 0...1)
        try check("min_p", minP, 0...1)
        try check("repetition_penalty", repetitionPenalty, 0.01...100)
        try check("presence_penalty", presencePenalty, -100...100)
        try check("frequency_penalty", frequencyPenalty, -100...100)
        guard (0...Int(Int32.max)).contains(topK) else {
            throw SamplingError(field: "top_k", value: "\(topK)", allowed: "0 to \(Int32.max)")
        }
        if let logprobs, !(0...Self.logprobsLimit).contains(logprobs) {
            throw SamplingError(
                field: "logprobs", value: "\(logprobs)", allowed: "0 to \(Self.logprobsLimit)")
        }
        // The lowest bad token, so that a request is refused with the same words each time.
        let wrong = logitBias.filter {
            Int($0.key) >= vocabulary || $0.value.isNaN || $0.value == .infinity
        }
        guard let first = wrong.min(by: { $0.key < $1.key }) else {
            guard logitBias.values.count(where: { $0 == -.infinity }) < vocabulary else {
                throw SamplingError(
                    field: "logit_bias", value: "-inf for all \(vocabulary) tokens",
                    allowed: "-inf for all tokens but one")
            }
            return
        }
        guard Int(first.key) < vocabulary else {
            throw SamplingError(
                field: "logit_bias", value: "given for token \(first.key)",
                allowed: "tokens 0 to \(vocabulary - 1)")
        }
        throw SamplingError(
            field: "logit_bias", value: "\(first.value) for token \(first.key)",
            allowed: "finite numbers and -inf")
    }

    private func check(
        _ field: String, _ value: Float, _ range: ClosedRange<Float>
    ) throws(SamplingError) {
        // Not a number is in no range.
        guard !range.contains(value) else { return }
        throw SamplingError(
            field: field, value: "\(value)", allowed: "\(range.lowerBound) to \(range.upperBound)")
    }
}

/// A sampling option that makes no sense.
package struct SamplingError: Error, Equatable, CustomStringConvertible {
    /// The option's name on the wire.
    package let field: String
    package let value: String
    package let allowed: String

    package init(field: String, value: String, allowed: String) {
        self.field = field
        self.value = value
        self.allowed = allowed
    }

    package var description: String { "\(field) is \(value); allowed: \(allowed)" }
}
