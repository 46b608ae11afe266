// SPDX-License-Identifier: Apache-2.0

/// Why a schema, pattern or grammar is refused, and where in it.
package struct GrammarError: Error, Equatable, CustomStringConvertible {
    /// A JSON pointer as a URI fragment ("#/properties/a"), or "byte 12" of a pattern or grammar; "" for the whole.
    package let place: String
    package let problem: String

    package init(_ place: String, _ problem: String) {
        self.place = place
        self.problem = problem
    }

    package init(byte: Int, _ problem: String) { self.init("byte \(byte)", problem) }

    package var description: String { place.isEmpty ? problem : "\(place): \(problem)" }
}

/// Bounds of what a constraint may take.
package enum GrammarLimits {
    /// Bytes of a schema, pattern or grammar.
    package static let sourceBytes = 64 << 10
    /// Instructions of a compiled grammar.
    static let instructions = 200_000
    /// Nodes of expressions and their parts, which become instructions.
    static let nodes = 1_000_000
    /// The most times that something may be counted.
    static let repetitions = 1_000_000
    /// Places in an object: properties, times the counts that are told apart.
    static let members = 8_000
    /// Characters of a property's name, where others may stand beside it.
    static let nameLength = 256
    /// Steps of threads in all intersections of patterns in a schema; a million take about a second.
    static let intersection = 1_500_000
    /// Nested groups of a pattern or grammar.
    static let groups = 64
    /// Open calls and counted repetitions at one time: some 60 nested JSON values.
    static let depth = 128
    /// Alternatives that are followed at one time.
    static let threads = 4096
    /// Bytes of states, transitions and masks that are kept for one grammar; about.
    static let cacheBytes = 16 << 20
}
