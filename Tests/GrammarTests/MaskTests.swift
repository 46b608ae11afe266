// SPDX-License-Identifier: Apache-2.0

import Grammar
import TestSupport
import Testing

@Suite struct MaskTests {
    static let sources: [GrammarSource] = [
        .jsonObject,
        .schema("true"),
        .schema(
            #"{"type":"object","properties":{"name":{"type":"string"},"n":{"type":"integer"}},"required":["n"]}"#
        ),
        .schema(
            #"{"type":"array","items":{"type":"string","maxLength":3},"minItems":2,"maxItems":4}"#),
        .schema(
            #"{"type":"object","properties":{"a":{"enum":["ab","a"]},"b":{"type":["number","null"]}},"additionalProperties":false}"#
        ),
        .schema(#"{"type":"string","minLength":2,"maxLength":40}"#),
        .schema(#"{"type":"string","pattern":"^(a|é)*b{2,5}$","maxLength":9}"#),
        .pattern("(a|b|1){2,7}(12)*[^x]{3}"),
        .pattern("[^a-z]*(name|日+)?"),
        .rules(
            "root ::= item (\", \" item)*\nitem ::= \"a\" | \"[\" root \"]\" | number\nnumber ::= [0-9]{1,3}"
        ),
        .rules("root ::= \"x\" root \"b\" | \"x\" root \"1\" | \"e\""),
        .pattern("[a-z]{3,9}( [a-z]{1,4}){0,3}"),
        .pattern("a[a-z é]*|b[a-d]{0,5}"),
        .schema(#"{"type":"string","pattern":"^[a-k ]{0,12}$"}"#),
        .schema(
            #"{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"string","maxLength":12}}}"#
        ),
    ]

    @Test("a mask allows the tokens whose bytes are allowed one by one", arguments: sources.indices)
    func bruteForce(_ index: Int) throws {
        var generator = SeededGenerator(UInt64(index) + 1)
        for _ in 0..<2 {
            let vocabulary = MadeVocabulary(random: &generator, count: 150)
            let grammar = try TokenGrammar(Self.sources[index], vocabulary.trie)
            // Follows texts, and never computes a mask.
            let plain = try TokenGrammar(Self.sources[index], vocabulary.trie)
            for _ in 0..<2 {
                var constraint = grammar.start
                var followed = plain.start
                for _ in 0..<16 {
                    let mask = try constraint.mask()
                    for (id, text) in vocabulary.tokens.enumerated() {
                        var copy = followed
                        var isAllowed = true
                        for byte in text where isAllowed { isAllowed = try copy.take([byte]) }
                        #expect(mask.contains(UInt32(id)) == isAllowed, "token \(text)")
                    }
                    #expect(mask.contains(vocabulary.end) == constraint.isComplete)
                    #expect(!mask.isEmpty)
                    let next = mask.tokens.randomElement(using: &generator)
                    guard let next, next != vocabulary.end else { break }
                    #expect(try constraint.take(next))
                    #expect(try followed.take(next))
                }
            }
        }
    }

    @Test("a token that is not allowed changes nothing")
    func refusedToken() throws {
        let vocabulary = MadeVocabulary("ab", "ac")
        var constraint = try TokenGrammar(.pattern("ab|b"), vocabulary.trie).start
        #expect(try !constraint.take(257))
        #expect(try !constraint.take(vocabulary.end))
        #expect(try !constraint.take(9999))
        #expect(try constraint.take(256))
        #expect(constraint.isFinal)
    }

    @Test("a copy goes its own way")
    func value() throws {
        var first = try compile(.pattern("a+b")).start
        _ = try first.take([0x61])
        var second = first
        _ = try second.take([0x62])
        #expect(second.isFinal)
        #expect(!first.isComplete)
        #expect(try first.mask().tokens == [0x61, 0x62])
    }

    @Test(
        "the end of text is allowed exactly when the value is complete, and alone when nothing may follow"
    )
    func end() throws {
        var constraint = try compile(.schema(#"{"type":"integer","maximum":12,"minimum":1}"#)).start
        #expect(try !constraint.mask().contains(bytesOnly.end))
        _ = try constraint.take([UInt8(ascii: "1")])
        #expect(try constraint.mask().tokens == [0x30, 0x31, 0x32, bytesOnly.end])
        _ = try constraint.take([UInt8(ascii: "2")])
        #expect(try constraint.mask().tokens == [bytesOnly.end])
        #expect(constraint.isFinal)
    }

    @Test("a token may end inside a character")
    func partialCharacters() throws {
        let vocabulary = MadeVocabulary([[0xC3], [0xA9, 0x62], [0xE6, 0x97]])
        var constraint = try TokenGrammar(.pattern("é?b"), vocabulary.trie).start
        #expect(try constraint.mask().tokens == [0x62, 0xC3, 256])
        _ = try constraint.take(256)
        #expect(try constraint.mask().tokens == [0xA9, 257])
        _ = try constraint.take(257)
        #expect(constraint.isFinal)
    }

    @Test("a vocabulary that cannot write every byte is refused")
    func missingByte() {
        let error = #expect(throws: GrammarError.self) {
            try TokenTrie(count: 100, endTokens: []) { [UInt8($0)] }
        }
        #expect(
            error?.problem
                == "the vocabulary has no token for byte 100 alone: not every constraint could be met"
        )
    }

    @Test(
        "a count of 100,000 takes the memory of a counter, and the mask is the same until it nears its end"
    )
    func counters() throws {
        let vocabulary = MadeVocabulary("aaaa", "aaaaaaaa")
        var constraint = try TokenGrammar(.pattern("a{99999}b?"), vocabulary.trie).start
        for _ in 0..<12_498 { _ = try constraint.take(257) }
        #expect(try constraint.mask().tokens == [0x61, 256, 257])
        _ = try constraint.take(257)
        #expect(try constraint.mask().tokens == [0x61, 256])
        _ = try constraint.take(256)
        #expect(try constraint.mask().tokens == [0x61])
        for _ in 0..<3 { _ = try constraint.take(0x61) }
        #expect(try constraint.mask().tokens == [0x62, vocabulary.end])
    }

    @Test("a grammar of too many alternatives at once is refused while it runs, by name")
    func ambiguous() throws {
        let grammar = try compile(.pattern("(a{1,3000}){1,3000}b"))
        var constraint = grammar.start
        let error = #expect(throws: GrammarError.self) {
            for _ in 0..<3000 { _ = try constraint.take([0x61]) }
        }
        #expect(
            error?.problem.hasPrefix("too ambiguous: more than 4096 alternatives at once after ")
                == true)
    }
}
