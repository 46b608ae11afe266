// SPDX-License-Identifier: Apache-2.0

import MMFree

/// A daemon's status at a time, and what has changed since the one before.
struct Activity {
    /// An open request, its owner and its speed.
    struct Row: Encodable {
        let account: UInt32
        let user: String
        let pid: Int32
        let unit: String?
        let requestId, method, model, phase: String
        let promptTokens, readTokens, cachedTokens, completionTokens: Int
        /// Of the answer; of the prompt while that is being read.
        let tokensPerS: Double?
        let preemptions: Int
        let ageMs: Double
    }

    let status: DaemonStatus
    let time: ContinuousClock.Instant
    let rows: [Row]
    /// Tokens a second of all requests that are seen, read and written; `nil` in the first sample.
    let reading, writing: Double?

    /// - Parameters:
    ///   - owner: a user's name and a process' unit.
    init(
        _ status: DaemonStatus, at time: ContinuousClock.Instant, since previous: Activity? = nil,
        owner: (UInt32, Int32) -> (user: String, unit: String?)
    ) {
        self.status = status
        self.time = time
        let passed = previous.map { (time - $0.time) / .seconds(1) } ?? 0
        let before = Dictionary(
            (previous?.status.requests ?? []).map { ($0.requestID, $0) }, uniquingKeysWith: { $1 })
        rows = status.requests.map { request in
            let owner = owner(request.uid, request.pid)
            return Row(
                account: request.uid, user: owner.user, pid: request.pid, unit: owner.unit,
                requestId: request.requestID, method: request.method, model: request.model,
                phase: request.phase, promptTokens: request.promptTokens,
                readTokens: request.readTokens, cachedTokens: request.cachedTokens,
                completionTokens: request.completionTokens,
                tokensPerS: Self.rate(request, since: before[request.requestID], passed),
                preemptions: request.preemptions, ageMs: request.age / .milliseconds(1))
        }
        guard let previous, passed > 0 else {
            (reading, writing) = (nil, nil)
            return
        }
        // What has finished was open before: the sum of both only rises.
        func written(_ status: DaemonStatus) -> Double {
            Double(status.completionTokens)
                + status.requests.reduce(0) { $0 + Double($1.completionTokens) }
        }
        func read(_ status: DaemonStatus) -> Double {
            Double(status.promptTokens) + status.requests.reduce(0) { $0 + Double($1.readTokens) }
        }
        // Prompts that were cut short count as read when their request ends, and a daemon may have been restarted.
        reading = max(0, read(status) - read(previous.status)) / passed
        writing = max(0, written(status) - written(previous.status)) / passed
    }

    private static func rate(
        _ now: DaemonStatus.Request, since before: DaemonStatus.Request?, _ passed: Double
    ) -> Double? {
        if let before, passed > 0 {
            let tokens =
                now.completionTokens > 0
                ? now.completionTokens - before.completionTokens
                : now.readTokens - before.readTokens
            return Double(max(0, tokens)) / passed
        }
        // The first token comes with the prompt.
        guard now.completionTokens > 1, now.decoding > .zero else { return nil }
        return Double(now.completionTokens - 1) / (now.decoding / .seconds(1))
    }

    /// The open requests as a table.
    var table: Table {
        var table = Table(
            [
                "ACCOUNT", "USER", "PID", "UNIT", "REQUEST", "METHOD", "MODEL", "PHASE", "PROMPT",
                "CACHED", "TOKENS", "TOKENS/S", "AGE",
            ], numeric: [0, 2, 8, 9, 10, 11, 12])
        for row in rows {
            let isRead = row.phase == "decode" || row.readTokens >= row.promptTokens
            table.add([
                "\(row.account)", row.user, "\(row.pid)", row.unit ?? "-", row.requestId,
                row.method, row.model, row.phase,
                isRead ? "\(row.promptTokens)" : "\(row.readTokens)/\(row.promptTokens)",
                "\(row.cachedTokens)", "\(row.completionTokens)",
                row.tokensPerS.map { String(printf: "%.1f", $0) } ?? "-",
                String(printf: "%.1f s", row.ageMs / 1e3),
            ])
        }
        return table
    }
}

extension DaemonStatus {
    /// What the daemon has in memory and has done, for `status` and `top`.
    var summary: [String] {
        var lines = [
            "\(active) of \(slots) slots in use, \(queued) requests waiting, \(models) models",
            "\(finishedRequests) requests finished, \(refusedRequests) refused, \(preemptions) preemptions; "
                + "\(promptTokens) prompt tokens, \(cachedTokens) of them cached, \(completionTokens) written",
            "\(Terminal.bytes(residentBytes)) resident, model pages included, \(Terminal.bytes(privateBytes)) the daemon's own; "
                + "\(descriptors) descriptors",
        ]
        if let prefixes, prefixes.byteLimit > 0 {
            lines.append(
                "\(prefixes.states) known prefixes, \(Terminal.bytes(prefixes.bytes)) of \(Terminal.bytes(prefixes.byteLimit)); "
                    + "\(prefixes.hits) hits, \(prefixes.misses) misses, \(prefixes.evictions) evictions"
            )
        }
        if let sessions {
            lines.append(
                "\(sessions.count) of \(sessions.countLimit) sessions, \(Terminal.bytes(sessions.bytes)) of "
                    + "\(Terminal.bytes(sessions.byteLimit)); \(sessions.turns) turns, \(sessions.expired) expired"
            )
        }
        return lines
    }
}
