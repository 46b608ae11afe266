// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore

/// What all parts of an answer say.
struct AnswerHead {
    let id: String
    let object: String
    let created: Int
    var model: String
    /// The model's digest: the same digest, seed and request give the same answer.
    var fingerprint: String?

    func json(_ choices: [JSON], _ usage: JSON?) -> JSON {
        var members: [JSON.Member] = [
            .init("id", .string(id)), .init("object", .string(object)),
            .init("created", .integer(created)), .init("model", .string(model)),
            .init("system_fingerprint", fingerprint.map { .string($0) } ?? .null),
            .init("choices", .array(choices)),
        ]
        if let usage { members.append(.init("usage", usage)) }
        return .object(members)
    }

    mutating func note(_ started: GenerateEvent.Started) {
        model = started.model
        fingerprint = started.modelDigest
    }
}

/// What stands around the one choice of each part of a stream, written once.
struct PartFrame {
    private let before: [UInt8]
    private let after: [UInt8]

    /// - Parameter hasUsage: whether there is a `usage`, which is null.
    init(_ head: AnswerHead, hasUsage: Bool) {
        after = Array((hasUsage ? #"],"usage":null}"# : "]}").utf8)
        before = head.json([], hasUsage ? .null : nil).writtenCompactly().dropLast(after.count)
    }

    func write(_ choice: JSON, to out: inout [UInt8]) {
        out += before
        choice.writeCompactly(to: &out)
        out += after
    }
}

/// A request's `usage`.
struct TokenCount {
    private var prompt = 0
    private var completion = 0
    private var cached = 0

    /// A prompt counts once, however many answers it has.
    mutating func add(_ usage: Usage, isFirstOfPrompt: Bool) {
        completion += usage.completionTokens
        guard isFirstOfPrompt else { return }
        prompt += usage.promptTokens
        cached += usage.cachedTokens
    }

    var json: JSON {
        .object([
            .init("prompt_tokens", .integer(prompt)),
            .init("completion_tokens", .integer(completion)),
            .init("total_tokens", .integer(prompt + completion)),
            .init(
                "prompt_tokens_details", .object([.init("cached_tokens", .integer(cached))])),
        ])
    }
}

/// What OpenAI's clients know an answer can end by.
func finishReason(_ reason: FinishReason) throws(APIError) -> String {
    switch reason {
    case .stop: return "stop"
    case .length: return "length"
    case .deadline:
        throw APIError(504, "deadline", "the time was up before the answer was complete")
    case .cancelled: throw APIError(499, "cancelled", "the request was cancelled")
    default: return reason.rawValue
    }
}
