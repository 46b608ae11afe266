// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import Testing

/// Tokens added to a vocabulary, and how long any may be.
extension TokenizerImportTests {
    @Test("tokens longer than a packed file may hold are refused, in the vocabulary or added to it")
    func lengths() throws {
        func word(_ length: Int) -> String { String(repeating: "x", count: length) }
        func listed(_ word: String) -> JSON {
            let words = (Self.vocabulary + [word]).enumerated()
            return Self.file(model: [
                ("vocab", .object(words.map { JSON.Member($1, .integer($0)) }))
            ])
        }
        func added(_ words: [String]) -> JSON {
            let first = Self.vocabulary.count
            return Self.file([
                (
                    "added_tokens",
                    .array(words.enumerated().map { Self.added(first + $0, $1, special: true) })
                )
            ])
        }
        let longest = word(1024)
        for file in [listed(longest), added([longest])] {
            #expect(try tables([("tokenizer.json", file)])?.tokens[268] == longest)
        }
        for file in [listed(word(1025)), added([word(1025)])] {
            #expect(try refusal(file).contains("token 268 is 1025 bytes long; at most 1024"))
        }
        let many = added((0..<1100).map { word(1000) + "\($0)" })
        #expect(try refusal(many, vocabulary: 2000).contains("bytes together; at most 1048576"))
    }

    @Test("added tokens that are looked for in changed text are marked, where text is changed")
    func normalized() throws {
        func normalized(
            _ flag: Bool, special: Bool = false, _ others: [(String, JSON?)] = []
        ) throws -> ([UInt32], Int) {
            let token = Self.object([
                ("id", .integer(268)), ("content", .string("<tool>")), ("special", .bool(special)),
                ("normalized", .bool(flag)),
            ])
            let file = Self.file([("added_tokens", .array([token]))] + others)
            let read = try #require(try imported([("tokenizer.json", file)]))
            return (
                read.vocabulary.normalized,
                read.warnings.filter { $0.contains("asks for normalized, ignoring") }.count
            )
        }
        #expect(try normalized(true) == ([268], 0))
        #expect(try normalized(false) == ([], 0))
        #expect(try normalized(true, special: true) == ([], 1))
        let metaspace = Self.object([
            ("type", .string("Metaspace")), ("replacement", .string("\u{2581}")),
            ("prepend_scheme", .string("first")), ("split", .bool(false)),
        ])
        #expect(
            try normalized(true, [("normalizer", .null), ("pre_tokenizer", metaspace)]) == ([], 0))
    }

    @Test(
        "a space after every added or special token is not done, and a warning says so",
        arguments: ["always", "first", "never", nil])
    func alwaysPrepended(_ scheme: String?) throws {
        func warned(_ special: Bool) throws -> Bool {
            var stage: [(String, JSON)] = [
                ("type", .string("Metaspace")), ("replacement", .string("\u{2581}")),
                ("add_prefix_space", .bool(true)), ("split", .bool(false)),
            ]
            if let scheme { stage.append(("prepend_scheme", .string(scheme))) }
            let file = Self.file([
                ("normalizer", .null), ("pre_tokenizer", Self.object(stage)),
                ("added_tokens", .array([Self.added(268, "<tool>", special: special)])),
            ])
            let read = try #require(try imported([("tokenizer.json", file)]))
            return read.warnings.contains { $0.contains("prepend_scheme") }
        }
        for special in [false, true] {
            #expect(try warned(special) == (scheme == "always" || scheme == nil))
        }
    }
}
