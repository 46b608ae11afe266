// SPDX-License-Identifier: Apache-2.0

import Engine

/// The scores of one input, as they are computed. Its job has all tokens but the last, which nothing follows.
final class LocalScore: LocalConsumer {
    let call: LocalCall<[TokenLogprobs]>
    private let tokenizer: Tokenizer?
    private var scorer: PromptScorer

    init(_ call: LocalCall<[TokenLogprobs]>, tokenizer: Tokenizer?, scorer: PromptScorer) {
        self.call = call
        self.tokenizer = tokenizer
        self.scorer = scorer
    }

    var hasRoom: Bool { call.hasRoom }
    var isCancelled: Bool { call.isCancelled }
    func begin(ahead: Int) {}
    func enter() {}
    func fail(_ error: MMFreeError) { call.finish(.failure(error)) }
    func wants(_ index: Int, of count: Int) -> Wants { scorer.needs(index) ? .logits : .nothing }
    var mostRows: Int { PromptScorer.batchRows }

    func take(
        _ rows: Range<Int>, of evaluator: Evaluator, from first: Int, isPromptDone: Bool
    ) -> LocalStep {
        guard let added = scorer.take(rows, of: evaluator, from: first) else { return failed }
        call.send(added.map { TokenLogprobs($0, tokenizer) })
        guard isPromptDone else { return .reading }
        call.finish()
        return .over
    }
}
