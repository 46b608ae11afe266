// SPDX-License-Identifier: Apache-2.0
//
// The messages of mmfree.v1.Inference; proto/mmfree.proto says more of each field.

import CMessages

/// Text, or tokens as they are.
package enum Prompt: Sendable, Equatable {
    case text(String)
    case tokens([UInt32])
}

/// Why an answer ended.
package enum FinishReason: Int, WireEnum {
    case unspecified
    /// The end-of-text token or a stop string.
    case stop
    /// max_tokens.
    case length
    case cancelled
    case deadline
}

/// How the tokens' vectors become one.
package enum Pooling: Int, WireEnum {
    /// As `mean`.
    case unspecified
    case mean
    case last
    /// Every token's vector.
    case none
}

package struct TokenIds: CMessage {
    package var ids: [UInt32] = []

    package init() {}

    package init(ids: [UInt32]) { self.ids = ids }

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__TokenIds>?) -> Void {
        mmfree__v1__token_ids__init
    }

    mutating func read(_ c: Mmfree__V1__TokenIds) throws(WireError) {
        ids = Wire.values(c.ids, c.n_ids)
    }

    func fill(_ c: inout Mmfree__V1__TokenIds, _ arena: Arena) {
        c.n_ids = ids.count
        c.ids = arena.array(ids)
    }
}

package struct LogitBias: CMessage {
    package var token: UInt32 = 0
    package var bias: Float = 0

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__LogitBias>?) -> Void {
        mmfree__v1__logit_bias__init
    }

    mutating func read(_ c: Mmfree__V1__LogitBias) throws(WireError) {
        token = c.token
        bias = c.bias
    }

    func fill(_ c: inout Mmfree__V1__LogitBias, _ arena: Arena) {
        c.token = token
        c.bias = bias
    }
}

/// How tokens are chosen; what is absent takes the server's default.
package struct Sampling: CMessage {
    package var temperature: Float?
    package var topK: UInt32?
    package var topP: Float?
    package var minP: Float?
    package var repetitionPenalty: Float?
    package var presencePenalty: Float?
    package var frequencyPenalty: Float?
    package var logitBias: [LogitBias] = []
    package var seed: UInt64?

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__Sampling>?) -> Void {
        mmfree__v1__sampling__init
    }

    mutating func read(_ c: Mmfree__V1__Sampling) throws(WireError) {
        temperature =
            c.temperature_set_case == MMFREE__V1__SAMPLING__TEMPERATURE_SET_TEMPERATURE
            ? c.temperature : nil
        topK = c.top_k_set_case == MMFREE__V1__SAMPLING__TOP_K_SET_TOP_K ? c.top_k : nil
        topP = c.top_p_set_case == MMFREE__V1__SAMPLING__TOP_P_SET_TOP_P ? c.top_p : nil
        minP = c.min_p_set_case == MMFREE__V1__SAMPLING__MIN_P_SET_MIN_P ? c.min_p : nil
        repetitionPenalty =
            c.repetition_penalty_set_case
                == MMFREE__V1__SAMPLING__REPETITION_PENALTY_SET_REPETITION_PENALTY
            ? c.repetition_penalty : nil
        presencePenalty =
            c.presence_penalty_set_case
                == MMFREE__V1__SAMPLING__PRESENCE_PENALTY_SET_PRESENCE_PENALTY
            ? c.presence_penalty : nil
        frequencyPenalty =
            c.frequency_penalty_set_case
                == MMFREE__V1__SAMPLING__FREQUENCY_PENALTY_SET_FREQUENCY_PENALTY
            ? c.frequency_penalty : nil
        logitBias = try Wire.messages(c.logit_bias, c.n_logit_bias)
        seed = c.seed_set_case == MMFREE__V1__SAMPLING__SEED_SET_SEED ? c.seed : nil
    }

    func fill(_ c: inout Mmfree__V1__Sampling, _ arena: Arena) {
        if let temperature {
            c.temperature_set_case = MMFREE__V1__SAMPLING__TEMPERATURE_SET_TEMPERATURE
            c.temperature = temperature
        }
        if let topK {
            c.top_k_set_case = MMFREE__V1__SAMPLING__TOP_K_SET_TOP_K
            c.top_k = topK
        }
        if let topP {
            c.top_p_set_case = MMFREE__V1__SAMPLING__TOP_P_SET_TOP_P
            c.top_p = topP
        }
        if let minP {
            c.min_p_set_case = MMFREE__V1__SAMPLING__MIN_P_SET_MIN_P
            c.min_p = minP
        }
        if let repetitionPenalty {
            c.repetition_penalty_set_case =
                MMFREE__V1__SAMPLING__REPETITION_PENALTY_SET_REPETITION_PENALTY
            c.repetition_penalty = repetitionPenalty
        }
        if let presencePenalty {
            c.presence_penalty_set_case =
                MMFREE__V1__SAMPLING__PRESENCE_PENALTY_SET_PRESENCE_PENALTY
            c.presence_penalty = presencePenalty
        }
        if let frequencyPenalty {
            c.frequency_penalty_set_case =
                MMFREE__V1__SAMPLING__FREQUENCY_PENALTY_SET_FREQUENCY_PENALTY
            c.frequency_penalty = frequencyPenalty
        }
        c.n_logit_bias = logitBias.count
        c.logit_bias = arena.messages(logitBias)
        if let seed {
            c.seed_set_case = MMFREE__V1__SAMPLING__SEED_SET_SEED
            c.seed = seed
        }
    }
}

package struct GenerateRequest: CMessage {
    /// May be empty when the daemon has one model or a default.
    package var model = ""
    package var prompt: Prompt?
    /// 0 asks for the server's default.
    package var maxTokens: UInt32 = 0
    package var sampling: Sampling?
    package var stop: [String] = []
    /// Give the prompt back before the answer.
    package var echo = false
    /// Take "<s>" and the like in the text for the tokens they name.
    package var parseSpecial = false
    /// Report log-probabilities, and those of this many likeliest tokens.
    package var logprobs: UInt32?

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__GenerateRequest>?) -> Void {
        mmfree__v1__generate_request__init
    }

    mutating func read(_ c: Mmfree__V1__GenerateRequest) throws(WireError) {
        model = try Wire.text(c.model, "model")
        switch c.prompt_case {
        case MMFREE__V1__GENERATE_REQUEST__PROMPT_TEXT:
            prompt = .text(try Wire.text(c.text, "text"))
        case MMFREE__V1__GENERATE_REQUEST__PROMPT_TOKENS:
            prompt = .tokens(c.tokens.map { Wire.values($0.pointee.ids, $0.pointee.n_ids) } ?? [])
        default: prompt = nil
        }
        maxTokens = c.max_tokens
        sampling = try Wire.message(c.sampling)
        stop = []
        for value in Wire.values(c.stop, c.n_stop) { stop.append(try Wire.text(value, "stop")) }
        echo = c.echo != 0
        parseSpecial = c.parse_special != 0
        logprobs =
            c.logprobs_set_case == MMFREE__V1__GENERATE_REQUEST__LOGPROBS_SET_LOGPROBS
            ? c.logprobs : nil
    }

    func fill(_ c: inout Mmfree__V1__GenerateRequest, _ arena: Arena) {
        c.model = arena.string(model)
        switch prompt {
        case .text(let text):
            c.prompt_case = MMFREE__V1__GENERATE_REQUEST__PROMPT_TEXT
            c.text = arena.bytes(text.utf8)
        case .tokens(let ids):
            c.prompt_case = MMFREE__V1__GENERATE_REQUEST__PROMPT_TOKENS
            c.tokens = arena.message(TokenIds(ids: ids))
        case nil: break
        }
        c.max_tokens = maxTokens
        c.sampling = arena.optional(sampling)
        c.n_stop = stop.count
        c.stop = arena.array(stop.map { arena.bytes($0.utf8) })
        c.echo = echo ? 1 : 0
        c.parse_special = parseSpecial ? 1 : 0
        if let logprobs {
            c.logprobs_set_case = MMFREE__V1__GENERATE_REQUEST__LOGPROBS_SET_LOGPROBS
            c.logprobs = logprobs
        }
    }
}
