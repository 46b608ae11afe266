// SPDX-License-Identifier: Apache-2.0

import Glibc
import MMFree
import ModelStore

/// The answers that one request asks for.
struct GenerationPlan {
    /// "" for the daemon's default.
    let model: String
    let prompts: [Prompt]
    let options: GenerateOptions
    /// Choices of each prompt, and of how many candidates they are the best.
    let n: Int
    let bestOf: Int
    let isStream: Bool
    let hasUsage: Bool

    /// Answers that are made, for all prompts.
    var candidates: Int { prompts.count * bestOf }

    /// Whether a part may have the log-probabilities of a whole prompt.
    var hasLongParts: Bool { options.echo && options.logprobs != nil }

    /// - Parameter number: of the candidate, among all.
    func generation(_ number: Int, _ client: Client) -> Generation {
        var options = options
        // A prompt's answers differ, and each has a seed that gives it again.
        options.seed = options.seed.map { $0 &+ UInt64(number % bestOf) }
        if bestOf > n, options.logprobs == nil { options.logprobs = 0 }
        return client.generate(prompts[number / bestOf], model: model, options: options)
    }

    /// Those with the highest mean log-probability of their tokens, if there are more candidates than choices.
    func best(_ candidates: [Completion]) -> [Completion] {
        guard bestOf > n else { return candidates }
        func score(_ candidate: Completion) -> Float {
            let sum = candidate.logprobs.reduce(Float(0)) { $0 + $1.chosen.logprob }
            return sum / Float(max(1, candidate.logprobs.count))
        }
        let ranked = candidates.enumerated().map { (score($0.element), $0.offset) }
            .sorted { $0.0 != $1.0 ? $0.0 > $1.0 : $0.1 < $1.1 }
        return ranked.prefix(n).map { candidates[$0.1] }
    }
}

extension Gateway {
    func completions(_ call: IncomingCall, _ reply: Reply) async throws {
        let request = try CompletionRequest(call.body, configuration)
        try await answer(request.plan, request.form, "cmpl-", call, reply)
    }

    func answer<Form: AnswerForm>(
        _ plan: GenerationPlan, _ form: Form, _ prefix: String, _ call: IncomingCall,
        _ reply: Reply
    ) async throws {
        if plan.candidates > configuration.mostChoices {
            throw APIError.invalid(
                plan.bestOf > 1 ? "n" : "prompt",
                "\(plan.candidates) answers for \(plan.prompts.count) prompts; at most \(configuration.mostChoices) are allowed in one request"
            )
        }
        let head = AnswerHead(
            id: prefix + call.id.dropFirst(4),
            object: plan.isStream ? Form.partObject : Form.object, created: time(nil),
            model: plan.model)
        let events = EventStream(reply: reply)
        if !plan.isStream {
            try await reply.send(try await whole(plan, form, head, call))
        } else if plan.hasLongParts {
            try await stream(plan, form, head, call.client, events)
        } else {
            try await call.relay { try await stream(plan, form, head, call.client, events) }
        }
    }

    // MARK: Whole answers

    private func whole(
        _ plan: GenerationPlan, _ form: some AnswerForm, _ head: AnswerHead, _ call: IncomingCall
    ) async throws -> JSON {
        let all = try await call.relay { try await candidates(plan, call.client) }
        var head = head
        var usage = TokenCount()
        var choices: [JSON] = []
        for candidates in all {
            for (number, candidate) in candidates.enumerated() {
                usage.add(candidate.usage, isFirstOfPrompt: number == 0)
                if let started = candidate.started { head.note(started) }
            }
            for choice in plan.best(candidates) {
                choices.append(
                    form.choice(choices.count, choice, try finishReason(choice.finishReason)))
            }
        }
        return head.json(choices, usage.json)
    }

    /// All candidates, by prompt; a few at a time.
    private func candidates(
        _ plan: GenerationPlan, _ client: Client
    ) async throws -> [[Completion]] {
        let count = plan.candidates
        var done = [Completion](repeating: Completion(), count: count)
        try await withThrowingTaskGroup(of: (Int, Completion).self) { group in
            for number in 0..<count {
                if number >= configuration.choicesAtOnce,
                    let (index, answer) = try await group.next()
                {
                    done[index] = answer
                }
                let generation = plan.generation(number, client)
                group.addTask { (number, try await generation.collect()) }
            }
            for try await (index, answer) in group { done[index] = answer }
        }
        return (0..<plan.prompts.count).map {
            Array(done[($0 * plan.bestOf)..<(($0 + 1) * plan.bestOf)])
        }
    }

    // MARK: Streams

    /// Choice after choice. Nothing is sent before the daemon has taken the first one: until then errors have a status.
    private func stream(
        _ plan: GenerationPlan, _ form: some AnswerForm, _ head: AnswerHead, _ client: Client,
        _ events: EventStream
    ) async throws {
        var head = head
        var usage = TokenCount()
        // OpenAI: with usage at the end, all other parts have null in its place.
        var frame = PartFrame(head, hasUsage: plan.hasUsage)
        do {
            for number in 0..<plan.candidates {
                var state = PartState()
                for try await event in plan.generation(number, client) {
                    if let started = event.started {
                        head.note(started)
                        frame = PartFrame(head, hasUsage: plan.hasUsage)
                        if number == 0 { try await events.begin() }
                        if let first = form.begin(number) { try await events.send(frame, first) }
                    }
                    if let finished = event.finished {
                        usage.add(
                            finished.usage, isFirstOfPrompt: number % plan.bestOf == 0)
                    }
                    let finish = try event.finished.map { try finishReason($0.reason) }
                    for part in form.part(number, event, &state, finish) {
                        try await events.send(frame, part)
                    }
                }
            }
            if plan.hasUsage { try await events.send(head.json([], usage.json)) }
        } catch {
            guard events.reply.isBegun else { throw error }
            return try await events.end(error)
        }
        try await events.end()
    }
}
