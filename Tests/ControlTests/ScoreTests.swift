// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@Suite("mmfreectl score")
struct ScoreTests {
    private func lines(_ text: String) throws -> [[String: Any]] {
        try text.split(separator: "\n").map {
            try #require(
                try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
    }

    @Test("shows each token but the first, as generate --echo --logprobs tells of a prompt")
    func scores() throws {
        try Program.withDaemon { environment in
            func run(_ arguments: String..., input: String = "") throws -> Program.Result {
                try Program.run(arguments, input: Array(input.utf8), environment: environment)
            }
            let text = "Once upon a time"
            let plain = try run("score", text)
            #expect(plain.status == 0, "\(plain.errors)")
            let fields = plain.lines.map {
                $0.split(separator: "\t", omittingEmptySubsequences: false)
            }
            #expect(fields.map(\.count) == [4, 4, 4, 4])
            #expect(fields.map { $0[0] } == ["1", "2", "3", "4"])
            #expect(fields.map { $0[3] }.joined().contains("upon"))
            #expect(fields.allSatisfy { (Double($0[2]) ?? 1) < 0 })
            #expect(try run("score", "-", input: text).output == plain.output)

            let echo = try run(
                "generate", "-n", "1", "--temperature", "0", "--echo", "--logprobs", "0", "--json",
                text)
            let told = try lines(echo.output).flatMap {
                ($0["prompt_logprobs"] as? [[String: Any]]) ?? []
            }.compactMap { $0["chosen"] as? [String: Any] }
            #expect(told.count == 5 && told[0]["logprob"] == nil)
            #expect(
                told.dropFirst().map { "\($0["token"] ?? "")" } == fields.map { String($0[1]) })

            let json = try lines(run("score", "--json", "--top", "2", text).output)
            #expect(json.count == 5)
            #expect(json[0]["position"] as? Int == 1 && (json[0]["top"] as? [Any])?.count == 2)
            let sum = try #require(json[4]["sum"] as? [String: Any])
            let total = fields.reduce(0) { $0 + (Double($1[2]) ?? 0) }
            #expect(abs((sum["total"] as? Double ?? 0) - total) < 1e-4)
            let perplexity = String(
                format: "perplexity %.4f over 4 tokens\n", sum["perplexity"] as? Double ?? 0)
            #expect(try run("score", "--perplexity", text).output == perplexity)

            let ids = try run("tokenize", text).output.trimmingCharacters(in: .newlines)
            #expect(try run("score", "--tokens", ids).output == plain.output)
            let later = try run("score", "--tokens", ids, "--from", "3")
            #expect(later.lines == plain.lines.suffix(2))
            let bare = try run("tokenize", "--no-bos", text).output
                .trimmingCharacters(in: .newlines)
            #expect(try run("score", "--add-bos", "--tokens", bare).output == plain.output)
        }
    }

    @Test("perplexity of a text is what the verb perplexity measures without a daemon")
    func perplexity() throws {
        try Program.withDaemon { environment in
            let text = String(repeating: "Once upon a time there was a king. ", count: 20)
            let asked = try Program.run(
                ["score", "--perplexity", text], environment: environment)
            let measured = try Program.run(
                ["perplexity", Program.demo, "--text", "-", "--threads", "1"],
                input: Array(text.utf8))
            func number(_ result: Program.Result) throws -> Double {
                try #require(
                    result.output.split(separator: " ").dropFirst().first.flatMap { Double($0) })
            }
            #expect(abs(try number(asked) - number(measured)) < 2e-4, "\(asked) \(measured)")
        }
    }

    @Test("what cannot be scored is refused")
    func refused() throws {
        try Program.withDaemon { environment in
            for (arguments, words) in [
                (["--from", "9", "a"], "from"), (["--top", "65", "a"], "top_k"),
                (["--tokens", "5"], "predecessor"), (["--tokens", "99999999,1"], "vocabulary"),
                (["a", "--tokens", "5,6"], "give one of"),
                (["--perplexity", "--top", "1", "a"], "not both"),
            ] {
                let result = try Program.run(["score"] + arguments, environment: environment)
                #expect(result.status == 64 && result.errors.contains(words), "\(result)")
            }
        }
    }
}
