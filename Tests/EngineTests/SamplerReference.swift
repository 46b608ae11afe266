// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc

/// The sampler's definition, taken literally: everything sorted, in double precision.
enum SamplerReference {
    /// The probability of every token under `options`.
    static func probabilities(
        _ logits: [Float], _ options: SamplingOptions, prompt: [UInt32] = [], answer: [UInt32] = []
    ) -> [Double] {
        var scores = logits.map(Double.init)
        for id in Set(prompt + answer) {
            let penalty = Double(options.repetitionPenalty)
            scores[Int(id)] *= scores[Int(id)] < 0 ? penalty : 1 / penalty
        }
        for id in Set(answer) {
            let times = answer.count { $0 == id }
            scores[Int(id)] -= Double(options.presencePenalty)
            scores[Int(id)] -= Double(options.frequencyPenalty) * Double(times)
        }
        for (id, bias) in options.logitBias { scores[Int(id)] += Double(bias) }
        let order = scores.indices.sorted {
            scores[$0] != scores[$1] ? scores[$0] > scores[$1] : $0 < $1
        }
        guard options.temperature > 0 else {
            return scores.indices.map { $0 == order[0] ? 1 : 0 }
        }
        let highest = scores[order[0]]
        var weights = scores.map { exp(($0 - highest) / Double(options.temperature)) }
        if options.topK > 0 { for id in order.dropFirst(options.topK) { weights[id] = 0 } }
        if options.topP < 1 {
            let total = weights.reduce(0, +)
            var before = 0.0
            for (place, id) in order.enumerated() {
                let weight = weights[id]
                if place > 0, before >= Double(options.topP) * total { weights[id] = 0 }
                before += weight
            }
        }
        for id in weights.indices where weights[id] < Double(options.minP) { weights[id] = 0 }
        let total = weights.reduce(0, +)
        return weights.map { $0 / total }
    }

    /// Logits with a few likely tokens and a long tail, or flat, or spread out.
    static func logits(_ count: Int, _ random: inout Randomness) -> [Float] {
        let spread = [0.1, 1, 3, 10][Int(random.next() % 4)]
        return (0..<count).map { _ in
            let sum = (0..<4).reduce(0.0) { sum, _ in sum + random.unit() } - 2
            return Float(sum * spread * 2)
        }
    }
}
