// SPDX-License-Identifier: Apache-2.0

import CKernels

/// A token chosen, and how likely it was.
package struct SampledToken: Sendable, Equatable {
    package struct Alternative: Sendable, Equatable {
        package var id: UInt32
        package var logprob: Float
    }

    package var id: UInt32
    /// The natural logarithm of its probability under the model itself: before penalties, bias and temperature. Zero unless
    /// log-probabilities were asked for.
    package var logprob: Float = 0
    /// The likeliest tokens under the model itself, most likely first.
    package var top: [Alternative] = []
}

/// Chooses one request's tokens, one after the other, with its own randomness.
///
/// Every step is deterministic, down to the exponentials, so a seed gives the same tokens on every machine. Logits that are
/// not numbers count as impossible; if all are, token 0 is chosen.
package struct Sampler {
    package let options: SamplingOptions
    private let kernels: Kernels.Table
    private var randomness: Randomness
    /// Tokens of the prompt or the answer, for the repetition penalty.
    private var seen: Set<UInt32>
    /// How often each token is in the answer.
    private var counts: [UInt32: Int] = [:]
    /// The logits after penalties, bias and temperature: [vocabulary]; kept from token to token.
    private var work: [Float] = []
    private var candidates: [UInt32] = []

    package init(_ options: SamplingOptions, prompt: some Sequence<UInt32>, kernels: Kernels.Table)
    {
        self.options = options
        self.kernels = kernels
        randomness = Randomness(seed: options.seed)
        seen = options.repetitionPenalty == 1 ? [] : Set(prompt)
    }

    /// - Parameter logits: [vocabulary], 1 or more.
    package mutating func sample(_ logits: UnsafeBufferPointer<Float>) -> SampledToken {
        precondition(!logits.isEmpty)
        prepare(logits)
        let chosen = options.temperature == 0 ? best() : draw()
        if options.repetitionPenalty != 1 { seen.insert(chosen) }
        if options.presencePenalty != 0 || options.frequencyPenalty != 0 {
            counts[chosen, default: 0] += 1
        }
        var token = SampledToken(id: chosen)
        if let wanted = options.logprobs { report(logits, wanted, &token) }
        return token
    }

    /// Fills `work` with the logits the choice is made from, before temperature.
    private mutating func prepare(_ logits: UnsafeBufferPointer<Float>) {
        if work.count != logits.count { work = [Float](repeating: 0, count: logits.count) }
        work.withUnsafeMutableBufferPointer { work in
            for index in logits.indices {
                let value = logits[index]
                work[index] = value.isNaN ? -.infinity : value
            }
            for id in seen where Int(id) < work.count {
                let value = work[Int(id)]
                work[Int(id)] =
                    value > 0
                    ? value / options.repetitionPenalty : value * options.repetitionPenalty
            }
            for (id, count) in counts {
                work[Int(id)] -= options.presencePenalty + options.frequencyPenalty * Float(count)
            }
            for (id, bias) in options.logitBias where Int(id) < work.count { work[Int(id)] += bias }
        }
    }

    private func best() -> UInt32 {
        UInt32(kernels.pointee.argmax(work, work.count))
    }

    // MARK: Drawing

    private mutating func draw() -> UInt32 {
        let inverse = 1 / options.temperature
        let highest = work[Int(best())]
        guard highest > -.infinity else { return 0 }
        guard highest < .infinity else { return best() }
        // Relative to the highest, so that no temperature overflows.
        work.withUnsafeMutableBufferPointer { work in
            for index in work.indices { work[index] = (work[index] - highest) * inverse }
        }
        let filtered = options.topK > 0 || options.topP < 1 || options.minP > 0
        guard filtered else { return drawFromAll() }
        return drawFromBest()
    }

    private mutating func drawFromAll() -> UInt32 {
        let total = kernels.pointee.sum_exp(work, work.count, 0)
        work.withUnsafeMutableBufferPointer {
            kernels.pointee.exp_shifted($0.baseAddress!, $0.count, 0, $0.baseAddress!)
        }
        var left = randomness.unit() * total
        var last: UInt32 = 0
        for index in work.indices where work[index] > 0 {
            last = UInt32(index)
            left -= work[index]
            if left < 0 { break }
        }
        return last
    }

    private mutating func drawFromBest() -> UInt32 {
        let keep = options.topK > 0 ? min(options.topK, work.count) : work.count
        var total: Float?
        if options.topK == 0 { total = kernels.pointee.sum_exp(work, work.count, 0) }
        // Logits below this cannot count: the likeliest stands at 0.
        let floor = options.minP > 0 ? ck_log(options.minP) : -.infinity
        // Gather from the top, further down each time, until top-k and top-p have enough.
        var threshold: Float = -4
        while true {
            gather(atLeast: max(threshold, floor))
            let complete = candidates.count == work.count || threshold <= floor
            if candidates.count >= keep || complete || holdsTopP(total) { break }
            threshold = threshold < -200 ? -.infinity : threshold * 2
        }
        work.withUnsafeBufferPointer { work in
            candidates.sort {
                let (a, b) = (work[Int($0)], work[Int($1)])
                return a != b ? a > b : $0 < $1
            }
        }
        if candidates.count > keep { candidates.removeLast(candidates.count - keep) }
        // With top-k the probabilities are those among the k.
        var sum: Float = 0
        if let total { sum = total } else { for id in candidates { sum += ck_exp(work[Int(id)]) } }
        var before: Float = 0
        var kept = 0
        for id in candidates {
            if kept > 0, options.topP < 1, before >= options.topP * sum { break }
            if kept > 0, work[Int(id)] < floor { break }
            before += ck_exp(work[Int(id)])
            kept += 1
        }
        var left = randomness.unit() * before
        for id in candidates.prefix(kept) {
            left -= ck_exp(work[Int(id)])
            if left < 0 { return id }
        }
        return candidates[max(0, kept - 1)]
    }

    /// All tokens whose `work` is at least `threshold`, in the order of their ids.
    private mutating func gather(atLeast threshold: Float) {
        let count = kernels.pointee.select_at_least(work, work.count, threshold, &candidates, 0)
        candidates.removeAll(keepingCapacity: true)
        candidates.append(contentsOf: repeatElement(0, count: count))
        candidates.withUnsafeMutableBufferPointer {
            guard let base = $0.baseAddress else { return }
            _ = kernels.pointee.select_at_least(work, work.count, threshold, base, count)
        }
    }

    /// Whether the candidates already hold the top-p share of the whole.
    private func holdsTopP(_ total: Float?) -> Bool {
        guard let total, options.topP < 1 else { return false }
        var sum: Float = 0
        for id in candidates { sum += ck_exp(work[Int(id)]) }
        // A margin, because the sum in descending order may round otherwise.
        return sum >= options.topP * total * 1.0001
    }

    // MARK: Reporting

    private mutating func report(
        _ logits: UnsafeBufferPointer<Float>, _ wanted: Int, _ token: inout SampledToken
    ) {
        let base = logits.baseAddress!
        let highest = logits[kernels.pointee.argmax(base, logits.count)]
        let normaliser = highest + ck_log(kernels.pointee.sum_exp(base, logits.count, highest))
        token.logprob = logits[Int(token.id)] - normaliser
        guard wanted > 0 else { return }
        var depth: Float = 8
        var order: [UInt32] = []
        repeat {
            order.removeAll(keepingCapacity: true)
            let threshold = depth > 500 ? -.infinity : highest - depth
            for index in logits.indices where logits[index] >= threshold {
                order.append(UInt32(index))
            }
            if threshold == -.infinity { break }
            depth *= 2
        } while order.count < min(wanted, logits.count)
        order.sort {
            let (a, b) = (logits[Int($0)], logits[Int($1)])
            return a != b ? a > b : $0 < $1
        }
        token.top = order.prefix(wanted).map {
            .init(id: $0, logprob: logits[Int($0)] - normaliser)
        }
    }
}
