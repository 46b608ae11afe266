// SPDX-License-Identifier: Apache-2.0

import Grammar
import TestSupport

/// A vocabulary made up for a test: every byte alone, some texts, and an end-of-text token, which comes last.
struct MadeVocabulary {
    let tokens: [[UInt8]]
    let trie: TokenTrie

    var end: UInt32 { UInt32(tokens.count) }

    init(_ texts: [[UInt8]]) {
        tokens = (0...255).map { [UInt8($0)] } + texts
        let list = tokens
        do {
            trie = try TokenTrie(count: list.count + 1, endTokens: [UInt32(list.count)]) {
                Int($0) < list.count ? list[Int($0)] : []
            }
        } catch { fatalError("\(error)") }
    }

    init(_ texts: String...) { self.init(texts.map { Array($0.utf8) }) }

    /// Texts as they come in JSON, and pieces of characters.
    init(random generator: inout SeededGenerator, count: Int) {
        let parts = [
            "{", "}", "[", "]", "\"", ":", ",", " ", "\n", "a", "b", "name", "é", "日", "😀", "0",
            "1", "12",
            "-", ".", "true", "null", "\\", "\\u", "e", "x", "d8", "00", "\u{1}",
        ].map { Array($0.utf8) }
        var texts: [[UInt8]] = []
        for _ in 0..<count {
            var text: [UInt8] = []
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                text += parts.randomElement(using: &generator) ?? []
            }
            // Some tokens begin or end inside a character.
            if Int.random(in: 0..<4, using: &generator) == 0, text.count > 1 { text.removeFirst() }
            if Int.random(in: 0..<4, using: &generator) == 0, text.count > 1 { text.removeLast() }
            texts.append(text)
        }
        // Words, many of which begin alike.
        for _ in 0..<count / 2 {
            let length = Int.random(in: 2...16, using: &generator)
            texts.append(
                (0..<length).map { _ in
                    Array("aaaabcd kz".utf8).randomElement(using: &generator) ?? 0
                })
        }
        self.init(texts)
    }
}

/// Every byte alone.
let bytesOnly = MadeVocabulary()

func compile(_ source: GrammarSource) throws -> TokenGrammar {
    try TokenGrammar(source, bytesOnly.trie)
}

extension GrammarSource {
    static func schema(_ text: String) -> GrammarSource { .jsonSchema(Array(text.utf8)) }
    static func pattern(_ text: String) -> GrammarSource { .regex(Array(text.utf8)) }
    static func rules(_ text: String) -> GrammarSource { .gbnf(Array(text.utf8)) }

    /// Whether `text` is a complete answer.
    func accepts(_ text: String) throws -> Bool {
        var constraint = try compile(self).start
        for byte in text.utf8 where try !constraint.take([byte]) { return false }
        return constraint.isComplete
    }

    /// Why it is refused; `nil` if it is not.
    var refusal: String? {
        do {
            _ = try compile(self)
            return nil
        } catch { return "\(error)" }
    }
}
