// SPDX-License-Identifier: Apache-2.0

import Grammar
import Testing

@Suite struct RegexTests {
    static let matchesCases: [(String, [String], [String])] = [
        ("a|bc", ["a", "bc"], ["", "b", "abc"]),
        ("[a-c]{2,3}", ["ab", "abc"], ["a", "abcd", "ad"]),
        ("(?:ab)*c?", ["", "ab", "abab", "ababc", "c"], ["a", "abcc"]),
        ("\\d+\\.\\d{2}", ["1.25", "10.00"], ["1.2", ".25", "1.255"]),
        ("[^a-z]", ["A", "é", "日", "😀", "\n"], ["a", "", "AB"]),
        (".", ["a", "\u{10FFFF}", "\u{D7FF}", "\u{E000}"], ["\n", "\r", "\u{2028}"]),
        ("\\u00e9\\x41\\u{1F600}\\uD83D\\uDE00", ["éA😀😀"], ["éA😀"]),
        ("^(yes|no)$", ["yes", "no"], ["yesno"]),
        ("^a$|b", ["a", "b"], ["ab"]),
        ("(a?){2,5}b", ["b", "ab", "aaaaab"], ["aaaaaab"]),
        ("((a|b?)*c){2}", ["cc", "abcbbc"], ["c", "abc"]),
        ("a{1000}", [String(repeating: "a", count: 1000)], [String(repeating: "a", count: 999)]),
        ("[\\w-]+?", ["a-b_9"], ["é", ""]),
        ("[a\\]\\-]+", ["]-a"], ["b"]),
        ("\\s\\S", [" x", "\u{A0}é"], ["xx"]),
        ("(?<year>\\d{4})", ["2026"], ["26"]),
        ("", [""], ["a"]),
    ]

    @Test(
        "a pattern allows the whole texts that it matches, and no others",
        arguments: matchesCases)
    func matches(_ pattern: String, _ good: [String], _ bad: [String]) throws {
        for text in good { #expect(try GrammarSource.pattern(pattern).accepts(text), "\(text)") }
        for text in bad { #expect(try !GrammarSource.pattern(pattern).accepts(text), "\(text)") }
    }

    static let refusesCases: [(String, String)] = [
        ("ab(?=c)", "byte 2: only (…), (?:…) and named groups are supported"),
        ("(a)\\1", "byte 3: back references are not supported"),
        ("a\\b", "byte 1: '\\b' (a word's edge) is not supported"),
        ("é\\p{L}", "byte 2: '\\p' (Unicode properties) is not supported"),
        ("a++", "byte 2: possessive repetition is not supported"),
        ("a**", "byte 2: a repetition of a repetition; write a group"),
        ("*a", "byte 0: '*' repeats nothing"),
        ("a{2", "byte 1: a count is {m}, {m,} or {m,n}"),
        ("a{3,2}", "byte 1: {3,2}: the count ends before it begins"),
        ("a{2000000}", "byte 2: a count of more than 1000000"),
        ("{", "byte 0: '{' counts nothing; write \\{ for the character"),
        ("(a", "byte 0: the group does not end"),
        ("a)", "byte 1: ')' closes no group"),
        ("[a", "byte 0: the set does not end"),
        ("[]a]", "byte 0: a set that begins with ']'"),
        ("[z-a]", "byte 1: the range ends before it begins, or is none"),
        ("[[:alpha:]]", "byte 1: set operations and named sets are not supported"),
        ("a^b", "byte 1: '^' is supported at the beginning of an alternative only"),
        ("(a$)b", "byte 2: '$' is supported at the end of an alternative only"),
        ("\\q", "byte 0: '\\q' is not supported"),
        ("\\ud800", "byte 0: half a surrogate pair"),
        ("a\\", "byte 1: '\\' escapes nothing"),
        ("(?i)a", "byte 0: only (…), (?:…) and named groups are supported"),
        ("[^\\s\\S]", "no text can be complete"),
        (String(repeating: "(", count: 65), "byte 64: more than 64 nested groups"),
    ]

    @Test(
        "what is not regular, or is read differently elsewhere, is refused by its place",
        arguments: refusesCases)
    func refuses(_ pattern: String, _ problem: String) throws {
        let refusal = try #require(GrammarSource.pattern(pattern).refusal)
        #expect(refusal.hasPrefix(problem), "\(refusal)")
    }

    @Test("a pattern of more than 64 KiB, or one that is not UTF-8, is refused")
    func limits() throws {
        let long = GrammarSource.regex([UInt8](repeating: 0x61, count: 65537))
        #expect(long.refusal == "it is 65537 bytes long; at most 65536 are allowed")
        #expect(GrammarSource.regex([0x61, 0xFF]).refusal == "it is not UTF-8")
        #expect(GrammarSource.regex([UInt8](repeating: 0x61, count: 65536)).refusal == nil)
    }
}
