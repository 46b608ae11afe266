// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import RPC

struct Embed: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Turn texts into vectors.",
        discussion:
            "One vector a line, or with --json one object a line. Texts are the arguments, or the lines of standard input."
    )

    enum PoolingArgument: String, ExpressibleByArgument, CaseIterable {
        case mean, last, none
    }

    @Argument(help: "Texts; the lines of standard input if there are none.")
    var texts: [String] = []

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    @Option(help: "How the tokens' vectors become one: mean, last, or none for all of them.")
    var pooling = PoolingArgument.mean

    @Flag(inversion: .prefixedNo, help: "Scale every vector to length one.")
    var normalize = false

    @Flag(help: "One JSON object a line.")
    var json = false

    func run() async throws {
        var lines = texts
        if lines.isEmpty {
            lines = try textArgument(nil).split(separator: "\n", omittingEmptySubsequences: true)
                .map(String.init)
        }
        guard !lines.isEmpty else { throw ValidationError("no text to embed") }
        let client = try await connection.inference()
        // The daemon bounds the inputs of one request.
        for start in stride(from: 0, to: lines.count, by: 64) {
            var request = EmbedRequest()
            request.model = model.model
            request.pooling =
                switch pooling {
                case .mean: .mean
                case .last: .last
                case .none: .none
                }
            request.normalize = normalize
            request.input = lines[start..<min(start + 64, lines.count)].map {
                var input = EmbedInput()
                input.input = .text($0)
                return input
            }
            var vectors: [UInt32: Embedding] = [:]
            for try await part in client.embed(request) {
                for embedding in part.embeddings { vectors[embedding.index] = embedding }
            }
            for index in request.input.indices {
                guard let vector = vectors[UInt32(index)] else {
                    throw Failure("the daemon gave no vector for input \(start + index)", .software)
                }
                try write(vector, start + index)
            }
        }
    }

    private struct Row: Encodable {
        let index: Int
        let dimensions, promptTokens: UInt32
        let values: [Float]
    }

    private func write(_ vector: Embedding, _ index: Int) throws {
        if json {
            let row = Row(
                index: index, dimensions: vector.dimensions, promptTokens: vector.promptTokens,
                values: vector.values)
            return Terminal.print(try Terminal.json(row))
        }
        let width = max(1, Int(vector.dimensions))
        for start in Swift.stride(from: 0, to: vector.values.count, by: width) {
            Terminal.print(
                vector.values[start..<min(start + width, vector.values.count)]
                    .map { "\($0)" }.joined(separator: " "))
        }
    }
}
