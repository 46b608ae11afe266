// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore

/// The `logprobs` of a completion: four lists of equal length, one entry a token.
struct LegacyLogprobs {
    private var tokens: [JSON] = []
    private var logprobs: [JSON] = []
    private var top: [JSON] = []
    private var offsets: [JSON] = []
    /// Bytes and Unicode scalars of the tokens so far.
    private var scalars: Int

    /// - Parameter offset: where in the answer's text the first token begins, in Unicode scalars.
    init(offset: Int = 0) { scalars = offset }

    var isEmpty: Bool { tokens.isEmpty }

    /// Where the next token begins.
    var offset: Int { scalars }

    mutating func append(_ token: TokenLogprobs) {
        tokens.append(.string(Self.name(token.chosen.bytes)))
        offsets.append(.integer(scalars))
        scalars += token.chosen.bytes.count { $0 & 0xC0 != 0x80 }
        // A prompt's first token has no predecessor.
        guard !token.chosen.logprob.isNaN else {
            logprobs.append(.null)
            top.append(.null)
            return
        }
        logprobs.append(.float(token.chosen.logprob))
        var members: [JSON.Member] = []
        var names: Set<String> = []
        for alternative in token.top {
            let name = Self.name(alternative.bytes)
            // Two tokens of the same bytes have one name; the likelier comes first.
            if names.insert(name).inserted {
                members.append(.init(name, .float(alternative.logprob)))
            }
        }
        top.append(.object(members))
    }

    /// The end-of-text token, which has no text, and of which the daemon does not report how likely it was.
    mutating func appendEnd() {
        tokens.append(.string(""))
        logprobs.append(.null)
        top.append(.null)
        offsets.append(.integer(scalars))
    }

    var json: JSON {
        .object([
            .init("tokens", .array(tokens)), .init("token_logprobs", .array(logprobs)),
            .init("top_logprobs", .array(top)), .init("text_offset", .array(offsets)),
        ])
    }

    /// A token's text; of one that is not whole characters "bytes:\xe2\x80", as OpenAI writes it.
    static func name(_ bytes: [UInt8]) -> String {
        if let text = String(validating: bytes, as: UTF8.self) { return text }
        return bytes.reduce(into: "bytes:") {
            $0 += "\\x" + ($1 < 16 ? "0" : "") + String($1, radix: 16)
        }
    }
}
