// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Models: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the daemon's models, and what of them is in memory.")

    @OptionGroup var connection: Connection
    @Flag(help: "One JSON object a line.") var json = false

    private struct Row: Encodable {
        let name, digest, state, error, embedding, path, memory, protection, digests: String
        let bytes, ternaryWeights: UInt64
        let vocabulary, hidden, layers, intermediate: Int
        let hasTokenizer, isDefault: Bool
        /// `nil`, and left out, of models that have none.
        let keyValues: String?
        /// `nil`, and left out, where nobody tells.
        let cachedBytes, residentBytes, shareBytes: UInt64?
        let processes: Int?
        let allProcessesSeen: Bool?

        init(_ model: ModelInfo, _ residency: Residency) {
            (name, digest, state, error) = (
                model.name, model.digest, model.state.rawValue, model.error
            )
            (embedding, bytes, path) = (model.embeddingEncoding, model.fileBytes, model.path)
            ternaryWeights = model.ternaryWeights
            (vocabulary, hidden) = (model.vocabulary, model.hidden)
            (layers, intermediate) = (model.layers, model.intermediate)
            (hasTokenizer, isDefault) = (model.hasTokenizer, model.isDefault)
            keyValues = model.keyValueType?.rawValue
            (memory, protection) = (model.memory, model.protection?.rawValue ?? "")
            digests = model.digestCheck?.rawValue ?? ""
            (cachedBytes, residentBytes) = (residency.cached, model.residentBytes)
            shareBytes = model.shareBytes
            processes = residency.count?.processes
            allProcessesSeen = residency.count?.isComplete
        }
    }

    private struct Skipped: Encodable {
        let path, skipped: String
    }

    /// Bytes in the page cache: what the daemon has mapped is there for certain.
    static func cached(_ model: ModelInfo, _ residency: Residency) -> String {
        if let bytes = residency.cached { return Terminal.bytes(bytes) }
        return model.residentBytes.map { "at least \(Terminal.bytes($0))" } ?? ""
    }

    static func processes(_ count: Residency.Count?) -> String {
        count.map { $0.isComplete ? "\($0.processes)" : "at least \($0.processes)" } ?? ""
    }

    func run() async throws {
        let list = try await connection.client().modelList()
        let models = list.models
        let processes = Processes()
        if json {
            for model in models {
                Terminal.print(try Terminal.json(Row(model, Residency(model, processes))))
            }
            for file in list.skipped {
                Terminal.print(try Terminal.json(Skipped(path: file.path, skipped: file.reason)))
            }
            return
        }
        for file in list.skipped { Terminal.note("skipped \(file.path): \(file.reason)") }
        guard !models.isEmpty else {
            return Terminal.note(
                "no models: put a packed model into the daemon's directory with `mmfreectl install FILE`"
            )
        }
        var table = Table(
            [
                "NAME", "STATE", "SIZE", "CACHED", "PSS", "PROCESSES", "PROTECTION", "WEIGHTS",
                "KEYS", "TEXT", "DIGEST", "PATH",
            ], numeric: [2, 3, 4, 5, 7])
        for model in models {
            let residency = Residency(model, processes)
            table.add([
                model.name + (model.isDefault ? " *" : ""),
                model.state.rawValue + (model.memory.isEmpty ? "" : ", \(model.memory)"),
                model.fileBytes == 0 ? "" : Terminal.bytes(model.fileBytes),
                Self.cached(model, residency), model.shareBytes.map { Terminal.bytes($0) } ?? "",
                Self.processes(residency.count), model.protection?.rawValue ?? "",
                model.ternaryWeights == 0
                    ? "" : String(printf: "%.0f M", Double(model.ternaryWeights) / 1e6),
                model.keyValueType?.rawValue ?? "",
                model.error.isEmpty ? (model.hasTokenizer ? "yes" : "ids only") : "",
                model.error.isEmpty ? String(model.digest.prefix(12)) : model.error, model.path,
            ])
        }
        Terminal.print(table.text)
    }
}
