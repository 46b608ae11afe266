// SPDX-License-Identifier: Apache-2.0

/// Log-probabilities of continuations: of a packed file that is computed here, or from a daemon. Both have the same bits.
protocol EvalModel {
    var name: String { get }
    var digest: String { get }
    /// How its keys and values are stored; nil of a model that has none.
    var keyValues: String? { get }

    /// log p(continuation | context) of each pair: the sum of the tokens' float32.
    func logProbabilities(_ question: EvalQuestion) async throws -> [Double]
}

/// A pair's tokens.
struct EvalTokens: Equatable {
    let context, continuation: [UInt32]

    var all: [UInt32] { context + continuation }

    /// What the harness's `_encode_pair` gives: white space at a context's end goes to the continuation, and the continuation's tokens are
    /// those of both behind the context's.
    ///
    /// - Parameters:
    ///   - context: the tokens of `EvalQuestion.Pair.strippedContext`.
    ///   - whole: the tokens of `EvalQuestion.Pair.text`.
    init(context: [UInt32], whole: [UInt32]) throws {
        self.context = context
        continuation = Array(whole.dropFirst(context.count))
        guard !context.isEmpty, !continuation.isEmpty else {
            throw Failure("a context or an answer without tokens", .data)
        }
    }
}

extension EvalQuestion.Pair {
    var strippedContext: String { PythonText.stripped(context, left: false) }
    var text: String { context + continuation }
}
