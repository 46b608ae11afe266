// SPDX-License-Identifier: Apache-2.0

internal import CKernels

/// How likely a token is under the model itself: the logarithm of the softmax of the logits as they came.
package struct TokenScorer {
    private let kernels: Kernels.Table
    /// Logits in place of some that are not finite: [vocabulary]; empty until that happens.
    private var work: [Float] = []
    private var candidates: SamplerCandidates

    package init(kernels: Kernels.Table = ck_best()) {
        self.kernels = kernels
        candidates = SamplerCandidates(kernels: kernels)
    }

    /// - Parameters:
    ///   - logits: [vocabulary], more than `token`. What is not a number counts as −infinity.
    ///   - top: how many of the likeliest tokens to report beside it.
    package mutating func score(
        _ token: UInt32, _ logits: UnsafeBufferPointer<Float>, top: Int
    ) -> SampledToken {
        guard let base = logits.baseAddress, Int(token) < logits.count else {
            preconditionFailure("token \(token) of \(logits.count) logits")
        }
        let count = logits.count
        let highest = base[kernels.pointee.argmax(base, count)]
        guard highest > -.infinity else { return SampledToken(id: token, logprob: -.infinity) }
        let sum = kernels.pointee.sum_exp(base, count, highest)
        if sum.isFinite { return score(token, base, count, highest, ck_log(sum), top) }
        // There is something that is not a finite number.
        if work.count != count { work = [Float](repeating: 0, count: count) }
        work.withUnsafeMutableBufferPointer { [kernels] work in
            guard let to = work.baseAddress else { return }
            Sampler.shift(base, to, count, highest, 1, kernels)
        }
        return score(token, work, count, 0, ck_log(kernels.pointee.sum_exp(work, count, 0)), top)
    }

    private mutating func score(
        _ token: UInt32, _ logits: UnsafePointer<Float>, _ count: Int, _ shift: Float,
        _ logSum: Float, _ top: Int
    ) -> SampledToken {
        var result = SampledToken(id: token, logprob: logits[Int(token)] - shift - logSum)
        let wanted = min(top, count)
        guard wanted > 0 else { return result }
        var threshold: Float = -2
        while true {
            candidates.gather(logits, count, atLeast: threshold, shift: shift)
            if candidates.count >= wanted || threshold == -.infinity { break }
            threshold = threshold < -100 ? -.infinity : threshold * 2
        }
        result.top = candidates.mostLikely(wanted).map {
            SampledToken.Alternative(id: $0.id, logprob: $0.value - logSum)
        }
        return result
    }
}
