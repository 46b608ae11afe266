// SPDX-License-Identifier: Apache-2.0
//
// Nothing here sorts the vocabulary. The likeliest tokens are gathered by a threshold that surely leaves enough of them (top-p), or that
// is lowered until they are (top-k); where that ends among them is found by partitioning, as in quickselect; and the draw walks what is
// kept in the order of ids, so how it was found does not show. Exponentials are the kernels' own, sums are in Double in one order: a seed
// gives the same tokens on every machine.

internal import CKernels
package import Grammar

/// A token chosen, and how likely it was.
package struct SampledToken: Sendable, Equatable {
    package struct Alternative: Sendable, Equatable {
        package var id: UInt32
        package var logprob: Float
    }

    package var id: UInt32
    /// The natural logarithm of its probability under the model itself: of the logits as they came, before penalties, bias,
    /// temperature and all else. 0 unless log-probabilities were asked for.
    package var logprob: Float = 0
    /// The likeliest tokens under the model itself, most likely first, lower ids first on ties.
    package var top: [Alternative] = []

    package init(id: UInt32, logprob: Float = 0, top: [Alternative] = []) {
        self.id = id
        self.logprob = logprob
        self.top = top
    }
}

/// Chooses one request's tokens, one after the other, with its own randomness.
///
/// Logits that are not numbers count as −infinity. If all are −infinity, token 0 is chosen; if some are +infinity, the choice is
/// among those.
package struct Sampler {
    package let options: SamplingOptions
    private let kernels: Kernels.Table
    private var randomness: Randomness
    /// How many logits there are.
    private var vocabulary = 0
    /// Tokens of the prompt or the answer, for the repetition penalty.
    private var seen: Set<UInt32> = []
    /// How often each token is in the answer.
    private var counts: [UInt32: Int] = [:]
    /// The logits after penalties and bias, then after temperature as well: [vocabulary]; empty until it is needed.
    private var work: [Float] = []
    private var candidates: SamplerCandidates
    private var scorer: TokenScorer

    /// - Parameters:
    ///   - options: validated before.
    ///   - prompt: what the answer follows; the repetition penalty counts it.
    package init(
        _ options: SamplingOptions, prompt: some Sequence<UInt32>,
        kernels: Kernels.Table = ck_best()
    ) {
        self.options = options
        self.kernels = kernels
        candidates = SamplerCandidates(kernels: kernels)
        scorer = TokenScorer(kernels: kernels)
        randomness = Randomness(seed: options.seed)
        seen = options.repetitionPenalty == 1 ? [] : Set(prompt)
    }

    /// - Parameters:
    ///   - logits: [vocabulary], 1 or more, and as many each time.
    ///   - mask: the tokens to choose among, at least one: taken after penalties and bias, before all else. If the logits of all of
    ///     them are −infinity, it is the one of lowest id.
    package mutating func sample(
        _ logits: UnsafeBufferPointer<Float>, mask: TokenMask? = nil
    ) -> SampledToken {
        guard let base = logits.baseAddress, !logits.isEmpty else {
            preconditionFailure("no logits to sample from")
        }
        vocabulary = logits.count
        let token = SampledToken(id: choose(base, mask))
        if options.repetitionPenalty != 1 { seen.insert(token.id) }
        if options.presencePenalty != 0 || options.frequencyPenalty != 0 {
            counts[token.id, default: 0] += 1
        }
        guard let wanted = options.logprobs else { return token }
        return scorer.score(token.id, logits, top: wanted)
    }

    // MARK: Choosing

    private mutating func choose(_ logits: UnsafePointer<Float>, _ mask: TokenMask?) -> UInt32 {
        let changed = options.changesLogits || mask != nil
        if changed { change(logits) }
        if let mask { apply(mask) }
        let best =
            changed
            ? kernels.pointee.argmax(work, vocabulary) : kernels.pointee.argmax(logits, vocabulary)
        let highest = changed ? work[best] : logits[best]
        guard highest > -.infinity else { return mask?.first ?? 0 }
        guard options.temperature > 0 else { return UInt32(best) }
        reserveWork()
        let (count, temperature, kernels) = (vocabulary, options.temperature, kernels)
        // Where top-p alone ends is looked for in the same pass.
        let share = options.topP < 1 && !limitsCount ? options.topP : nil
        let bounds = work.withUnsafeMutableBufferPointer { work -> MassBounds? in
            guard let to = work.baseAddress else { return nil }
            var (from, highest, temperature) = (
                changed ? UnsafePointer(to) : logits, highest, temperature
            )
            if share == nil || highest == .infinity {
                Self.shift(from, to, count, highest, temperature, kernels)
                (from, highest, temperature) = (UnsafePointer(to), 0, 1)
            }
            return share.map {
                MassBounds(
                    from, to, count, highest: highest, temperature: temperature, share: $0, kernels)
            }
        }
        return filters ? drawFiltered(bounds) : drawFromAll()
    }

    /// −infinity for what is not allowed.
    private mutating func apply(_ mask: TokenMask) {
        let count = vocabulary
        work.withUnsafeMutableBufferPointer { work in
            for (index, word) in mask.words.enumerated() where word != .max {
                let end = min(count, index * 64 + 64)
                for token in index * 64..<max(index * 64, end)
                where word >> UInt64(token & 63) & 1 == 0 {
                    work[token] = -.infinity
                }
            }
        }
    }

    private mutating func reserveWork() {
        if work.count != vocabulary { work = [Float](repeating: 0, count: vocabulary) }
    }

    /// Fills `work` with the logits after penalties and bias.
    private mutating func change(_ logits: UnsafePointer<Float>) {
        reserveWork()
        let (count, options, seen, counts) = (vocabulary, options, seen, counts)
        work.withUnsafeMutableBufferPointer { work in
            guard let work = work.baseAddress else { return }
            work.update(from: logits, count: count)
            for id in seen where Int(id) < count {
                let value = work[Int(id)]
                work[Int(id)] =
                    value < 0
                    ? value * options.repetitionPenalty : value / options.repetitionPenalty
            }
            for (id, times) in counts where Int(id) < count {
                work[Int(id)] -= options.presencePenalty + options.frequencyPenalty * Float(times)
            }
            for (id, bias) in options.logitBias where Int(id) < count { work[Int(id)] += bias }
        }
    }

    /// to = (from − highest) / temperature, so that no temperature overflows; what is not a number becomes −infinity.
    static func shift(
        _ from: UnsafePointer<Float>, _ to: UnsafeMutablePointer<Float>, _ count: Int,
        _ highest: Float, _ temperature: Float, _ kernels: Kernels.Table
    ) {
        guard highest < .infinity else {
            for index in 0..<count { to[index] = from[index] == .infinity ? 0 : -.infinity }
            return
        }
        kernels.pointee.temper(from, count, highest, temperature, to)
    }

    // MARK: Drawing

    private var limitsCount: Bool { (1..<vocabulary).contains(options.topK) }

    private var filters: Bool { options.topP < 1 || options.minP > 0 || limitsCount }

    private mutating func drawFromAll() -> UInt32 {
        let (count, kernels, unit) = (vocabulary, kernels, randomness.unit())
        let index = work.withUnsafeMutableBufferPointer { work in
            if let base = work.baseAddress { kernels.pointee.exp_shifted(base, count, 0, base) }
            return SamplerCandidates.pick(UnsafeBufferPointer(work), unit, kernels)
        }
        return UInt32(index)
    }

    /// - Parameter bounds: of top-p, unless top-k limits as well.
    private mutating func drawFiltered(_ bounds: MassBounds?) -> UInt32 {
        let floor = options.minP > 0 ? ck_log(options.minP) - 0.01 : -.infinity
        if limitsCount {
            // Top-p asks for the mass of all k, so min-p must not hide any of them.
            gatherMostLikely(options.topK, lowest: options.topP < 1 ? -.infinity : floor)
            candidates.keepMostLikely(options.topK)
            if options.topP < 1 { candidates.keepMass(Double(options.topP) * candidates.mass) }
        } else if let bounds {
            candidates.gather(work, vocabulary, atLeast: max(bounds.enough, floor), shift: 0)
            candidates.keepMass(within: bounds)
        } else {
            candidates.gather(work, vocabulary, atLeast: floor, shift: 0)
        }
        if options.minP > 0 { candidates.keepWeights(atLeast: options.minP) }
        return candidates.draw(randomness.unit())
    }

    /// Gathers `count` candidates or more, or all from `lowest` on.
    private mutating func gatherMostLikely(_ count: Int, lowest: Float) {
        var threshold = max(-2, lowest)
        while true {
            candidates.gather(work, vocabulary, atLeast: threshold, shift: 0)
            if candidates.count >= count || threshold <= lowest { return }
            threshold = max(lowest, threshold < -100 ? -.infinity : threshold * 2)
        }
    }
}
