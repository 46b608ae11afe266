// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Search: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Find the passages of text files that are nearest in meaning to a query.",
        discussion: """
            Files are UTF-8 text; a passage is a paragraph, which ends at a blank line, or \(Passage.limit) bytes of a long one. The daemon \
            turns query and passages into vectors, and passages are ranked by the cosine of their angle to the query. Nothing is kept: \
            each search reads the files again.

            An embedding model answers best. The example of bitnet-embedding-0.6b's publisher begins a query, and no passage, with \
            "query: ": that is \(Self.exampleQuery). Of other models the mean of the hidden states serves, with less success.
            """)

    private static let exampleQuery = "--instruction \"query: \""

    @Argument(help: "What to look for.") var query: String
    @Argument(help: "Text files; standard input for \"-\".", completion: .file())
    var files: [String]

    @Option(help: "What is put before the query, and before no passage.") var instruction = ""
    @Option(help: "Passages to show.") var top = 5
    @Flag(help: "One JSON object a line.") var json = false
    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    func validate() throws {
        guard (1...1000).contains(top) else { throw ValidationError("--top is 1 to 1000") }
        guard files.count(where: { $0 == "-" }) < 2 else {
            throw ValidationError("\"-\" stands for standard input, which can be read once")
        }
    }

    private struct Found: Encodable {
        let similarity: Double
        let file: String
        let line: Int
        let text: String
    }

    func run() async throws {
        Interruption.watch()
        let client = connection.client()
        var passages: [Passage] = []
        for file in files { passages += try Passage.all(in: file) }
        guard !passages.isEmpty else { throw Failure("there is no text to search", .data) }
        let wanted = try await client.embed(
            instruction + query, model: model.model, normalized: true)
        var found: [Found] = []
        let progress = ProgressLine()
        var done = 0
        while done < passages.count {
            try Interruption.check()
            let part = passages[done...].prefix(Client.embedBatch)
            let vectors = try await client.embed(
                part.map { .text($0.text) }, model: model.model, normalized: true)
            for (passage, vector) in zip(part, vectors) {
                found.append(
                    Found(
                        similarity: cosine(wanted.values, vector.values),
                        file: passage.file, line: passage.line, text: passage.text))
            }
            done += part.count
            progress.show(done, of: passages.count, "passages")
        }
        progress.clear()
        // Of equals the first.
        let best = found.enumerated().sorted {
            ($1.element.similarity, $0.offset) < ($0.element.similarity, $1.offset)
        }.prefix(top).map(\.element)
        for row in best {
            if json {
                Terminal.print(try Terminal.json(row))
            } else {
                let text = row.text.replacing("\n", with: " ")
                Terminal.print(
                    String(printf: "%.4f  ", row.similarity) + "\(row.file):\(row.line)  \(text)")
            }
        }
    }
}

/// The cosine of the angle between two vectors of length one.
func cosine(_ a: [Float], _ b: [Float]) -> Double {
    zip(a, b).reduce(0) { $0 + Double($1.0) * Double($1.1) }
}

/// A paragraph of a text file, or a part of a long one.
struct Passage: Equatable {
    /// Bytes of a passage.
    static let limit = 2000

    let file: String
    /// Where it begins, from 1.
    let line: Int
    let text: String

    static func all(in file: String) throws -> [Passage] {
        let input = try Input(file)
        var lines = Lines(input.name, limit: Client.textLimit) { try input.read(into: $0) }
        return try all(of: input.name) { try lines.next() }
    }

    /// - Parameter next: the file's lines.
    static func all(of file: String, _ next: () throws -> String?) rethrows -> [Passage] {
        var passages: [Passage] = []
        var (text, first, number) = ("", 1, 0)
        func end() {
            if !text.isEmpty { passages.append(Passage(file: file, line: first, text: text)) }
            text = ""
        }
        while let line = try next() {
            number += 1
            guard line.contains(where: { !$0.isWhitespace }) else {
                end()
                continue
            }
            if !text.isEmpty, text.utf8.count + 1 + line.utf8.count > limit { end() }
            if text.isEmpty { first = number } else { text += "\n" }
            text += line
            // A line that is long by itself.
            while text.utf8.count > limit {
                let part = prefix(of: text)
                passages.append(Passage(file: file, line: first, text: String(part)))
                (text, first) = (String(text[part.endIndex...]), number)
            }
        }
        end()
        return passages
    }

    /// At most `limit` bytes, whole characters, up to a space if there is one; at least a character.
    private static func prefix(of text: String) -> Substring {
        var end = text.startIndex
        var space: String.Index?
        var bytes = 0
        for index in text.indices {
            let next = text.index(after: index)
            bytes += text[index..<next].utf8.count
            guard bytes <= limit || end == text.startIndex else { break }
            end = next
            if text[index].isWhitespace { space = next }
        }
        return text[..<(space ?? end)]
    }
}
