// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// What came of one request. Times are seconds since the run's start.
struct LoadSample: Codable, Equatable {
    var account: String
    var client: Int
    /// When it was due: with arrivals that may be before it could be sent.
    var start: Double
    var end: Double
    /// When each token came.
    var tokens: [Double] = []
    var promptTokens = 0
    var cachedTokens = 0
    /// Why there is no whole answer.
    var error: String?

    var firstToken: Double? { tokens.first.map { $0 - start } }
    /// What passed between two tokens.
    var gaps: [Double] { zip(tokens.dropFirst(), tokens).map { $0 - $1 } }
}
