// SPDX-License-Identifier: Apache-2.0

import MMFree

/// Log-probabilities of continuations from a daemon. The first answer of a question leaves the state of its context there, with which the
/// others begin.
struct ServedEvalModel: EvalModel {
    let name, digest: String
    let keyValues: String?
    private let client: Client
    private let addsBOS: Bool

    /// - Parameter name: a model of the daemon's; "" for its default.
    init(_ name: String, _ client: Client, addsBOS: Bool) async throws {
        self.client = client
        self.addsBOS = addsBOS
        // Which one it is, and whether it takes texts.
        let scores = try await client.score(.text("Question: Answer:"), model: name)
        (self.name, digest) = (scores.model, scores.modelDigest)
        let models = try await client.models()
        keyValues = models.first { $0.digest == scores.modelDigest }?.keyValueType?.rawValue
    }

    func logProbabilities(_ question: EvalQuestion) async throws -> [Double] {
        var contexts: [String: [UInt32]] = [:]
        var pairs: [EvalTokens] = []
        for pair in question.pairs {
            let context = pair.strippedContext
            let tokens: [UInt32]
            if let known = contexts[context] {
                tokens = known
            } else {
                tokens = try await encode(context)
                contexts[context] = tokens
            }
            pairs.append(try EvalTokens(context: tokens, whole: try await encode(pair.text)))
        }
        var sums = [try await logProbability(pairs[0])]
        sums += [Double](repeating: 0, count: pairs.count - 1)
        try await withThrowingTaskGroup(of: (Int, Double).self) { group in
            for (answer, pair) in pairs.enumerated().dropFirst() {
                group.addTask { (answer, try await logProbability(pair)) }
            }
            for try await (answer, sum) in group { sums[answer] = sum }
        }
        return sums
    }

    private func encode(_ text: String) async throws -> [UInt32] {
        try await client.tokenize(text, model: name, addsBOS: addsBOS).ids
    }

    private func logProbability(_ tokens: EvalTokens) async throws -> Double {
        let scores = try await client.score(
            .tokens(tokens.all), model: name, from: tokens.context.count)
        guard scores.modelDigest == digest else {
            throw Failure(
                "model '\(name)' was replaced meanwhile: its digest is \(scores.modelDigest.prefix(12))…, no longer \(digest.prefix(12))…",
                .temporary)
        }
        return scores.total
    }
}
