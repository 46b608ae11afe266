// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Embed: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Turn texts into vectors.",
        discussion: """
            One vector a line, or with --json one object a line. Texts are the arguments, or the lines of a file or of standard \
            input: every line is one text, a blank line the empty one. Lines end in LF or CR LF.
            """)

    enum PoolingArgument: String, ExpressibleByArgument, CaseIterable {
        case auto, mean, last, none

        var value: Pooling {
            switch self {
            case .auto: .automatic
            case .mean: .mean
            case .last: .last
            case .none: .none
            }
        }
    }

    @Argument(help: "Texts; the lines of standard input if there are none, or for \"-\".")
    var texts: [String] = []

    @Option(
        name: [.short, .long], help: "A file with one text a line, \"-\" for standard input.",
        completion: .file())
    var file: String?

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    @Option(
        help:
            "How the tokens' vectors become one: mean, last, none for all of them, or auto for what the model's files say, mean where they say nothing."
    )
    var pooling = PoolingArgument.auto

    @Flag(inversion: .prefixedNo, help: "Scale every vector to length one.")
    var normalize = false

    @Flag(
        help:
            "Instead of vectors the cosine of the first text's angle to each other's: 1 for the same direction."
    )
    var similarity = false

    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        guard !similarity || pooling != .none else {
            throw ValidationError(
                "--similarity compares texts, --pooling none gives tokens' vectors")
        }
        if file != nil, !texts.isEmpty { throw ValidationError("give texts or --file, not both") }
        if texts.count > 1, texts.contains("-") {
            throw ValidationError(
                "\"-\" stands for the lines of standard input and cannot stand beside other texts")
        }
    }

    func run() async throws {
        guard texts.isEmpty || texts == ["-"] else {
            var rest = texts[...]
            return try await send("text") { rest.popFirst() }
        }
        let input = try Input(file ?? "-")
        var lines = Lines(input.name, limit: Client.textLimit) { try input.read(into: $0) }
        guard let first = try lines.next() else {
            throw Failure("\(input.name) is empty: there is no text to embed", .usage)
        }
        var waiting: String? = first
        try await send("line") {
            defer { waiting = nil }
            return try waiting ?? lines.next()
        }
    }

    /// Sends texts, as many at a time as the daemon takes, and writes a vector for each in their order.
    ///
    /// - Parameter what: what a text is called: "line".
    private func send(_ what: String, _ next: () throws -> String?) async throws {
        let client = connection.client()
        var done = 0
        var first: [Float]?
        while true {
            var inputs: [Prompt] = []
            var bytes = 0
            while inputs.count < Client.embedBatch, bytes < Client.textLimit / 2,
                let text = try next()
            {
                bytes += text.utf8.count
                inputs.append(.text(text))
            }
            guard !inputs.isEmpty else { return }
            do {
                for vector in try await client.embed(
                    inputs, model: model.model, pooling: pooling.value,
                    normalized: normalize || similarity)
                {
                    guard similarity else {
                        try write(vector, done + vector.index)
                        continue
                    }
                    if let first {
                        try write(cosine(first, vector.values), done + vector.index)
                    }
                    first = first ?? vector.values
                }
            } catch var error as MMFreeError {
                error.message = Self.placed(error.message, after: done, what)
                throw error
            }
            done += inputs.count
        }
    }

    /// "input[3]: …" of a call whose first input is text `done`, as "line 68: …".
    static func placed(_ message: String, after done: Int, _ what: String) -> String {
        let parts = message.split(separator: "]", maxSplits: 1)
        guard message.hasPrefix("input["), parts.count == 2, let index = Int(parts[0].dropFirst(6))
        else { return message }
        return "\(what) \(done + index + 1)\(parts[1])"
    }

    private struct Row: Encodable {
        let index, dimensions, promptTokens: Int
        let values: [Float]
    }

    private struct Comparison: Encodable {
        let index: Int
        let similarity: Double
    }

    private func write(_ similarity: Double, _ index: Int) throws {
        Terminal.print(
            json
                ? try Terminal.json(Comparison(index: index, similarity: similarity))
                : String(printf: "%.6f", similarity))
    }

    private func write(_ vector: Embedding, _ index: Int) throws {
        if json {
            let row = Row(
                index: index, dimensions: vector.dimensions, promptTokens: vector.promptTokens,
                values: vector.values)
            return Terminal.print(try Terminal.json(row))
        }
        let width = max(1, vector.dimensions)
        for start in Swift.stride(from: 0, to: vector.values.count, by: width) {
            Terminal.print(
                vector.values[start..<min(start + width, vector.values.count)]
                    .map { "\($0)" }.joined(separator: " "))
        }
    }
}
