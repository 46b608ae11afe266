// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// One JSON document a line, as Ollama's clients read them.
struct LineStream {
    let reply: Reply

    func begin() async throws { try await reply.begin("application/x-ndjson") }

    func send(_ json: JSON) async throws {
        try await reply.write(json.writtenCompactly() + [0x0A])
    }

    /// - Parameter error: what cut the answer short.
    func end(_ error: (any Error)? = nil) async throws {
        if let error { try await send(APIError(any: error).json(.ollama)) }
        try await reply.finish()
    }
}

/// RFC 3339, in UTC. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
func timestamp(seconds: Int, nanoseconds: Int) -> String {
    func digits(_ value: Int, _ count: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, count - text.count)) + text
    }
    let (days, second) = (seconds / 86400, seconds % 86400)
    let shifted = days + 719_468
    let era = shifted / 146_097
    let day = shifted - era * 146_097
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365
    let ofYear = day - (365 * year + year / 4 - year / 100)
    let month = (5 * ofYear + 2) / 153
    let civilMonth = month < 10 ? month + 3 : month - 9
    let civilYear = year + era * 400 + (civilMonth <= 2 ? 1 : 0)
    return
        "\(digits(civilYear, 4))-\(digits(civilMonth, 2))-\(digits(ofYear - (153 * month + 2) / 5 + 1, 2))"
        + "T\(digits(second / 3600, 2)):\(digits(second / 60 % 60, 2)):\(digits(second % 60, 2))"
        + ".\(digits(nanoseconds, 9))Z"
}
