// SPDX-License-Identifier: Apache-2.0

/// The scores of a prompt's second token and those after it, one for each token that a state has read. The last is of the token that
/// follows those: they are of use to a prompt that begins with these and that one.
package struct KnownScores: Sendable, Equatable {
    /// How many of the likeliest tokens are reported with each.
    package let top: Int
    /// The token that follows.
    package private(set) var next: UInt32 = 0
    private var logprobs: [Float] = []
    /// `top` each.
    private var alternatives: [SampledToken.Alternative] = []

    /// Numbers beyond which no more are kept: who begins with them is told all of them at once.
    private static let mostNumbers = 16 << 10

    package init(top: Int) { self.top = top }

    package var count: Int { logprobs.count }
    package var byteCount: Int {
        logprobs.count * 4 + alternatives.count * MemoryLayout<SampledToken.Alternative>.stride
    }

    /// How many there may be.
    package static func limit(top: Int) -> Int { mostNumbers / (1 + top) }

    /// - Parameter score: of the token at `count` + 1.
    package mutating func append(_ score: SampledToken) {
        precondition(score.top.count == top)
        guard count < Self.limit(top: top) else { return }
        next = score.id
        logprobs.append(score.logprob)
        alternatives += score.top
    }

    /// The first so many, of a prompt.
    package func prefix(_ count: Int, of tokens: [UInt32]) -> KnownScores? {
        guard count >= 1, count <= self.count else { return nil }
        var first = KnownScores(top: top)
        first.next = tokens[count]
        first.logprobs = Array(logprobs[..<count])
        first.alternatives = Array(alternatives[..<(count * top)])
        return first
    }

    /// As they were computed, for a prompt that begins with the tokens they are of.
    package func scores(of tokens: [UInt32]) -> [SampledToken] {
        logprobs.indices.map { index in
            var score = SampledToken(id: tokens[index + 1], logprob: logprobs[index])
            score.top = Array(alternatives[(index * top)..<((index + 1) * top)])
            return score
        }
    }
}
