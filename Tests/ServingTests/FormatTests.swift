// SPDX-License-Identifier: Apache-2.0

import Engine
import Grammar
import ModelStore
import RPC
import Serving
import TestSupport
import Testing

extension GenerateRequest {
    /// A request for an answer of a form, which the model would never give by itself.
    init(_ rule: FormatRule, seed: UInt64 = 7, count: Int = 400) {
        self.init("abc", count: count, seed: seed)
        sampling?.logitBias = []
        format = Format(formatRule: rule)
    }
}

@Suite("Constrained answers", .fewAtOnce, .bounded)
struct FormatTests {
    static let schema =
        #"{"type":"object","properties":{"name":{"type":"string","maxLength":5},"kind":{"enum":["a","b"]},"size":{"type":"integer","minimum":10,"maximum":99}},"required":["name","kind","size"],"additionalProperties":false}"#

    @Test("every answer obeys its schema, and a seed repeats", arguments: [UInt64(1), 2, 3])
    func schema(_ seed: UInt64) async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let request = GenerateRequest(.jsonSchema(Self.schema), seed: seed)
                let answer = try await inference.collect(request)
                let json = try JSON(parsing: Array(answer.text.utf8))
                #expect(answer.finished?.reason == .stop)
                #expect(json.members?.map(\.name) == ["name", "kind", "size"])
                #expect((json["name"]?.string?.unicodeScalars.count ?? 99) <= 5)
                #expect(["a", "b"].contains(json["kind"]?.string))
                #expect((10...99).contains(json["size"]?.integer ?? 0))
                let again = try await inference.generateWhole(request)
                #expect(again.text == answer.text)
                #expect(again.tokens == answer.tokens)
            }
        }
    }

    @Test("a regular expression, a grammar and json_object are obeyed")
    func others() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let pattern = try await inference.collect(
                    GenerateRequest(.regex("(yes|no)( (yes|no)){3}")))
                #expect(pattern.text.wholeMatch(of: /(yes|no)( (yes|no)){3}/) != nil)
                let grammar = try await inference.collect(
                    GenerateRequest(.grammar("root ::= \"(\" root \")\" | [a-c]{2}")))
                #expect(grammar.text.wholeMatch(of: /\(*[abc]{2}\)*/) != nil)
                let cut = try await inference.collect(GenerateRequest(.jsonObject(true), count: 1))
                #expect(cut.text == "{")
                #expect(cut.finished?.reason == .length)
            }
        }
    }

    @Test("what is wrong with a format is told with its place, and nothing is computed")
    func refused() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let wrong: [(FormatRule?, String)] = [
                    (
                        .jsonSchema(#"{"properties":{"a":{"not":{}}}}"#),
                        "format.json_schema: #/properties/a/not: this keyword is not supported"
                    ),
                    (
                        .regex("a\\1"),
                        "format.regex: byte 1: back references are not supported"
                    ),
                    (.grammar("root ::= x"), "format.grammar: byte 9: 'x' has no rule"),
                    (nil, "format: give one of json_schema, regex, grammar and json_object"),
                ]
                for (rule, message) in wrong {
                    var request = GenerateRequest("abc", count: 3)
                    request.format = Format(formatRule: rule)
                    let refused = request
                    let error = try await refusal { _ = try await inference.collect(refused) }
                    #expect(error?.code == .invalidArgument)
                    #expect(error?.message == message)
                }
                #expect(daemon.service.load == (0, 0))
            }
        }
    }

    @Test(
        "answers that take turns in one slot are the same as alone: constraints go with their requests"
    )
    func preempted() async throws {
        let rules: [FormatRule] = [
            .jsonSchema(Self.schema), .regex("[a-f]{40}"),
            .grammar("root ::= ([0-9]{3} \"-\"){12}"),
        ]
        var configuration = ServingConfiguration.oneSlot
        configuration.turnTime = 1_000_000
        try await withDaemon(["tiny": 1], configuration) { daemon in
            var alone: [String] = []
            for rule in rules {
                alone.append(
                    try await daemon.withClient { inference, _ in
                        try await inference.collect(GenerateRequest(rule)).text
                    })
            }
            let together = try await withThrowingTaskGroup(of: (Int, String).self) { group in
                for (index, rule) in rules.enumerated() {
                    group.addTask {
                        try await daemon.withClient { inference, _ in
                            (index, try await inference.collect(GenerateRequest(rule)).text)
                        }
                    }
                }
                return try await group.reduce(into: [Int: String]()) { $0[$1.0] = $1.1 }
            }
            for index in rules.indices { #expect(together[index] == alone[index]) }
        }
    }

    @Test("an answer that gets too ambiguous ends with an error, and the daemon goes on")
    func ambiguous() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                let request = GenerateRequest(.regex("(a{1,3000}){3000}b"))
                let error = try await refusal { _ = try await inference.collect(request) }
                #expect(error?.code == .invalidArgument)
                #expect(error?.message.hasPrefix("format: too ambiguous") == true)
                let next = try await inference.collect(GenerateRequest(.regex("ab")))
                #expect(next.text == "ab")
            }
        }
    }
}
