// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The verbs that ask a daemon, asked of one.
@Suite("verbs that ask the daemon")
struct DaemonVerbTests {
    private struct Row: Decodable {
        let index: Int
        let values: [Float]
    }

    private func rows(_ text: String) throws -> [Row] {
        try text.split(separator: "\n").map {
            try JSONDecoder().decode(Row.self, from: Data($0.utf8))
        }
    }

    @Test("every line of standard input is a text and keeps its place")
    func embed() throws {
        try Program.withDaemon { environment in
            func embed(_ text: String, _ arguments: [String] = []) throws -> [Row] {
                let result = try Program.run(
                    ["embed", "--json"] + arguments, input: Array(text.utf8),
                    environment: environment)
                #expect(result.status == 0, "\(result.errors)")
                return try rows(result.output)
            }
            let plain = try embed("the\nand\nof")
            #expect(plain.map(\.index) == [0, 1, 2])
            #expect(Set(plain.map(\.values)).count == 3)
            #expect(try embed("the\r\nand\r\nof\r\n").map(\.values) == plain.map(\.values))
            #expect(try embed("\u{FEFF}the\nand\nof\n", ["-"]).map(\.values) == plain.map(\.values))
            let blank = try embed("the\n\nand\n")
            #expect(blank.map(\.index) == [0, 1, 2])
            #expect([blank[0].values, blank[2].values] == [plain[0].values, plain[1].values])
            // More lines than one request takes.
            let many = try embed((0..<150).map { $0 % 2 == 0 ? "the\r\n" : "and\n" }.joined())
            #expect(many.map(\.index) == Array(0..<150))
            #expect(
                many.map(\.values) == (0..<150).map { plain[$0 % 2].values })
            try Program.withDirectory { directory in
                let file = directory + "/lines"
                try Data("the\r\nand\r\nof".utf8).write(to: URL(fileURLWithPath: file))
                #expect(try embed("", ["-f", file]).map(\.values) == plain.map(\.values))
            }
            #expect(try embed("", ["the", "and", "of"]).map(\.values) == plain.map(\.values))
            let empty = try Program.run(["embed"], environment: environment)
            #expect(empty.status == 64)
            #expect(empty.errors.contains("standard input is empty"))
        }
    }

    private struct Comparison: Decodable {
        let similarity: Double
        let file: String?
        let line: Int?
        let text: String?
    }

    private func comparisons(_ text: String) throws -> [Comparison] {
        try text.split(separator: "\n").map {
            try JSONDecoder().decode(Comparison.self, from: Data($0.utf8))
        }
    }

    @Test("--similarity is the cosine of the first text's vector and each other's")
    func similarity() throws {
        try Program.withDaemon { environment in
            let texts = ["a cat sat on the mat", "a cat sat on the mat", "the stock market fell"]
            func run(_ options: [String]) throws -> String {
                let result = try Program.run(
                    ["embed", "--json"] + options + texts, environment: environment)
                #expect(result.status == 0, "\(result.errors)")
                return result.output
            }
            let vectors = try rows(run([])).map(\.values)
            func length(_ a: [Float]) -> Double {
                a.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
            }
            let found = try comparisons(run(["--similarity"])).map(\.similarity)
            try #require(found.count == 2)
            for (other, value) in zip(vectors.dropFirst(), found) {
                let product = zip(vectors[0], other).reduce(0.0) {
                    $0 + Double($1.0) * Double($1.1)
                }
                #expect(abs(product / length(vectors[0]) / length(other) - value) < 1e-6)
            }
            #expect(abs(found[0] - 1) < 1e-6 && found[1] < 0.999)
        }
    }

    @Test("search finds a passage by itself first, and says where it is")
    func search() throws {
        try Program.withDaemon { environment in
            try Program.withDirectory { directory in
                let file = directory + "/notes.txt"
                let text =
                    "the river was cold\nand deep\n\n\nher brother ate an apple\n\nrain fell\n"
                try Data(text.utf8).write(to: URL(fileURLWithPath: file))
                let result = try Program.run(
                    ["search", "--json", "--top", "2", "her brother ate an apple", file],
                    environment: environment)
                #expect(result.status == 0, "\(result.errors)")
                let found = try comparisons(result.output)
                try #require(found.count == 2)
                #expect(abs(found[0].similarity - 1) < 1e-6 && found[1].similarity < 0.9999)
                #expect(found[0].text == "her brother ate an apple")
                #expect(found[0].file == file && found[0].line == 5)
                let plain = try Program.run(
                    ["search", "the river was cold and deep", "-"], input: Array(text.utf8),
                    environment: environment)
                #expect(plain.status == 0, "\(plain.errors)")
                #expect(plain.output.contains("standard input:1  the river was cold and deep"))
                let none = try Program.run(
                    ["search", "a", "-"], input: Array("\n \n".utf8), environment: environment)
                #expect(none.status == 65 && none.errors.contains("no text to search"))
            }
        }
    }

    @Test("tokenize shows the tokens that generate reads, unless asked for others")
    func promptTokens() throws {
        try Program.withDaemon { environment in
            func ids(_ options: [String]) throws -> [Substring] {
                let text = ["Once upon a time"]
                let shown = try Program.run(["tokenize"] + options + text, environment: environment)
                return shown.output.split(whereSeparator: { !$0.isNumber })
            }
            let answer = try Program.run(
                ["generate", "--json", "-n", "1", "Once upon a time"], environment: environment)
            #expect(answer.output.contains("\"prompt_tokens\":5"))
            #expect(try ids([]) == ["1", "1879", "674", "261", "514"])
            #expect(try ids(["--bos"]) == ids([]))
            #expect(try ids(["--no-bos"]) == ["1879", "674", "261", "514"])
        }
    }

    @Test("what tokenize prints, detokenize reads")
    func tokens() throws {
        try Program.withDaemon { environment in
            let text = "Once upon a time"
            let ids = try Program.run(["tokenize", "--no-bos", text], environment: environment)
            let back = try Program.run(
                ["detokenize"], input: Array(ids.output.utf8), environment: environment)
            #expect(back.output == text + "\n")
            let spaced = ids.output.replacing(",", with: " ").split(separator: " ").map {
                $0.trimmingCharacters(in: .newlines)
            }
            let words = try Program.run(["detokenize"] + spaced, environment: environment)
            #expect(words.output == text + "\n")
            let json = try Program.run(
                ["detokenize", "--json", spaced.joined(separator: ",")], environment: environment)
            #expect(json.output == "{\"text\":\"\(text)\"}\n")
            let answer = try Program.run(
                ["generate", "-n", "2", "--tokens", spaced.joined(separator: " ")],
                environment: environment)
            #expect(answer.status == 0)
        }
    }

    @Test("a run that turned out well can be repeated: the seed is shown, and below 2⁵³")
    func seed() throws {
        try Program.withDaemon { environment in
            let line = ["generate", "-n", "12", "--temperature", "1", "-v", "Once"]
            let first = try Program.run(line, environment: environment)
            let seed = try #require(
                first.errors.firstMatch(of: /; seed ([0-9]+)\n/).flatMap { UInt64($0.1) })
            #expect(seed < 1 << 53)
            let again = try Program.run(line + ["--seed", "\(seed)"], environment: environment)
            #expect(again.output == first.output)
            #expect(first.errors.contains("the answer was cut at 12 tokens; -n sets the limit"))
        }
    }

    @Test("-m may come from the environment, a prompt from a file or an option")
    func options() throws {
        try Program.withDaemon { environment in
            let line = ["generate", "-n", "3", "--temperature", "0"]
            let plain = try Program.run(
                line + ["- one"].map { "--prompt=" + $0 }, environment: environment)
            #expect(plain.status == 0)
            #expect(
                try Program.run(line + ["-p", "- one"], environment: environment).output
                    == plain.output)
            #expect(
                try Program.run(line + ["--", "- one"], environment: environment).output
                    == plain.output)
            #expect(
                try Program.run(
                    line + ["-f", "/dev/stdin"], input: Array("- one".utf8),
                    environment: environment
                )
                .output == plain.output)
            let unknown = try Program.run(
                line + ["a"], environment: environment.merging(["MMFREED_MODEL": "nosuch"]) { $1 })
            #expect(unknown.status == 66)
            #expect(unknown.errors.contains("nosuch"))
            let given = try Program.run(
                line + ["-m", "demo", "a"],
                environment: environment.merging(["MMFREED_MODEL": "nosuch"]) { $1 })
            #expect(given.status == 0)
            #expect(try Program.run(["default"], environment: environment).output == "demo\n")
            #expect(
                try Program.run(["default", "nosuch"], environment: environment).status == 66)
        }
    }

    @Test("shells are offered the models, quickly and quietly")
    func completion() throws {
        try Program.withDaemon { environment in
            let names = try Program.run(
                [
                    "---completion", "generate", "--", "--model", "2", "0", "mmfreectl", "generate",
                    "-m", "",
                ],
                environment: environment)
            #expect(names.output == "demo\n")
            let named = try Program.run(
                [
                    "---completion", "generate", "--", "--model", "4", "0", "mmfreectl", "generate",
                    "--socket", environment["MMFREED_SOCKET"] ?? "", "-m", "",
                ])
            #expect(named.output == "demo\n")
        }
        let none = try Program.run(
            [
                "---completion", "generate", "--", "--model", "2", "0", "mmfreectl", "generate",
                "-m", "",
            ],
            environment: ["MMFREED_SOCKET": "/proc/nonexistent"])
        #expect(none.status == 0)
        #expect(none.output.allSatisfy { $0 == "\n" })
        #expect(none.errors.isEmpty)
    }

    @Test("waiting ends when the daemon answers, and says why it does not")
    func wait() throws {
        try Program.withDirectory { directory in
            let environment = ["MMFREED_SOCKET": directory + "/s"]
            let result = try Program.run(["wait", "--timeout", "0.3"], environment: environment)
            #expect(result.status == 75)
            #expect(result.errors.contains("did not answer within 0.3 s: no daemon is listening"))
            let wrong = try Program.run(["wait"], environment: ["MMFREED_SOCKET": "unix://x"])
            #expect(wrong.status == 64)
        }
    }

    @Test("a client that comes a little before its daemon waits for it")
    func early() throws {
        try Program.withDirectory { directory in
            let result = try Program.run(
                ["models"], environment: ["MMFREED_SOCKET": directory + "/s"],
                shell: """
                    (sleep 0.2; exec "${0%ctl}d" --socket "$MMFREED_SOCKET" --models '\(Program.root.path)/models') 2>/dev/null &
                    "$0" "$@"; status=$?; kill $!; wait; exit $status
                    """)
            #expect(result.status == 0, "\(result.errors)")
            #expect(result.output.contains("demo"))
        }
    }

    @Test("default names the model that the settings name and that is missing")
    func missingDefault() throws {
        try Program.withDaemon(["--set", "default_model=zz"]) { environment in
            let result = try Program.run(["default"], environment: environment)
            #expect(result.status == 66)
            #expect(
                result.errors.contains("no model 'zz', which default_model names"),
                "\(result.errors)")
        }
    }
}
