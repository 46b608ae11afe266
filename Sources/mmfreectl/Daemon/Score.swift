// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import MMFree

struct Score: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show how likely the model finds each token of a text.",
        discussion: """
            A line for each token but the first, which nothing comes before: its position, its id, the natural logarithm of its \
            probability given all tokens before it, and its text.
            """)

    @Argument(help: "The text; standard input if absent or \"-\".")
    var text: String?

    @Option(name: [.short, .long], help: "A file that holds the text.", completion: .file())
    var file: String?

    @Option(help: "Token ids instead of text: 1,415,310.")
    var tokens: TokenList?

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    @Option(
        help:
            "The first position to show. Positions count from 0, which is the beginning-of-text token of a text."
    )
    var from = 1

    @Option(help: "Show this many likeliest tokens beside each, 0 to 64.")
    var top = 0

    @Flag(help: "Put the beginning-of-text token before --tokens, if they do not begin with it.")
    var addBos = false

    @Flag(help: "Take \"<s>\" and the like in the text for the tokens they name.")
    var parseSpecial = false

    @Flag(help: "Show the perplexity alone.")
    var perplexity = false

    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        let given = [text, file, tokens.map { _ in "" }].count { $0 != nil }
        guard given < 2 else { throw ValidationError("give one of a text, --file and --tokens") }
        guard from >= 0 else { throw ValidationError("--from is \(from): a position, 0 or more") }
        guard top >= 0 else { throw ValidationError("--top is \(top): 0 to 64") }
        if perplexity, top > 0 { throw ValidationError("--perplexity or --top, not both") }
    }

    private struct Row: Encodable {
        struct Choice: Encodable {
            let token: TokenID
            let logprob: Float
            let text: String

            init(_ value: TokenLogprobs.Alternative) {
                (token, logprob) = (value.token, value.logprob)
                text = String(decoding: value.bytes, as: UTF8.self)
            }
        }
        let position: Int
        let chosen: Choice
        let top: [Choice]?
    }

    private struct Sum: Encodable {
        let model, modelDigest: String
        let tokens, scored, cachedTokens: Int
        let total, perplexity: Double
    }

    func run() async throws {
        let given = text == "-" ? nil : text
        let input: Prompt =
            try tokens.map { .tokens($0.ids) }
            ?? .text(given ?? Input(file ?? "-").text(limit: Client.textLimit))
        let scores = try await connection.client().score(
            input, model: model.model, from: from, top: top, addsBOS: addBos,
            parsesSpecialTokens: parseSpecial)
        if !perplexity {
            for (index, score) in scores.logprobs.enumerated() {
                try write(score, at: scores.first + index)
            }
        }
        let sum = Sum(
            model: scores.model, modelDigest: scores.modelDigest,
            tokens: scores.usage.promptTokens, scored: scores.logprobs.count,
            cachedTokens: scores.usage.cachedTokens, total: scores.total,
            perplexity: exp(-scores.total / Double(max(1, scores.logprobs.count))))
        if json {
            Terminal.print(try Terminal.json(["sum": sum]))
        } else if perplexity {
            Terminal.print(
                String(
                    printf: "perplexity %.4f over %ld tokens", sum.perplexity, scores.logprobs.count
                ))
        }
    }

    private func write(_ score: TokenLogprobs, at position: Int) throws {
        if json {
            let row = Row(
                position: position, chosen: Row.Choice(score.chosen),
                top: top == 0 ? nil : score.top.map { Row.Choice($0) })
            return Terminal.print(try Terminal.json(row))
        }
        func line(_ place: String, _ value: TokenLogprobs.Alternative) {
            let text = Terminal.harmless(String(decoding: value.bytes, as: UTF8.self))
            Terminal.print("\(place)\t\(value.token)\t\(value.logprob)\t\(text)")
        }
        line("\(position)", score.chosen)
        for choice in score.top { line("", choice) }
    }
}
