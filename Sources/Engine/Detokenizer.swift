// SPDX-License-Identifier: Apache-2.0

/// Tokens to text as they come. Only whole UTF-8 characters are given out; what is no UTF-8 becomes U+FFFD, one for each
/// maximal ill-formed part, as every UTF-8 decoder of today does it.
package struct Detokenizer: Sendable {
    private let tokenizer: Tokenizer
    private let skipSpecial: Bool
    /// The text's first space is not dropped, or has been.
    private var begun: Bool
    /// Bytes that may yet become a character: at most three.
    private var held: [UInt8] = []

    /// - Parameter continuing: the text goes on from a prompt, so that its leading space counts.
    package init(_ tokenizer: Tokenizer, continuing: Bool, skipSpecial: Bool = true) {
        self.tokenizer = tokenizer
        self.skipSpecial = skipSpecial
        begun = continuing || !tokenizer.tables.addsSpacePrefix
    }

    /// The complete characters that `id` adds.
    package mutating func append(_ id: UInt32) -> String {
        let before = held.count
        tokenizer.appendText(of: id, skipSpecial: skipSpecial, to: &held)
        if !begun, held.count > before {
            begun = true
            if held.first == 0x20 { held.removeFirst() }
        }
        let whole = held.count - Self.incompleteTail(held)
        let text = String(decoding: held[..<whole], as: UTF8.self)
        held.removeFirst(whole)
        return text
    }

    /// What is left when no more tokens come.
    package mutating func finish() -> String {
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }

    /// How many bytes at the end are the beginning of a character that could still be completed.
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
            // The second byte's range excludes overlong forms, surrogates and what is beyond U+10FFFF.
            let second = bytes[bytes.count - length + 1]
            let allowed: ClosedRange<UInt8> =
                switch lead {
                case 0xE0: 0xA0...0xBF
                case 0xED: 0x80...0x9F
                case 0xF0: 0x90...0xBF
                case 0xF4: 0x80...0x8F
                default: 0x80...0xBF
                }
            return allowed.contains(second) ? length : 0
        }
        return 0
    }
}
