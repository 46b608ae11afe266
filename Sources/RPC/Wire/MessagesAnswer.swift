// SPDX-License-Identifier: Apache-2.0
//
// What Generate answers; proto/mmfree.proto says more of each field.

import CMessages

/// The first message of an answer.
package struct Started: CMessage {
    package var requestID = ""
    package var model = ""
    package var modelDigest = ""
    /// Requests before this one when it came in.
    package var queuePosition: UInt32 = 0
    package var seed: UInt64 = 0
    package var promptTokens: UInt32 = 0

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__Started>?) -> Void {
        mmfree__v1__started__init
    }

    mutating func read(_ c: Mmfree__V1__Started) throws(WireError) {
        requestID = try Wire.text(c.request_id, "request_id")
        model = try Wire.text(c.model, "model")
        modelDigest = try Wire.text(c.model_digest, "model_digest")
        queuePosition = c.queue_position
        seed = c.seed
        promptTokens = c.prompt_tokens
    }

    func fill(_ c: inout Mmfree__V1__Started, _ arena: Arena) {
        c.request_id = arena.string(requestID)
        c.model = arena.string(model)
        c.model_digest = arena.string(modelDigest)
        c.queue_position = queuePosition
        c.seed = seed
        c.prompt_tokens = promptTokens
    }
}

package struct TokenLogprob: CMessage {
    package var token: UInt32 = 0
    package var logprob: Float = 0
    /// The token's bytes; not always whole characters.
    package var text: [UInt8] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__TokenLogprob>?) -> Void {
        mmfree__v1__token_logprob__init
    }

    mutating func read(_ c: Mmfree__V1__TokenLogprob) throws(WireError) {
        token = c.token
        logprob = c.logprob
        text = Wire.bytes(c.text)
    }

    func fill(_ c: inout Mmfree__V1__TokenLogprob, _ arena: Arena) {
        c.token = token
        c.logprob = logprob
        c.text = arena.bytes(text)
    }
}

package struct TokenLogprobs: CMessage {
    package var chosen: TokenLogprob?
    package var top: [TokenLogprob] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__TokenLogprobs>?) -> Void {
        mmfree__v1__token_logprobs__init
    }

    mutating func read(_ c: Mmfree__V1__TokenLogprobs) throws(WireError) {
        chosen = try Wire.message(c.chosen)
        top = try Wire.messages(c.top, c.n_top)
    }

    func fill(_ c: inout Mmfree__V1__TokenLogprobs, _ arena: Arena) {
        c.chosen = arena.optional(chosen)
        c.n_top = top.count
        c.top = arena.messages(top)
    }
}

package struct Usage: CMessage {
    package var promptTokens: UInt32 = 0
    package var completionTokens: UInt32 = 0
    package var cachedTokens: UInt32 = 0

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__Usage>?) -> Void {
        mmfree__v1__usage__init
    }

    mutating func read(_ c: Mmfree__V1__Usage) throws(WireError) {
        promptTokens = c.prompt_tokens
        completionTokens = c.completion_tokens
        cachedTokens = c.cached_tokens
    }

    func fill(_ c: inout Mmfree__V1__Usage, _ arena: Arena) {
        c.prompt_tokens = promptTokens
        c.completion_tokens = completionTokens
        c.cached_tokens = cachedTokens
    }
}

/// Nanoseconds.
package struct Timings: CMessage {
    package var queue: UInt64 = 0
    package var prefill: UInt64 = 0
    package var decode: UInt64 = 0

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__Timings>?) -> Void {
        mmfree__v1__timings__init
    }

    mutating func read(_ c: Mmfree__V1__Timings) throws(WireError) {
        queue = c.queue_ns
        prefill = c.prefill_ns
        decode = c.decode_ns
    }

    func fill(_ c: inout Mmfree__V1__Timings, _ arena: Arena) {
        c.queue_ns = queue
        c.prefill_ns = prefill
        c.decode_ns = decode
    }
}

/// The last message of an answer.
package struct Finished: CMessage {
    package var reason = FinishReason.unspecified
    package var usage: Usage?
    package var timings: Timings?

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__Finished>?) -> Void {
        mmfree__v1__finished__init
    }

    mutating func read(_ c: Mmfree__V1__Finished) throws(WireError) {
        reason = try FinishReason(wire: Int(c.reason.rawValue), "reason")
        usage = try Wire.message(c.usage)
        timings = try Wire.message(c.timings)
    }

    func fill(_ c: inout Mmfree__V1__Finished, _ arena: Arena) {
        c.reason = .init(rawValue: .init(reason.rawValue))
        c.usage = arena.optional(usage)
        c.timings = arena.optional(timings)
    }
}

/// A part of an answer, or, for a unary call, all of it.
package struct GenerateResponse: CMessage {
    package var started: Started?
    /// Whole characters only.
    package var text = ""
    package var tokens: [UInt32] = []
    package var logprobs: [TokenLogprobs] = []
    package var finished: Finished?

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__GenerateResponse>?) -> Void {
        mmfree__v1__generate_response__init
    }

    mutating func read(_ c: Mmfree__V1__GenerateResponse) throws(WireError) {
        started = try Wire.message(c.started)
        text = try Wire.text(c.text, "text")
        tokens = Wire.values(c.tokens, c.n_tokens)
        logprobs = try Wire.messages(c.logprobs, c.n_logprobs)
        finished = try Wire.message(c.finished)
    }

    func fill(_ c: inout Mmfree__V1__GenerateResponse, _ arena: Arena) {
        c.started = arena.optional(started)
        c.text = arena.bytes(text.utf8)
        c.n_tokens = tokens.count
        c.tokens = arena.array(tokens)
        c.n_logprobs = logprobs.count
        c.logprobs = arena.messages(logprobs)
        c.finished = arena.optional(finished)
    }
}
