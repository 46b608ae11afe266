// SPDX-License-Identifier: Apache-2.0

/// Finds stop strings in text that comes in pieces, whatever the cuts between them, and holds back no more than what may begin
/// one.
///
/// The first stop string to be complete ends the text, as it would if the text came byte by byte; of several that end there
/// the longest counts. Text is compared by its bytes (Knuth, Morris and Pratt's automaton for each string), so a byte of text
/// costs the same however long the strings are.
package struct StopMatcher: Sendable {
    private struct Automaton: Sendable {
        let stop: [UInt8]
        /// failure[n]: the longest proper prefix of `stop` that ends its first n + 1 bytes.
        let failure: [Int]
        /// How much of `stop` the text ends with.
        var matched = 0

        init(_ stop: [UInt8]) {
            self.stop = stop
            var failure = [Int](repeating: 0, count: stop.count)
            var length = 0
            for index in stop.indices.dropFirst() {
                while length > 0, stop[index] != stop[length] { length = failure[length - 1] }
                if stop[index] == stop[length] { length += 1 }
                failure[index] = length
            }
            self.failure = failure
        }

        /// Whether `byte` completes the stop string.
        mutating func take(_ byte: UInt8) -> Bool {
            while matched > 0, byte != stop[matched] { matched = failure[matched - 1] }
            if byte == stop[matched] { matched += 1 }
            return matched == stop.count
        }
    }

    private var automata: [Automaton]
    /// The end of the text that has not been given out.
    private var held: [UInt8] = []
    /// A stop string has come; whatever follows is dropped.
    package private(set) var isStopped = false

    /// Refuses empty stop strings: they would end every text before it began.
    package static func check(_ stops: [String]) throws(SamplingError) {
        guard let index = stops.firstIndex(where: \.isEmpty) else { return }
        throw SamplingError(field: "stop", value: "empty at \(index)", allowed: "text")
    }

    /// - Parameter stops: checked before by `check`; empty ones are left out.
    package init(_ stops: [String]) {
        automata = stops.filter { !$0.isEmpty }.map { Automaton(Array($0.utf8)) }
    }

    /// The text that can be given out now, and whether a stop string has come; it and what follows it are never given out.
    package mutating func append(_ text: String) -> (emit: String, stopped: Bool) {
        guard !isStopped else { return ("", true) }
        guard !automata.isEmpty, !text.isEmpty else { return (text, false) }
        let before = held.count
        for byte in text.utf8 {
            held.append(byte)
            var stop = 0
            for index in automata.indices where automata[index].take(byte) {
                stop = max(stop, automata[index].stop.count)
            }
            guard stop > 0 else { continue }
            let emit = String(decoding: held.dropLast(stop), as: UTF8.self)
            isStopped = true
            held = []
            return (emit, true)
        }
        let hold = automata.reduce(0) { max($0, $1.matched) }
        if hold == 0, before == 0 {
            held.removeAll(keepingCapacity: true)
            return (text, false)
        }
        // A stop string begins with a whole character, so the cut is between characters.
        let emit = String(decoding: held.dropLast(hold), as: UTF8.self)
        held.removeFirst(held.count - hold)
        return (emit, false)
    }

    /// What was held back, when no more text comes.
    package mutating func finish() -> String {
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }
}
