// SPDX-License-Identifier: Apache-2.0

import Engine
import Testing

@Suite("Sampling options")
struct SamplingOptionsTests {
    private func refusal(_ change: (inout SamplingOptions) -> Void) -> String? {
        var options = SamplingOptions()
        change(&options)
        do {
            try options.validate(vocabulary: 100)
            return nil
        } catch { return "\(error)" }
    }

    @Test("values in range pass, the ends included")
    func pass() {
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0 = .greedy } == nil)
        #expect(
            refusal {
                $0.temperature = 100
                $0.topP = 0
                $0.minP = 1
                $0.topK = 1 << 30
                $0.logitBias = [99: -.infinity, 0: 1e30]
                $0.logprobs = 64
            } == nil)
    }

    @Test("a refusal names the field, the value and what is allowed")
    func refuse() {
        #expect(refusal { $0.temperature = -1 } == "temperature is -1.0; allowed: 0.0 to 100.0")
        #expect(refusal { $0.temperature = .nan } == "temperature is nan; allowed: 0.0 to 100.0")
        #expect(refusal { $0.topP = 1.5 } == "top_p is 1.5; allowed: 0.0 to 1.0")
        #expect(refusal { $0.minP = -.infinity } == "min_p is -inf; allowed: 0.0 to 1.0")
        #expect(
            refusal { $0.repetitionPenalty = 0 }
                == "repetition_penalty is 0.0; allowed: 0.01 to 100.0")
        #expect(
            refusal { $0.presencePenalty = 101 }
                == "presence_penalty is 101.0; allowed: -100.0 to 100.0")
        #expect(
            refusal { $0.frequencyPenalty = .infinity }
                == "frequency_penalty is inf; allowed: -100.0 to 100.0")
        #expect(refusal { $0.topK = -1 } == "top_k is -1; allowed: 0 to 2147483647")
        #expect(refusal { $0.logprobs = 65 } == "logprobs is 65; allowed: 0 to 64")
        #expect(
            refusal { $0.logitBias = [100: 1, 300: 1] }
                == "logit_bias is given for token 100; allowed: tokens 0 to 99")
        #expect(
            refusal {
                $0.logitBias = .init(uniqueKeysWithValues: (0..<100).map { ($0, -.infinity) })
            }
                == "logit_bias is -inf for all 100 tokens; allowed: -inf for all tokens but one")
        #expect(
            refusal { $0.logitBias = [7: .nan] }
                == "logit_bias is nan for token 7; allowed: finite numbers and -inf")
    }
}
