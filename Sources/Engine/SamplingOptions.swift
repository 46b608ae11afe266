// SPDX-License-Identifier: Apache-2.0

/// How the next token is chosen from the logits. Applied in the order of Hugging Face `transformers`: penalties and bias,
/// temperature, top-k, top-p, min-p.
package struct SamplingOptions: Sendable, Equatable {
    /// 0 takes the most likely token (the lowest id on ties); higher is more varied.
    package var temperature: Float = 0.7
    /// Keep the k most likely tokens; 0 keeps all.
    package var topK: Int = 0
    /// Keep the smallest set of most likely tokens whose probabilities add up to p; 1 keeps all.
    package var topP: Float = 0.9
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    package var minP: Float = 0
    /// Divides positive logits, multiplies negative ones, of tokens in the prompt or the answer; 1 is none.
    package var repetitionPenalty: Float = 1
    /// Taken off the logit of every token that is in the answer already.
    package var presencePenalty: Float = 0
    /// Taken off a token's logit once for each time it is in the answer already.
    package var frequencyPenalty: Float = 0
    /// Added to the logits of single tokens; −infinity forbids one.
    package var logitBias: [UInt32: Float] = [:]
    /// Decides all that is random. The same seed gives the same answer on every machine.
    package var seed: UInt64 = 0
    /// How many of the likeliest tokens to report with each token, with their log-probabilities; `nil` reports none at all,
    /// 0 only the chosen token's.
    package var logprobs: Int?

    package init() {}

    package static var greedy: SamplingOptions {
        var options = SamplingOptions()
        options.temperature = 0
        options.topP = 1
        return options
    }

    /// The most alternatives a token may be reported with.
    package static let logprobsLimit = 64

    /// Refuses values that make no sense, by the name they have on the wire.
    package func validate(vocabulary: Int) throws(SamplingError) {
        func check(_ field: String, _ value: Float, _ range: ClosedRange<Float>)
            throws(SamplingError)
        {
            guard range.contains(value) else {
                throw SamplingError(
                    field: field, value: "\(value)",
                    allowed: "\(range.lowerBound) to \(range.upperBound)")
            }
        }
        try check("temperature", temperature, 0...100)
        try check("top_p", topP, 0...1)
        try check("min_p", minP, 0...1)
        try check("repetition_penalty", repetitionPenalty, 0.01...100)
        try check("presence_penalty", presencePenalty, -100...100)
        try check("frequency_penalty", frequencyPenalty, -100...100)
        guard (0...Int(Int32.max)).contains(topK) else {
            throw SamplingError(field: "top_k", value: "\(topK)", allowed: "0 or more")
        }
        if let logprobs, !(0...Self.logprobsLimit).contains(logprobs) {
            throw SamplingError(
                field: "logprobs", value: "\(logprobs)", allowed: "0 to \(Self.logprobsLimit)")
        }
        for (id, bias) in logitBias {
            guard id < UInt32(vocabulary) else {
                throw SamplingError(
                    field: "logit_bias", value: "token \(id)", allowed: "tokens below \(vocabulary)"
                )
            }
            guard !bias.isNaN, bias < .infinity else {
                throw SamplingError(
                    field: "logit_bias", value: "\(bias) for token \(id)",
                    allowed: "finite numbers or -inf")
            }
        }
    }
}

/// A sampling option that makes no sense.
package struct SamplingError: Error, Equatable, CustomStringConvertible {
    /// The option's name on the wire.
    package let field: String
    package let value: String
    package let allowed: String

    package var description: String { "\(field) is \(value); allowed: \(allowed)" }
}
