// SPDX-License-Identifier: Apache-2.0

import RPC

/// A token's number in a model's vocabulary.
public typealias TokenID = UInt32

/// What a model reads: a text, or tokens.
///
/// A string literal is a text, an array literal tokens.
public struct Prompt: Sendable, Equatable {
    enum Content: Sendable, Equatable {
        case text(String)
        case tokens([TokenID])
    }

    let content: Content

    /// A text, which the model's own tokenizer cuts into tokens, with a beginning-of-text token before it where the model wants
    /// one.
    public static func text(_ text: String) -> Prompt { Prompt(content: .text(text)) }

    /// Tokens, taken as they are.
    public static func tokens(_ ids: [TokenID]) -> Prompt { Prompt(content: .tokens(ids)) }

    var wire: RPC.Prompt {
        switch content {
        case .text(let text): .text(text)
        case .tokens(let ids): .tokens(ids)
        }
    }

    /// About how many bytes it takes in a request.
    var byteCount: Int {
        switch content {
        case .text(let text): text.utf8.count
        // A varint of up to five bytes each.
        case .tokens(let ids): ids.count * 5
        }
    }
}

extension Prompt: ExpressibleByStringInterpolation, ExpressibleByArrayLiteral {
    public init(stringLiteral text: String) { self = .text(text) }
    public init(arrayLiteral ids: TokenID...) { self = .tokens(ids) }
}
