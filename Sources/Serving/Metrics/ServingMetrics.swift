// SPDX-License-Identifier: Apache-2.0

import CoreMetrics
import Glibc
import RPC
import Synchronization

/// Where serving reports what happens: refusals, turns, tokens, ends. Any thread may use it.
final class ServingMetrics: Sendable {
    private let registry: MetricRegistry
    private let turns: Timer
    /// Of the accounts that have computed tokens.
    private let tokens = Mutex<[Account: Tokens]>([:])

    private struct Tokens {
        let prompt, completion: Counter
    }

    init(registry: MetricRegistry = MetricRegistry()) {
        self.registry = registry
        turns = Timer(label: "mmfreed.turn.duration", factory: registry)
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        set("mmfreed.start_time_seconds", Double(now.tv_sec) + Double(now.tv_nsec) / 1e9)
    }

    // MARK: What happens

    /// A turn of the decode thread that computed something took so many nanoseconds.
    func turn(_ nanoseconds: UInt64) { turns.recordNanoseconds(Int64(clamping: nanoseconds)) }

    /// Tokens of an account's requests were computed.
    func computed(prompt: Int, completion: Int, for account: Account) {
        let counters = tokens.withLock { tokens in
            if let known = tokens[account] { return known }
            let dimensions = [Self.label(account)]
            let made = Tokens(
                prompt: Counter(
                    label: "mmfreed.prompt.tokens", dimensions: dimensions, factory: registry),
                completion: Counter(
                    label: "mmfreed.completion.tokens", dimensions: dimensions, factory: registry))
            // The registry bounds its series; so is this bounded.
            if tokens.count < 1024 { tokens[account] = made }
            return made
        }
        if prompt > 0 { counters.prompt.increment(by: prompt) }
        if completion > 0 { counters.completion.increment(by: completion) }
    }

    /// A request has ended.
    ///
    /// - Parameter outcome: as in the log: "stop", "length", "done", "cancelled", "deadline" …
    func finished(_ request: Request, _ outcome: String, now: UInt64) {
        let record = request.record
        let account = Self.label(record.account)
        let timings = request.timings(now)
        let about = [
            account, ("gen_ai_operation_name", Self.operation(record.method)),
            ("gen_ai_request_model", record.model),
        ]
        count("mmfreed.requests", about + [("outcome", outcome)])
        count("mmfreed.cached.tokens", [account], by: record.cachedTokens)
        count("mmfreed.preemptions", [account], by: record.preemptions)
        time("mmfreed.queue.duration", about, timings.queue)
        let server = about + [("gen_ai_provider_name", "mmfreed")]
        time("gen_ai.server.request.duration", server, now &- record.received)
        guard request.prefilled != 0, record.completionTokens > 0 else { return }
        time("gen_ai.server.time_to_first_token", server, timings.queue + timings.prefill)
        // The first token comes with the prompt.
        guard record.completionTokens > 1 else { return }
        time(
            "gen_ai.server.time_per_output_token", server,
            timings.decode / UInt64(record.completionTokens - 1))
    }

    func refused(_ call: Call, _ error: RPCError) {
        count(
            "mmfreed.refused.requests",
            [
                Self.label(call.peer.account),
                ("gen_ai_operation_name", Self.operation(call.method)),
                ("reason", error.reason ?? error.code.name),
            ])
    }

    // MARK: What is

    /// What is the case when somebody looks.
    struct Levels {
        var slots = 0
        var active = 0
        var queued = 0
        var models = 0
        var isDraining = false
        var version = ""
        var kernels = ""
        var process = ProcessFigures()
        var prefixes = PrefixStatus()
        var sessions = SessionsStatus()
    }

    /// - Parameter account: whose series are shown; `nil` for all.
    func exposition(_ levels: Levels, account: Account?) -> String {
        set("mmfreed.slots", levels.slots)
        set("mmfreed.slots.in_use", levels.active)
        set("mmfreed.queue.length", levels.queued)
        set("mmfreed.models", levels.models)
        set("mmfreed.draining", levels.isDraining ? 1 : 0)
        set("mmfreed.build_info", 1, [("version", levels.version), ("kernels", levels.kernels)])
        set("mmfreed.prefix.states", levels.prefixes.states)
        set("mmfreed.prefix.bytes", levels.prefixes.bytes)
        set("mmfreed.prefix.hits", levels.prefixes.hits)
        set("mmfreed.prefix.misses", levels.prefixes.misses)
        set("mmfreed.prefix.evictions", levels.prefixes.evictions)
        set("mmfreed.sessions", levels.sessions.sessions)
        set("mmfreed.sessions.bytes", levels.sessions.bytes)
        set("mmfreed.sessions.turns", levels.sessions.turns)
        set("mmfreed.sessions.expired", levels.sessions.expired)
        set("mmfreed.cpu.seconds", levels.process.processorSeconds)
        set("mmfreed.resident_memory_bytes", levels.process.residentBytes)
        set("mmfreed.private_memory_bytes", levels.process.privateBytes)
        set("mmfreed.open_fds", levels.process.descriptors)
        return registry.exposition(account: account.map { Self.label($0).1 })
    }

    private func set(
        _ label: String, _ value: some BinaryInteger, _ dimensions: [(String, String)] = []
    ) { set(label, Double(value), dimensions) }

    private func set(_ label: String, _ value: Double, _ dimensions: [(String, String)] = []) {
        Gauge(label: label, dimensions: dimensions, factory: registry).record(value)
    }

    private func count(_ label: String, _ dimensions: [(String, String)], by amount: Int = 1) {
        guard amount > 0 else { return }
        Counter(label: label, dimensions: dimensions, factory: registry).increment(by: amount)
    }

    private func time(_ label: String, _ dimensions: [(String, String)], _ nanoseconds: UInt64) {
        Timer(label: label, dimensions: dimensions, factory: registry)
            .recordNanoseconds(Int64(clamping: nanoseconds))
    }

    private static func label(_ account: Account) -> (String, String) {
        ("account", "\(account.uid)")
    }

    /// OpenTelemetry's names of operations where it has them.
    private static func operation(_ method: String) -> String {
        switch method {
        case "Generate": "text_completion"
        case "Embed": "embeddings"
        default: method.lowercased()
        }
    }
}
