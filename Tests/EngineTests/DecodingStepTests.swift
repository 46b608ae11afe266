// SPDX-License-Identifier: Apache-2.0

import Engine
import Testing

@Suite("The decoding step")
struct DecodingStepTests {
    private let tokenizer: Tokenizer
    /// "</s>", and "<0x41>" and so on.
    private let end: UInt32 = 2
    private func byte(_ character: Character) -> UInt32 { UInt32(character.asciiValue!) + 3 }

    init() throws { tokenizer = try TokenizerCaseFile.tokenizer() }

    private func step(
        maxTokens: Int = 100, stops: [String] = [], logprobs: Int? = nil, temperature: Float = 0
    ) -> DecodingStep {
        var options = SamplingOptions()
        options.temperature = temperature
        options.logprobs = logprobs
        options.seed = 11
        return DecodingStep(
            Sampler(options, prompt: []), tokenizer: tokenizer, stops: StopMatcher(stops),
            maxTokens: maxTokens)
    }

    /// Rows of logits of which each wants one token: [tokens][vocabulary].
    private func logits(_ tokens: [UInt32]) -> [Float] {
        tokens.flatMap { token in
            var row = [Float](repeating: 0, count: tokenizer.vocabularySize)
            row[Int(token)] = 9
            return row
        }
    }

    private func take(
        _ step: inout DecodingStep, _ tokens: [UInt32], drafts: [UInt32] = []
    ) -> DecodingStep.Added {
        logits(tokens).withUnsafeBufferPointer { step.take($0, drafts: drafts) }
    }

    @Test("a token is added with its text, and the answer goes on")
    func one() {
        var step = step()
        let added = take(&step, [byte("A")])
        #expect(added.tokens.map(\.id) == [byte("A")])
        #expect(added.text == "A")
        #expect(added.ending == nil)
        #expect(step.count == 1)
    }

    @Test("the end-of-text token ends the answer and is no part of it")
    func endOfText() {
        var step = step()
        _ = take(&step, [byte("A")])
        let added = take(&step, [end])
        #expect(added.tokens.isEmpty && added.text.isEmpty)
        #expect(added.ending == .endOfText)
        #expect(step.count == 1)
    }

    @Test("the last allowed token ends the answer and belongs to it")
    func limit() {
        var step = step(maxTokens: 2)
        #expect(take(&step, [byte("A")]).ending == nil)
        let added = take(&step, [byte("B")])
        #expect(added.ending == .length)
        #expect(added.text == "B")
    }

    @Test("a stop string cuts the text, also where it is complete with the last allowed token")
    func stop() {
        for limit in [2, 100] {
            var step = step(maxTokens: limit, stops: ["BC"])
            #expect(take(&step, [byte("B")]).text == "")
            let added = take(&step, [byte("C")])
            #expect(added.ending == .stopString)
            #expect(added.text + step.finish() == "")
            #expect(added.tokens.map(\.id) == [byte("C")])
        }
    }

    @Test("text held back for a stop string or an incomplete character comes at the end")
    func held() {
        var step = step(stops: ["BC"])
        #expect(take(&step, [byte("B")]).text == "")
        #expect(take(&step, [0xC3 + 3]).text == "")
        #expect(step.finish() == "B\u{FFFD}")
    }

    @Test("rows computed after drafts count as far as the drafts were right")
    func drafts() {
        let (a, b, c, d) = (byte("A"), byte("B"), byte("C"), byte("D"))
        func found(_ drafts: [UInt32], maxTokens: Int = 100) -> DecodingStep.Added {
            var step = step(maxTokens: maxTokens)
            return take(&step, [a, b, c], drafts: drafts)
        }
        #expect(found([a, b]).tokens.map(\.id) == [a, b, c])
        #expect(found([a, b]).text == "ABC")
        #expect(found([a, d]).tokens.map(\.id) == [a, b])
        #expect(found([d, b]).tokens.map(\.id) == [a])
        #expect(found([a, b], maxTokens: 2).tokens.map(\.id) == [a, b])
        #expect(found([a, b], maxTokens: 2).ending == .length)
    }

    @Test(
        "several rows at once are the same tokens, text and log-probabilities as one at a time",
        arguments: [0, 0.9] as [Float])
    func together(_ temperature: Float) {
        var random = Randomness(seed: 3)
        let vocabulary = tokenizer.vocabularySize
        let rows = (0..<4).map { _ in (0..<vocabulary).map { _ in Float(random.unit() * 8) } }
        var (single, several) = (
            step(logprobs: 3, temperature: temperature), step(logprobs: 3, temperature: temperature)
        )
        let alone = rows.map { row in row.withUnsafeBufferPointer { single.take($0) } }
        let tokens = alone.flatMap(\.tokens)
        let drafts = tokens.dropLast().map(\.id)
        let added = rows.flatMap { $0 }.withUnsafeBufferPointer {
            several.take($0, drafts: drafts)
        }
        #expect(added.tokens == tokens)
        #expect(added.text == alone.map(\.text).joined())
        #expect(tokens.allSatisfy { $0.top.count == 3 })
    }
}
