// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Models: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the daemon's models.")

    @OptionGroup var connection: Connection
    @Flag(help: "One JSON object a line.") var json = false

    private struct Row: Encodable {
        let name, digest, state, error, embedding, path: String
        let bytes, ternaryWeights: UInt64
        let vocabulary, hidden, layers, intermediate: Int
        let hasTokenizer, isDefault: Bool

        init(_ model: ModelInfo) {
            (name, digest, state, error) = (
                model.name, model.digest, model.state.rawValue, model.error
            )
            (embedding, bytes, path) = (model.embeddingEncoding, model.fileBytes, model.path)
            ternaryWeights = model.ternaryWeights
            (vocabulary, hidden) = (model.vocabulary, model.hidden)
            (layers, intermediate) = (model.layers, model.intermediate)
            (hasTokenizer, isDefault) = (model.hasTokenizer, model.isDefault)
        }
    }

    private struct Skipped: Encodable {
        let path, skipped: String
    }

    func run() async throws {
        let list = try await connection.client().modelList()
        let models = list.models
        if json {
            for model in models { Terminal.print(try Terminal.json(Row(model))) }
            for file in list.skipped {
                Terminal.print(try Terminal.json(Skipped(path: file.path, skipped: file.reason)))
            }
            return
        }
        for file in list.skipped { Terminal.note("skipped \(file.path): \(file.reason)") }
        guard !models.isEmpty else {
            return Terminal.note(
                "no models: put packed models (NAME.gguf) into the daemon's directory and run `mmfreectl reload`"
            )
        }
        var table = Table(
            ["NAME", "STATE", "SIZE", "WEIGHTS", "TEXT", "DIGEST", "PATH"], numeric: [2, 3])
        for model in models {
            table.add([
                model.name + (model.isDefault ? " *" : ""), model.state.rawValue,
                model.fileBytes == 0 ? "" : Terminal.bytes(model.fileBytes),
                model.ternaryWeights == 0
                    ? "" : String(printf: "%.0f M", Double(model.ternaryWeights) / 1e6),
                model.error.isEmpty ? (model.hasTokenizer ? "yes" : "ids only") : "",
                model.error.isEmpty ? String(model.digest.prefix(12)) : model.error, model.path,
            ])
        }
        Terminal.print(table.text)
    }
}
