// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC

/// A turn as it is put together: one row for each answer that is being written, and prompt rows as far as there is room for them.
///
/// Nobody's answer is being written: room for `prefillChunk` rows. Otherwise for what takes `turnTime` together with the answers'
/// own rows, but not less than a quarter of it, so that prompts are read however many answers there are; and for one row of a
/// model of which nothing is known, or that takes longer than there is time.
struct TurnDraft {
    private let costs: [ModelID: TurnCost]
    /// Rows of each model so far.
    private var rows: [ModelID: Int] = [:]
    /// Prompt rows, by sequence.
    private(set) var reading: [ObjectIdentifier: Int] = [:]
    private var rowsLeft: Int
    /// Rows of prompts that want logits besides the last one's: each takes four bytes for each token of the vocabulary.
    private var scoredLeft = PromptScorer.batchRows
    /// Nanoseconds; infinite while nobody's answer is being written.
    private var timeLeft: Double

    init(
        _ streams: [Sequence], costs: [ModelID: TurnCost], _ configuration: ServingConfiguration
    ) {
        self.costs = costs
        rowsLeft = configuration.prefillChunk
        for sequence in streams { rows[sequence.request.model, default: 0] += 1 }
        let own = rows.reduce(0.0) { $0 + (costs[$1.key]?.time($1.value) ?? 0) }
        let limit = Double(configuration.turnTime)
        timeLeft = streams.isEmpty ? .infinity : max(limit - own, limit / 4)
    }

    /// How many rows of a sequence `credit` pays for. Beside answers a row costs the time it adds to the turn, the first of a
    /// model the whole pass; otherwise `price`, for all turns are full.
    func rows(of sequence: Sequence, for credit: Double, price: Double) -> Int {
        let model = sequence.request.model
        guard timeLeft < .infinity, let cost = costs[model], !cost.isUnknown else {
            return Int(credit / price)
        }
        let before = rows[model, default: 0]
        return cost.rows(within: cost.time(before) + credit, limit: before + rowsLeft + 1) - before
    }

    /// How many of the next `count` rows of a sequence there is memory for.
    func allowed(_ sequence: Sequence, _ count: Int) -> Int {
        guard let first = scored(sequence) else { return count }
        return min(count, max(0, first - next(sequence)) + scoredLeft)
    }

    /// The first row of a sequence that wants logits, if the last is not the only one.
    private func scored(_ sequence: Sequence) -> Int? {
        let first = sequence.request.consumer.firstResult(of: sequence.tokens.count)
        return first < sequence.tokens.count - 1 ? first : nil
    }

    private func next(_ sequence: Sequence) -> Int {
        sequence.read + (reading[ObjectIdentifier(sequence)] ?? 0)
    }

    /// Adds at most `count` prompt rows of a sequence.
    ///
    /// - Returns: how many there is room for, and what they cost.
    mutating func read(
        _ sequence: Sequence, _ count: Int, price: Double
    ) -> (granted: Int, cost: Double) {
        let model = sequence.request.model
        let before = rows[model, default: 0]
        let granted = min(count, rowsLeft, room(model, before))
        guard granted > 0 else { return (0, 0) }
        let after = before + granted
        rows[model] = after
        rowsLeft -= granted
        if let first = scored(sequence) {
            scoredLeft -= granted - min(granted, max(0, first - next(sequence)))
        }
        reading[ObjectIdentifier(sequence), default: 0] += granted
        guard timeLeft < .infinity else { return (granted, Double(granted) * price) }
        // Of a model of which nothing is known all the time there is.
        guard let cost = costs[model], !cost.isUnknown else {
            timeLeft = 0
            return (granted, Double(granted) * price)
        }
        let time = cost.time(after) - cost.time(before)
        timeLeft = max(0, timeLeft - time)
        return (granted, time)
    }

    private func room(_ model: ModelID, _ before: Int) -> Int {
        guard timeLeft < .infinity else { return rowsLeft }
        let least = reading.isEmpty ? 1 : 0
        guard let cost = costs[model], !cost.isUnknown else { return least }
        let most = cost.rows(within: cost.time(before) + timeLeft, limit: before + rowsLeft)
        return max(least, most - before)
    }
}
