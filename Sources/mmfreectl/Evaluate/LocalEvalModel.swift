// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore

/// Log-probabilities of continuations under a packed file. What the answers of a question have in common is computed once, its state is
/// forked for each of them, and all go on in one batch.
final class LocalEvalModel: EvalModel {
    private let model: Model
    private let evaluator: Evaluator
    private let states: StatePool
    private let kernels: Kernels.Table
    private let tokenizer: Tokenizer
    private let addsBOS: Bool
    /// The most answers of a question.
    static let answers = 64
    private static let rows = 512

    var digest: String { model.digest }
    var keyValues: String? { model.memory.keyValueType?.rawValue }
    var name: String { (try? model.file.metadata.string(forKey: FormatKeys.name)) ?? "" }

    init(_ file: String, _ options: LocalOptions, addsBOS: Bool) throws {
        model = try options.model(try open(file))
        guard let tokenizer = model.tokenizer else {
            throw Failure(
                "the file was packed without a tokenizer and takes token ids only", .configuration)
        }
        guard model.shape.hasHead else {
            throw Failure(
                "architecture \(model.shape.name) is an embedding model: it predicts no tokens",
                .usage)
        }
        self.tokenizer = tokenizer
        self.addsBOS = addsBOS
        kernels = try options.table()
        evaluator = try Evaluator(
            model: model, workers: options.workers(), maxRows: Self.rows, kernels: kernels)
        states = try StatePool(slots: 1 + Self.answers, model: model)
    }

    func encode(_ pair: EvalQuestion.Pair) throws -> EvalTokens {
        try EvalTokens(
            context: tokenizer.encode(pair.strippedContext, addBOS: addsBOS),
            whole: tokenizer.encode(pair.text, addBOS: addsBOS))
    }

    func logProbabilities(_ question: EvalQuestion) throws -> [Double] {
        let pairs = try question.pairs.map(encode)
        let longest = pairs.map(\.all.count).max() ?? 0
        if let context = model.memory.context, longest > context {
            throw Failure(
                "an answer of \(longest) tokens with its question; this model has positions for \(context) (context_length)",
                .data)
        }
        let shared = Self.sharedPrefix(pairs.map(\.context))
        states.reset(0)
        var batch: [(row: BatchRow, answer: Int, next: UInt32?)] = pairs[0].context[..<shared].map {
            (BatchRow(slot: 0, token: $0, wants: .nothing), 0, nil)
        }
        for (answer, pair) in pairs.enumerated() {
            let tokens = pair.all
            for place in shared..<(tokens.count - 1) {
                let isScored = place >= pair.context.count - 1
                batch.append(
                    (
                        BatchRow(
                            from: place == shared ? 0 : 1 + answer, to: 1 + answer,
                            token: tokens[place], wants: isScored ? .logits : .nothing),
                        answer, isScored ? tokens[place + 1] : nil
                    ))
            }
        }
        return try run(batch, answers: pairs.count)
    }

    /// How many tokens all contexts begin with, their last ones left out: those are where scoring begins.
    static func sharedPrefix(_ contexts: [[UInt32]]) -> Int {
        guard let first = contexts.first else { return 0 }
        let shortest = contexts.map(\.count).min() ?? 0
        return (0..<max(0, shortest - 1)).first { place in
            contexts.contains { $0[place] != first[place] }
        } ?? max(0, shortest - 1)
    }

    private func run(
        _ batch: [(row: BatchRow, answer: Int, next: UInt32?)], answers: Int
    ) throws -> [Double] {
        var sums = [Double](repeating: 0, count: answers)
        var scorer = TokenScorer(kernels: kernels)
        for start in stride(from: 0, to: batch.count, by: Self.rows) {
            let part = batch[start..<min(start + Self.rows, batch.count)]
            try evaluator.run(part.map(\.row), states: states)
            try model.file.map.checkUnchanged()
            for (row, entry) in part.enumerated() {
                guard let next = entry.next else { continue }
                try evaluator.withLogits(row: row) { logits in
                    guard logits.isFinite else { throw ModelError.notFinite }
                    sums[entry.answer] += Double(scorer.score(next, logits, top: 0).logprob)
                }
            }
        }
        return sums
    }
}
