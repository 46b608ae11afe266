// SPDX-License-Identifier: Apache-2.0

import Grammar
import Testing

@Suite struct GBNFTests {
    @Test(
        "rules, groups, sets, repetitions, comments and line ends are read as llama.cpp reads them")
    func reads() throws {
        let grammar = GrammarSource.rules(
            """
            # sums
            root ::= sum "\\n"?
            sum  ::= term ( [+-] term )*   # left to right
            term ::= number | "(" sum
              ")" |
              name
            number ::= [0-9]{1,3}
            name ::= [^0-9()+\\n-]+
            """)
        // A group may go on in the next line, so may what follows "|"; an alternative outside of groups may not.
        #expect(grammar.refusal == "byte 101: a rule's name is missing")
        let fixed = GrammarSource.rules(
            """
            # sums
            root ::= sum "\\n"?
            sum  ::= term ( [+-]
               term )*   # left to right
            term ::= number | "(" sum ")" |
              name
            number ::= [0-9]{1,3}
            name ::= [^0-9()+\\n-]+
            """)
        for text in ["1", "1+22", "(1-(2))+x", "é日-999\n"] {
            #expect(try fixed.accepts(text), "\(text)")
        }
        for text in ["", "1+", "(1", "1234", "\n"] { #expect(try !fixed.accepts(text), "\(text)") }
    }

    @Test("a rule may call itself, but not before it has read anything")
    func recursion() throws {
        let nested = GrammarSource.rules(#"root ::= "(" root ")" | "x""#)
        #expect(try nested.accepts("((x))"))
        #expect(try !nested.accepts("((x)"))
        let right = GrammarSource.rules(#"root ::= "a" root | "b""#)
        #expect(try right.accepts(String(repeating: "a", count: 5000) + "b"))
        #expect(
            GrammarSource.rules("root ::= sum\nsum ::= sum \"+\" | \"1\"").refusal
                == "byte 13, rule 'sum': it begins with itself (left recursion), which is not supported"
        )
        #expect(
            GrammarSource.rules("root ::= e* root \"x\" | \"y\"\ne ::= \"e\"").refusal
                == "byte 0, rule 'root': it begins with itself (left recursion), which is not supported"
        )
    }

    @Test("nesting ends at the limit, and what was opened can always be closed")
    func depth() throws {
        var constraint = try compile(.rules(#"root ::= "(" root ")" | "x""#)).start
        var opened = 0
        while try constraint.take([UInt8(ascii: "(")]) { opened += 1 }
        #expect((100...128).contains(opened))
        #expect(try constraint.take([UInt8(ascii: "x")]))
        for _ in 0..<opened { #expect(try constraint.take([UInt8(ascii: ")")])) }
        #expect(constraint.isFinal)
    }

    static let refusesCases: [(String, String)] = [
        ("root ::= a", "byte 9: 'a' has no rule"),
        ("start ::= \"a\"", "there is no rule 'root'"),
        ("root ::= \"a\"\nroot ::= \"b\"", "byte 13: 'root' has a rule already"),
        ("root = \"a\"", "byte 5: '::=' is missing after 'root'"),
        ("root ::= \"a", "byte 9: the text does not end"),
        ("root ::= [a", "byte 9: the set does not end"),
        ("root ::= [b-a]", "byte 10: the range ends before it begins"),
        ("root ::= (\"a\"", "byte 9: the group does not end"),
        ("root ::= \"\\q\"", "byte 10: '\\q' is not supported"),
        ("root ::= \"a\" & \"b\"", "byte 13: '&' is not supported"),
        ("root ::= \"\\uD800\"", "byte 10: no Unicode scalar has the number 55296"),
        ("root ::= \"a\" root", "byte 0, rule 'root': no text can complete it"),
        ("root ::= \"a\" | b\nb ::= \"b\" b", "byte 17, rule 'b': no text can complete it"),
        ("", "there is no rule 'root'"),
    ]

    @Test(
        "mistakes are refused by their place",
        arguments: refusesCases)
    func refuses(_ text: String, _ problem: String) throws {
        let refusal = try #require(GrammarSource.rules(text).refusal)
        #expect(refusal.hasPrefix(problem), "\(refusal)")
    }
}
