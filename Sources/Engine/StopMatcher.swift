// SPDX-License-Identifier: Apache-2.0

/// Finds the first of several stop strings in text that comes in pieces, holding back no more than what may begin one.
package struct StopMatcher: Sendable {
    private let stops: [[UInt8]]
    private var held: [UInt8] = []

    /// - Parameter stops: empty ones are left out.
    package init(_ stops: [String]) {
        self.stops = stops.map { Array($0.utf8) }.filter { !$0.isEmpty }
    }

    /// The text that can be given out now, and whether a stop string has come; nothing follows it then.
    package mutating func append(_ text: String) -> (emit: String, stopped: Bool) {
        guard !stops.isEmpty else { return (text, false) }
        held += text.utf8
        for begin in held.indices {
            if stops.contains(where: { held[begin...].starts(with: $0) }) {
                defer { held = [] }
                return (String(decoding: held[..<begin], as: UTF8.self), true)
            }
            // The rest may become a stop string: it waits.
            if stops.contains(where: { $0.starts(with: held[begin...]) }) {
                let emit = String(decoding: held[..<begin], as: UTF8.self)
                held.removeFirst(begin)
                return (emit, false)
            }
        }
        defer { held = [] }
        return (String(decoding: held, as: UTF8.self), false)
    }

    /// What was held back, when no more text comes.
    package mutating func finish() -> String {
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }
}
