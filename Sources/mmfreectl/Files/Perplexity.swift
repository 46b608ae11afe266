// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import Glibc

struct Perplexity: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure how well a packed file predicts a text.",
        discussion: "Every token but the first is predicted from those before it. Needs no daemon.")

    @Argument(help: "The packed file.", completion: .file(extensions: ["gguf"])) var file: String
    @OptionGroup var source: TokenSource
    @Option(
        parsing: .unconditional,
        help: "Tokens in a window, the state reset before each. Default: one stream.")
    var window: Int?
    @Option(parsing: .unconditional, help: "Use only the first so many tokens.") var limit: Int?
    @Flag(help: "One JSON object.") var json = false
    @OptionGroup var options: LocalOptions

    func validate() throws {
        if let window, window < 2 { throw ValidationError("--window is 2 or more") }
        if let limit, limit < 2 { throw ValidationError("--limit is 2 or more") }
    }

    private struct Row: Encodable {
        let perplexity, nll: Double
        let predicted, tokens: Int
        let seconds: Double
    }

    func run() throws {
        Interruption.watch()
        let local = try LocalModel(file, options)
        let kernels = try options.table()
        var tokens = try source.tokens(for: local)
        if let limit { tokens = Array(tokens.prefix(limit)) }
        guard tokens.count > 1 else { throw Failure("fewer than two tokens", .data) }
        let progress = ProgressLine()
        let began = ContinuousClock.now
        let size = window ?? tokens.count
        var total = 0.0
        var predicted = 0
        // A window that is not full would be measured with less context: it is left out, unless it is the only one.
        for start in stride(
            from: 0, to: max(1, tokens.count - (window == nil ? 0 : size - 1)), by: size)
        {
            let part = Array(tokens[start..<min(start + size, tokens.count)])
            local.reset()
            try local.feed(Array(part.dropLast()), wants: .logits) { place, logits in
                total -= logProbability(part[place + 1], logits, kernels)
                predicted += 1
                try Interruption.check()
                progress.show(start + place, of: tokens.count, "tokens")
            }
        }
        progress.clear()
        let row = Row(
            perplexity: exp(total / Double(predicted)), nll: total / Double(predicted),
            predicted: predicted, tokens: tokens.count, seconds: seconds(since: began))
        Terminal.print(
            json
                ? try Terminal.json(row)
                : String(
                    printf: "perplexity %.4f over %ld predicted tokens, %.1f s", row.perplexity,
                    predicted, row.seconds))
    }
}
