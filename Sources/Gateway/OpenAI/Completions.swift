// SPDX-License-Identifier: Apache-2.0

import Glibc
import MMFree
import ModelStore

extension Gateway {
    func completions(_ call: IncomingCall, _ reply: Reply) async throws {
        let request = try CompletionRequest(call.body, configuration)
        let head = AnswerHead(
            id: "cmpl-" + call.id.dropFirst(4), object: "text_completion", created: time(nil),
            model: request.model)
        if request.isStream {
            try await stream(request, head, call.client, EventStream(reply: reply))
        } else {
            try await reply.send(try await whole(request, head, call.client))
        }
    }

    // MARK: Whole answers

    private func whole(
        _ request: CompletionRequest, _ head: AnswerHead, _ client: Client
    ) async throws -> JSON {
        let all = try await candidates(request, client)
        var head = head
        var usage = TokenCount()
        var choices: [JSON] = []
        for (prompt, candidates) in all.enumerated() {
            for (number, candidate) in candidates.enumerated() {
                usage.add(candidate.usage, isFirstOfPrompt: number == 0)
                if let started = candidate.started { head.note(started) }
            }
            for (place, choice) in best(request, candidates).enumerated() {
                var logprobs: LegacyLogprobs?
                if request.options.logprobs != nil {
                    logprobs = LegacyLogprobs()
                    for token in choice.logprobs { logprobs?.append(token) }
                }
                choices.append(
                    completionChoice(
                        prompt * request.n + place, choice.text, logprobs?.json,
                        try finishReason(choice.finishReason)))
            }
        }
        return head.json(choices, usage.json)
    }

    /// Those with the highest mean log-probability of their tokens, if there are more candidates than choices.
    private func best(_ request: CompletionRequest, _ candidates: [Completion]) -> [Completion] {
        guard request.bestOf > request.n else { return candidates }
        func score(_ candidate: Completion) -> Float {
            let sum = candidate.logprobs.reduce(Float(0)) { $0 + $1.chosen.logprob }
            return sum / Float(max(1, candidate.logprobs.count))
        }
        let ranked = candidates.enumerated().map { (score($0.element), $0.offset) }
            .sorted { $0.0 != $1.0 ? $0.0 > $1.0 : $0.1 < $1.1 }
        return ranked.prefix(request.n).map { candidates[$0.1] }
    }

    /// All candidates, by prompt; a few at a time.
    private func candidates(
        _ request: CompletionRequest, _ client: Client
    ) async throws -> [[Completion]] {
        let count = request.candidates
        var done = [Completion](repeating: Completion(), count: count)
        try await withThrowingTaskGroup(of: (Int, Completion).self) { group in
            for number in 0..<count {
                if number >= configuration.choicesAtOnce,
                    let (index, answer) = try await group.next()
                {
                    done[index] = answer
                }
                let generation = generation(request, number, client)
                group.addTask { (number, try await generation.collect()) }
            }
            for try await (index, answer) in group { done[index] = answer }
        }
        return (0..<request.prompts.count).map {
            Array(done[($0 * request.bestOf)..<(($0 + 1) * request.bestOf)])
        }
    }

    /// - Parameter number: of the candidate, among all.
    private func generation(
        _ request: CompletionRequest, _ number: Int, _ client: Client
    ) -> Generation {
        var options = request.options
        // A prompt's answers differ, and each has a seed that gives it again.
        options.seed = options.seed.map { $0 &+ UInt64(number % request.bestOf) }
        if request.bestOf > request.n, options.logprobs == nil { options.logprobs = 0 }
        return client.generate(
            request.prompts[number / request.bestOf], model: request.model, options: options)
    }

    // MARK: Streams

    /// Choice after choice. Nothing is sent before the daemon has taken the first one: until then errors have a status.
    private func stream(
        _ request: CompletionRequest, _ head: AnswerHead, _ client: Client, _ events: EventStream
    ) async throws {
        var head = head
        var usage = TokenCount()
        // OpenAI: with usage at the end, all other parts have null in its place.
        let noUsage: JSON? = request.hasUsage ? .null : nil
        do {
            for number in 0..<request.candidates {
                var parts = generation(request, number, client).makeAsyncIterator()
                var logprobs = LegacyLogprobs()
                var isFirst = true
                while let part = try await parts.next() {
                    if let started = part.started { head.note(started) }
                    if isFirst, number == 0 { try await events.begin() }
                    isFirst = false
                    if let finished = part.finished {
                        usage.add(
                            finished.usage, isFirstOfPrompt: number % request.bestOf == 0)
                    }
                    guard !part.text.isEmpty || !part.logprobs.isEmpty || part.finished != nil
                    else { continue }
                    var entry: JSON?
                    if request.options.logprobs != nil {
                        logprobs = LegacyLogprobs(offset: logprobs.offset)
                        for token in part.logprobs { logprobs.append(token) }
                        entry = logprobs.json
                    }
                    let finish = try part.finished.map { try finishReason($0.reason) }
                    try await events.send(
                        head.json(
                            [completionChoice(number, part.text, entry, finish)], noUsage))
                }
            }
            if request.hasUsage { try await events.send(head.json([], usage.json)) }
        } catch {
            guard events.reply.isBegun else { throw error }
            return try await events.end(error)
        }
        try await events.end()
    }
}
