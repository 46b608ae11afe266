// SPDX-License-Identifier: Apache-2.0

import Engine
import Grammar
import Testing

@Suite("Constrained answers, token by token")
struct ConstraintTests {
    private let tokenizer: Tokenizer
    private let end: UInt32 = 2
    private func byte(_ character: Character) -> UInt32 { UInt32(character.asciiValue!) + 3 }

    init() throws { tokenizer = try TokenizerCaseFile.tokenizer() }

    private func constraint(_ pattern: String) throws -> Constraint {
        try TokenGrammar(.regex(Array(pattern.utf8)), try tokenizer.trie()).start
    }

    private func step(
        _ pattern: String, maxTokens: Int = 100, stops: [String] = [],
        _ change: (inout SamplingOptions) -> Void = { _ in }
    ) throws -> DecodingStep {
        var options = SamplingOptions()
        options.temperature = 0
        change(&options)
        return DecodingStep(
            Sampler(options, prompt: []), tokenizer: tokenizer, stops: StopMatcher(stops),
            constraint: try constraint(pattern), maxTokens: maxTokens)
    }

    /// A row of logits that wants these tokens, the first one most.
    private func take(_ step: inout DecodingStep, _ wanted: [UInt32]) -> DecodingStep.Added {
        var row = [Float](repeating: 0, count: tokenizer.vocabularySize)
        for (index, token) in wanted.enumerated() { row[Int(token)] = 9 - Float(index) }
        return row.withUnsafeBufferPointer { step.take($0) }
    }

    @Test(
        "the likeliest token that the constraint allows is chosen, and the last one ends the answer"
    )
    func chosen() throws {
        var step = try step("[AB]C")
        let first = take(&step, [byte("X"), byte("B"), byte("A")])
        #expect(first.tokens.map(\.id) == [byte("B")])
        #expect(first.ending == nil)
        let second = take(&step, [end, byte("X")])
        #expect(second.tokens.map(\.id) == [byte("C")])
        #expect(second.text == "C")
        #expect(second.ending == .constraintMet)
    }

    @Test("the end of text is chosen only where the answer is complete")
    func ends() throws {
        var step = try step("AB*")
        #expect(take(&step, [end]).tokens.map(\.id) == [byte("A")])
        #expect(take(&step, [byte("B"), end]).tokens.map(\.id) == [byte("B")])
        let last = take(&step, [end])
        #expect(last.ending == .endOfText)
        #expect(last.tokens.isEmpty)
    }

    @Test("an answer that may only be empty is complete without a token")
    func empty() throws {
        var step = try step("")
        let added = take(&step, [byte("A")])
        #expect(added.ending == .constraintMet)
        #expect(added.tokens.isEmpty && added.text.isEmpty)
    }

    @Test("an answer that is complete with its last token is complete, one that is not is cut")
    func limit() throws {
        var whole = try step("AB", maxTokens: 2)
        _ = take(&whole, [byte("A")])
        #expect(take(&whole, [byte("B")]).ending == .constraintMet)
        var cut = try step("ABC", maxTokens: 2)
        _ = take(&cut, [byte("A")])
        #expect(take(&cut, [byte("B")]).ending == .length)
    }

    @Test("a stop string ends the answer all the same")
    func stop() throws {
        var step = try step("ABC", stops: ["B"])
        #expect(take(&step, [byte("A")]).text == "A")
        #expect(take(&step, [byte("B")]).ending == .stopString)
    }

    @Test(
        "bias counts, but nothing that is forbidden is chosen even if all that is allowed is at −∞")
    func bias() throws {
        var favoured = try step("[AB]") { $0.logitBias = [byte("B"): 50] }
        #expect(take(&favoured, [byte("A")]).tokens.map(\.id) == [byte("B")])
        // Of these two bytes there are no other tokens.
        let (one, two): (UInt32, UInt32) = (1 + 3, 2 + 3)
        for temperature: Float in [0, 1] {
            var step = try step("[\\x01\\x02]") {
                $0.temperature = temperature
                $0.logitBias = [one: -.infinity, two: -.infinity]
            }
            #expect(take(&step, [byte("X")]).tokens.map(\.id) == [one])
        }
    }

    @Test("log-probabilities are the model's own: of all tokens, before the constraint")
    func logprobs() throws {
        var step = try step("A") { $0.logprobs = 1 }
        let token = try #require(take(&step, [byte("X"), byte("A")]).tokens.first)
        #expect(token.id == byte("A"))
        #expect(token.top.map(\.id) == [byte("X")])
        #expect(token.logprob < token.top[0].logprob)
    }

    @Test("a seed repeats, and only what is allowed is drawn", arguments: [UInt64(1), 2, 3])
    func drawn(_ seed: UInt64) throws {
        func text() throws -> String {
            var step = try step("[a-z]{3}[0-9]{20}") {
                $0.temperature = 2
                $0.topK = 5
                $0.seed = seed
            }
            var text = ""
            while true {
                let added = take(&step, [byte("X"), byte("q"), byte("7")])
                text += added.text
                if added.ending != nil { return text }
            }
        }
        let first = try text()
        #expect(first.wholeMatch(of: /[a-z]{3}[0-9]{20}/) != nil)
        #expect(try text() == first)
    }
}
