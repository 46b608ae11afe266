// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine

/// What choosing a token takes one thread, with the default options, where it takes longest: logits so flat that top-p keeps most of
/// the vocabulary, as a random model's are.
struct SamplingBench {
    private let logits: [Float]
    private var sampler: Sampler

    init(vocabulary: Int, kernels: Kernels.Table) {
        var random = Randomness(seed: 1)
        // A sum of four: near a normal distribution, of deviation 0.6.
        logits = (0..<vocabulary).map { _ in
            Float((0..<4).reduce(-2.0) { sum, _ in sum + random.unit() })
        }
        sampler = Sampler(SamplingOptions(), prompt: [], kernels: kernels)
    }

    /// Nanoseconds for one token.
    mutating func run() -> Double {
        let began = cl_monotonic_nanoseconds()
        for _ in 0..<Self.tokens {
            let token = logits.withUnsafeBufferPointer { sampler.sample($0) }
            withExtendedLifetime(token) {}
        }
        return Double(cl_monotonic_nanoseconds() &- began) / Double(Self.tokens)
    }

    private static let tokens = 8
}
