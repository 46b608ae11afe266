// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import RPC

struct Models: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the daemon's models.")

    @OptionGroup var connection: Connection
    @Flag(help: "One JSON object a line.") var json = false

    private struct Row: Encodable {
        let name, digest, state, error, embedding: String
        let bytes, ternaryWeights: UInt64
        let vocabulary, hidden, layers, intermediate: UInt32
        let hasTokenizer, isDefault: Bool

        init(_ model: ModelInfo) {
            (name, digest, state, error) = (model.name, model.digest, model.state, model.error)
            (embedding, bytes) = (model.embeddingEncoding, model.fileBytes)
            ternaryWeights = model.ternaryWeights
            (vocabulary, hidden) = (model.vocabulary, model.hidden)
            (layers, intermediate) = (model.layers, model.intermediate)
            (hasTokenizer, isDefault) = (model.hasTokenizer, model.isDefault)
        }
    }

    func run() async throws {
        let models = try await connection.control().models()
        if json {
            for model in models { Terminal.print(try Terminal.json(Row(model))) }
            return
        }
        guard !models.isEmpty else {
            return Terminal.note(
                "no models: put packed models (NAME.gguf) into the daemon's directory and run `mmfreectl reload`"
            )
        }
        var table = Table(["NAME", "STATE", "SIZE", "WEIGHTS", "TEXT", "DIGEST"], numeric: [2, 3])
        for model in models {
            table.add([
                model.name + (model.isDefault ? " *" : ""), model.state,
                model.fileBytes == 0 ? "" : Terminal.bytes(model.fileBytes),
                model.ternaryWeights == 0
                    ? "" : String(format: "%.0f M", Double(model.ternaryWeights) / 1e6),
                model.error.isEmpty ? (model.hasTokenizer ? "yes" : "ids only") : "",
                model.error.isEmpty ? String(model.digest.prefix(12)) : model.error,
            ])
        }
        Terminal.print(table.text)
    }
}

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show what the daemon is doing.")

    @OptionGroup var connection: Connection
    @Flag(help: "One JSON object.") var json = false

    private struct Row: Encodable {
        struct Request: Encodable {
            let requestId, method, model, phase: String
            let uid: UInt32
            let pid: Int32
            let promptTokens, completionTokens: UInt32
            let ageMs: Double
        }
        let version, state, kernels: String
        let uptimeS: Double
        let threads, slots, active, queued, models: UInt32
        let finishedRequests, refusedRequests, promptTokens, completionTokens,
            residentBytes: UInt64
        let requests: [Request]
    }

    func run() async throws {
        let client = try await connection.control()
        let (status, info) = (try await client.status(), try await client.info())
        let row = Row(
            version: status.version, state: status.state, kernels: info.kernels,
            uptimeS: Double(status.uptime) / 1e9, threads: info.threads, slots: status.slots,
            active: status.active, queued: status.queued, models: status.models,
            finishedRequests: status.finishedRequests, refusedRequests: status.refusedRequests,
            promptTokens: status.promptTokens, completionTokens: status.completionTokens,
            residentBytes: status.residentBytes,
            requests: status.requests.map {
                .init(
                    requestId: $0.requestID, method: $0.method, model: $0.model, phase: $0.phase,
                    uid: $0.uid, pid: $0.pid, promptTokens: $0.promptTokens,
                    completionTokens: $0.completionTokens, ageMs: Double($0.age) / 1e6)
            })
        if json { return Terminal.print(try Terminal.json(row)) }
        Terminal.print(
            """
            mmfreed \(row.version), \(row.state) for \(Int(row.uptimeS)) s, \(row.threads) threads, \(row.kernels) kernels
            \(row.active) of \(row.slots) slots in use, \(row.queued) requests waiting, \(row.models) models
            \(row.finishedRequests) requests finished, \(row.refusedRequests) refused; \(row.promptTokens) prompt tokens, \(row.completionTokens) written
            \(Terminal.bytes(row.residentBytes)) resident, model pages included
            """)
        guard !row.requests.isEmpty else { return }
        var table = Table(
            ["REQUEST", "METHOD", "MODEL", "UID", "PID", "PHASE", "PROMPT", "TOKENS", "AGE"],
            numeric: [3, 4, 6, 7, 8])
        for request in row.requests {
            table.add([
                request.requestId, request.method, request.model, "\(request.uid)",
                "\(request.pid)",
                request.phase, "\(request.promptTokens)", "\(request.completionTokens)",
                String(format: "%.1f s", request.ageMs / 1e3),
            ])
        }
        Terminal.print("\n" + table.text)
    }
}

struct Cancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Stop a request; `mmfreectl status` shows which there are.")

    @Argument(help: "The request's id.") var request: String
    @OptionGroup var connection: Connection

    func run() async throws { _ = try await connection.inference().cancel(request) }
}

struct Reload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make the daemon look for new, replaced and removed models. For root.")

    @OptionGroup var connection: Connection

    func run() async throws {
        let changes = try await connection.control().reload()
        for (what, names) in [
            ("added", changes.added), ("replaced", changes.replaced), ("removed", changes.removed),
        ] where !names.isEmpty {
            Terminal.print(Terminal.harmless("\(what): \(names.joined(separator: ", "))"))
        }
    }
}
