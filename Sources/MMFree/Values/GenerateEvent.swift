// SPDX-License-Identifier: Apache-2.0

import RPC

/// A part of an answer as it comes: the first has ``started``, the last ``finished``, those between text, tokens or both.
public struct GenerateEvent: Sendable, Equatable {
    /// What is known before the first token.
    public struct Started: Sendable, Equatable {
        /// The daemon's name for the request, for ``Client/cancel(_:timeout:)``; `nil` from a ``SharedModel``.
        public var requestID: String?
        /// The model's name and digest.
        public var model: String
        public var modelDigest: String
        /// Requests that were waiting before this one when it came in.
        public var queuePosition: Int
        /// The seed in use: with it the answer can be repeated.
        public var seed: UInt64
        public var promptTokens: Int
    }

    /// What is known after the last token.
    public struct Finished: Sendable, Equatable {
        public var reason: FinishReason
        public var usage: Usage
        public var timings: Timings
        /// Of a session: its tokens now. A turn that was cut short keeps what it has answered, if its prompt has been read; else
        /// the session is as it was before.
        public var sessionTokens: Int? = nil
        /// Of a session: it is on disk with them, where the daemon keeps sessions there.
        public var sessionIsOnDisk = false
    }

    public var started: Started?
    /// Whole characters. May be empty: a character, or what may become a stop string, is held back until it is complete.
    public var text = ""
    /// The tokens that this part has been made of, in their order.
    public var tokens: [TokenID] = []
    /// For each of ``tokens``, if they were asked for.
    public var logprobs: [TokenLogprobs] = []
    /// Of the prompt's tokens, if they were asked for (``GenerateOptions/echo`` and ``GenerateOptions/logprobs``): all in their order,
    /// before the first of ``tokens``. The prompt's first token has no predecessor: its log-probability is not a number.
    public var promptLogprobs: [TokenLogprobs] = []
    public var finished: Finished?
}

/// A token's log-probability, and those of the likeliest in its place.
public struct TokenLogprobs: Sendable, Equatable {
    public struct Alternative: Sendable, Equatable {
        public var token: TokenID
        /// Natural logarithm.
        public var logprob: Float
        /// The token's bytes; not always whole characters.
        public var bytes: [UInt8]
    }

    public var chosen: Alternative
    /// The likeliest first.
    public var top: [Alternative]
}

/// Why an answer ended. Later versions may know more.
public struct FinishReason: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// The end-of-text token or a stop string.
    public static let stop = FinishReason(rawValue: "stop")
    /// ``GenerateOptions/maxTokens``.
    public static let length = FinishReason(rawValue: "length")
    /// ``Client/cancel(_:timeout:)``.
    public static let cancelled = FinishReason(rawValue: "cancelled")
    /// The call's timeout.
    public static let deadline = FinishReason(rawValue: "deadline")

    public var description: String { rawValue }
}

/// Tokens that were read and written.
public struct Usage: Sendable, Equatable {
    public var promptTokens = 0
    public var completionTokens = 0
    /// Of the prompt, those that need not be computed again.
    public var cachedTokens = 0
}

/// Where an answer's time went.
public struct Timings: Sendable, Equatable {
    /// Waiting for its turn.
    public var queue = Duration.zero
    /// Reading the prompt.
    public var prefill = Duration.zero
    /// Writing the answer.
    public var decode = Duration.zero
}

/// A whole answer.
public struct Completion: Sendable, Equatable {
    public var text = ""
    public var tokens: [TokenID] = []
    /// For each of ``tokens``, if they were asked for.
    public var logprobs: [TokenLogprobs] = []
    /// For each token of the prompt, if they were asked for; the first one's is not a number.
    public var promptLogprobs: [TokenLogprobs] = []
    /// `nil` only for an answer that is not complete yet.
    public var started: GenerateEvent.Started?
    public var finished: GenerateEvent.Finished?

    /// What it was made with: the same seed, prompt and options give it again.
    public var seed: UInt64 { started?.seed ?? 0 }
    public var finishReason: FinishReason { finished?.reason ?? FinishReason(rawValue: "") }
    public var usage: Usage { finished?.usage ?? Usage() }

    /// An answer without anything in it, for events to be added.
    public init() {}

    /// Adds what comes next.
    public mutating func append(_ event: GenerateEvent) {
        started = event.started ?? started
        text += event.text
        tokens += event.tokens
        logprobs += event.logprobs
        promptLogprobs += event.promptLogprobs
        finished = event.finished ?? finished
    }
}

// MARK: The wire

extension GenerateEvent {
    init(_ response: GenerateResponse) {
        started = response.started.map {
            Started(
                requestID: $0.requestID, model: $0.model, modelDigest: $0.modelDigest,
                queuePosition: Int($0.queuePosition), seed: $0.seed,
                promptTokens: Int($0.promptTokens))
        }
        text = response.text
        tokens = response.tokens
        if !response.logprobs.isEmpty { logprobs = response.logprobs.map { TokenLogprobs($0) } }
        promptLogprobs = response.promptLogprobs.map { TokenLogprobs($0) }
        finished = response.finished.map {
            let (usage, timings) = ($0.usage ?? RPC.Usage(), $0.timings ?? RPC.Timings())
            return Finished(
                reason: FinishReason(rawValue: "\($0.reason)"),
                usage: Usage(usage),
                timings: Timings(
                    queue: .nanoseconds(Int64(clamping: timings.queue)),
                    prefill: .nanoseconds(Int64(clamping: timings.prefill)),
                    decode: .nanoseconds(Int64(clamping: timings.decode))),
                sessionTokens: $0.sessionTokens.map { Int(clamping: $0) },
                sessionIsOnDisk: $0.sessionOnDisk)
        }
    }
}

extension Usage {
    init(_ wire: RPC.Usage) {
        promptTokens = Int(wire.promptTokens)
        completionTokens = Int(wire.completionTokens)
        cachedTokens = Int(wire.cachedTokens)
    }
}

extension TokenLogprobs {
    init(_ wire: RPC.TokenLogprobs) {
        func alternative(_ wire: TokenLogprob) -> Alternative {
            Alternative(token: wire.token, logprob: wire.logprob, bytes: wire.text)
        }
        chosen = alternative(wire.chosen ?? TokenLogprob())
        top = wire.top.map(alternative)
    }
}
