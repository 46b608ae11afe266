// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// Tokens to text as they come. Only whole characters are given out, and all together are what `Tokenizer.decode` makes of
/// the whole: bytes that are not UTF-8 become U+FFFD, one for each maximal ill-formed part (Unicode 3.9, "best practice";
/// Python's `errors="replace"`). Hugging Face and SentencePiece write one for each byte instead.
package struct Detokenizer: Sendable {
    private let tokenizer: Tokenizer
    private let skipSpecial: Bool
    /// The text's first space is to be kept, or the text has begun.
    private var begun: Bool
    /// Bytes that may yet become a character: at most three between calls.
    private var held: [UInt8] = []

    /// - Parameters:
    ///   - continuing: the text goes on from a prompt, so a leading space counts.
    ///   - skipSpecial: leave special tokens out; otherwise their names stand in the text.
    package init(_ tokenizer: Tokenizer, continuing: Bool, skipSpecial: Bool = true) {
        self.tokenizer = tokenizer
        self.skipSpecial = skipSpecial
        begun = continuing || !tokenizer.tables.addsSpacePrefix
    }

    /// The complete characters that `id` adds; often none.
    package mutating func append(_ id: UInt32) -> String {
        tokenizer.appendText(of: id, skipSpecial: skipSpecial, to: &held)
        if !begun, let first = held.first {
            begun = true
            if first == 0x20 { held.removeFirst() }
        }
        let whole = held.count - Self.incompleteTail(held)
        guard whole > 0 else { return "" }
        let text = String(decoding: held[..<whole], as: UTF8.self)
        held.removeFirst(whole)
        return text
    }

    /// What is left when no more tokens come: nothing, or U+FFFD for a character cut short.
    package mutating func finish() -> String {
        defer { held.removeAll() }
        return String(decoding: held, as: UTF8.self)
    }

    /// How many bytes at the end begin a character that could still be completed.
    private static func incompleteTail(_ bytes: [UInt8]) -> Int {
        for length in 1...3 where length <= bytes.count {
            let lead = bytes[bytes.count - length]
            let needed: Int
            switch lead {
            case 0x80...0xBF: continue
            case 0xC2...0xDF: needed = 2
            case 0xE0...0xEF: needed = 3
            case 0xF0...0xF4: needed = 4
            default: return 0
            }
            guard length < needed else { return 0 }
            if length == 1 { return 1 }
            // The second byte's range leaves out overlong forms, surrogates and what is beyond U+10FFFF.
            let allowed: ClosedRange<UInt8> =
                switch lead {
                case 0xE0: 0xA0...0xBF
                case 0xED: 0x80...0x9F
                case 0xF0: 0x90...0xBF
                case 0xF4: 0x80...0x8F
                default: 0x80...0xBF
                }
            return allowed.contains(bytes[bytes.count - length + 1]) ? length : 0
        }
        return 0
    }
}
