// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

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
            let promptTokens, completionTokens: Int
            let cachedTokens, readTokens, preemptions: Int
            let ageMs: Double
        }
        struct Prefixes: Encodable {
            let hits, misses, cachedTokens, evictions, states, bytes, byteLimit: UInt64
        }
        struct Sessions: Encodable {
            let count, countLimit: Int
            let bytes, byteLimit, turns, expired: UInt64
        }
        let version, state, kernels: String
        let uptimeS: Double
        let threads, slots, active, queued, models, descriptors: Int
        let finishedRequests, refusedRequests, promptTokens, completionTokens, cachedTokens,
            preemptions, residentBytes, privateBytes: UInt64
        let prefixes: Prefixes?
        let sessions: Sessions?
        let requests: [Request]
    }

    func run() async throws {
        let client = connection.client()
        let (status, info) = (try await client.status(), try await client.info())
        let row = Row(
            version: status.version, state: status.state, kernels: info.kernels,
            uptimeS: status.uptime / .seconds(1), threads: info.threads, slots: status.slots,
            active: status.active, queued: status.queued, models: status.models,
            descriptors: status.descriptors,
            finishedRequests: status.finishedRequests, refusedRequests: status.refusedRequests,
            promptTokens: status.promptTokens, completionTokens: status.completionTokens,
            cachedTokens: status.cachedTokens, preemptions: status.preemptions,
            residentBytes: status.residentBytes, privateBytes: status.privateBytes,
            prefixes: status.prefixes.map {
                .init(
                    hits: $0.hits, misses: $0.misses, cachedTokens: $0.cachedTokens,
                    evictions: $0.evictions, states: $0.states, bytes: $0.bytes,
                    byteLimit: $0.byteLimit)
            },
            sessions: status.sessions.map {
                .init(
                    count: $0.count, countLimit: $0.countLimit, bytes: $0.bytes,
                    byteLimit: $0.byteLimit, turns: $0.turns, expired: $0.expired)
            },
            requests: status.requests.map {
                .init(
                    requestId: $0.requestID, method: $0.method, model: $0.model, phase: $0.phase,
                    uid: $0.uid, pid: $0.pid, promptTokens: $0.promptTokens,
                    completionTokens: $0.completionTokens,
                    cachedTokens: $0.cachedTokens, readTokens: $0.readTokens,
                    preemptions: $0.preemptions, ageMs: $0.age / .milliseconds(1))
            })
        if json { return Terminal.print(try Terminal.json(row)) }
        Terminal.print(
            """
            mmfreed \(row.version), \(row.state) for \(Int(row.uptimeS)) s, \(row.threads) threads, \(row.kernels) kernels
            \(status.summary.joined(separator: "\n"))
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
                String(printf: "%.1f s", request.ageMs / 1e3),
            ])
        }
        Terminal.print("\n" + table.text)
    }
}
