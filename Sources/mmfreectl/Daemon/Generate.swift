// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Generate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Continue a text.",
        discussion: """
            The answer is written as it comes. The prompt is the argument, or standard input as it is: the line feed at its end \
            belongs to it (`printf %s TEXT |` has none, `echo TEXT |` has one).
            With --json each line is an object: {"started":…}, then {"text":…,"tokens":[…]}, then {"finished":…}.
            """)

    @Argument(help: "The text to continue; standard input if absent or \"-\".")
    var text: String?

    @Option(
        name: [.short, .long], parsing: .unconditional,
        help: "The text to continue, which may begin with a hyphen.")
    var prompt: String?

    @Option(
        name: [.short, .long], help: "A file that holds the text to continue.", completion: .file())
    var file: String?

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection
    @OptionGroup(title: "Sampling") var sampling: SamplingArguments
    @OptionGroup(title: "Constraint (docs/grammar.md)") var format: FormatArguments

    @Option(
        name: [.customShort("n"), .long], parsing: .unconditional,
        help:
            "Tokens at most; 0 stands for the default. Default: the daemon's default_tokens, 256 if unset."
    )
    var maxTokens: UInt32?

    @Option(
        help:
            "Token ids instead of text: 1,415,310. A model without tokenizer answers in ids, at the end."
    )
    var tokens: TokenList?

    @Option(
        parsing: .unconditionalSingleValue,
        help: "End before this text; may be given more than once.")
    var stop: [String] = []

    @Option(
        parsing: .unconditional,
        help:
            "Report log-probabilities, and those of this many likeliest tokens; with --echo the prompt's too. Needs --json."
    )
    var logprobs: UInt32?

    @Option(
        parsing: .unconditional,
        help: "Append the text and its answer to this session; see `mmfreectl session`.",
        completion: .custom { words, _, _ in await Completion.sessions(words) })
    var session: String?

    @Flag(help: "Be refused where other turns of the session run or wait, instead of waiting.")
    var noWait = false

    @Flag(help: "Write the prompt before the answer.")
    var echo = false

    @Flag(help: "Take \"<s>\" and the like in the prompt for the tokens they name.")
    var parseSpecial = false

    @Flag(help: "One JSON object a line.")
    var json = false

    @Flag(name: [.short, .long], help: "Say on standard error how fast it went, and the seed.")
    var verbose = false

    func validate() throws {
        let given = [
            text.map { _ in "a text" }, prompt.map { _ in "--prompt" }, file.map { _ in "--file" },
            tokens.map { _ in "--tokens" },
        ].compactMap { $0 }
        if given.count > 1 {
            throw ValidationError(
                "\(given.joined(separator: " and ")) were given: give one of them")
        }
        if noWait, session == nil { throw ValidationError("--no-wait needs --session") }
        if logprobs != nil, !json { throw ValidationError("--logprobs needs --json") }
    }

    func run() async throws {
        var options = sampling.options
        options.maxTokens = maxTokens.map { Int($0) }
        options.stop = stop
        options.format = try format.format()
        options.echo = echo
        options.parsesSpecialTokens = parseSpecial
        options.logprobs = logprobs.map { Int($0) }
        options.session = session
        options.refusesBusySession = noWait
        let prompt: Prompt = try tokens.map { .tokens($0.ids) } ?? .text(question())
        var endsInNewline = true
        var drawn: UInt64?
        // A model without tokenizer answers in ids, and a piece without text does not tell which kind the model is.
        var ids: [TokenID]? = tokens == nil ? nil : []
        for try await part in connection.client().generate(
            // A session has its model; only one that is asked for here is compared with it.
            prompt, model: session == nil ? model.model : model.name ?? "", options: options)
        {
            drawn = part.started?.seed ?? drawn
            if json {
                try write(part)
            } else if !part.text.isEmpty {
                Terminal.printModelText(part.text)
                endsInNewline = part.text.utf8.last == 0x0A
                ids = nil
            } else {
                ids? += part.tokens
            }
            guard let finished = part.finished else { continue }
            if let ids, !ids.isEmpty {
                Terminal.print(ids.map(String.init).joined(separator: " "))
            }
            try end(finished, drawn, endsInNewline)
        }
    }

    private func question() throws -> String {
        if let prompt { return prompt }
        if let text, text != "-" { return text }
        return try Input(file ?? "-").text(limit: Client.textLimit)
    }

    private func end(
        _ finished: GenerateEvent.Finished, _ seed: UInt64?, _ endsInNewline: Bool
    ) throws {
        if !json, !endsInNewline { Terminal.print("") }
        let (usage, timings) = (finished.usage, finished.timings)
        if finished.reason == .length, verbose || !json && Terminal.errorIsTerminal {
            Terminal.note(
                "(the answer was cut at \(usage.completionTokens) tokens; -n sets the limit)")
        }
        if verbose {
            func rate(_ count: Int, _ time: Duration) -> String {
                time == .zero ? "-" : "\(Int((Double(count) / (time / .seconds(1))).rounded()))"
            }
            Terminal.note(
                "\(finished.reason): \(usage.promptTokens) prompt tokens, \(rate(usage.promptTokens, timings.prefill)) a second; "
                    + "\(usage.completionTokens) tokens, \(rate(usage.completionTokens, timings.decode)) a second; "
                    + "waited \(Int(timings.queue / .milliseconds(1))) ms; seed \(seed.map { "\($0)" } ?? "unknown")"
            )
        }
        switch finished.reason {
        case .deadline: throw Failure("the time was up before the answer was complete", .temporary)
        case .cancelled: throw Failure("the request was cancelled", .interrupted)
        default: break
        }
    }

    private func write(_ part: GenerateEvent) throws {
        if let started = part.started {
            Terminal.print(try Terminal.json(["started": StartedRow(started)]))
        }
        if !part.text.isEmpty || !part.tokens.isEmpty || !part.promptLogprobs.isEmpty {
            Terminal.print(try Terminal.json(PieceRow(part)))
        }
        if let finished = part.finished {
            Terminal.print(try Terminal.json(["finished": FinishedRow(finished)]))
        }
    }
}

/// How tokens are chosen; what is absent is left to the daemon.
struct SamplingArguments: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help: "0 takes the likeliest token; higher is more varied. Default: 0.7.")
    var temperature: Float?
    @Option(parsing: .unconditional, help: "Keep the k likeliest tokens. Default: all.")
    var topK: UInt32?
    @Option(
        parsing: .unconditional,
        help: "Keep the likeliest tokens that make up this share. Default: 0.9.")
    var topP: Float?
    @Option(
        parsing: .unconditional,
        help: "Keep tokens at least this fraction as likely as the likeliest. Default: 0.")
    var minP: Float?
    @Option(
        parsing: .unconditional,
        help: "Make tokens that have been there less likely: above 1. Default: 1.")
    var repetitionPenalty: Float?
    @Option(
        parsing: .unconditional,
        help: "Taken off the logit of tokens already in the answer. Default: 0.")
    var presencePenalty: Float?
    @Option(
        parsing: .unconditional,
        help: "Taken off once for each time a token is in the answer. Default: 0.")
    var frequencyPenalty: Float?
    @Option(
        parsing: .unconditionalSingleValue,
        help: "ID=VALUE, added to a token's logit; may be given more than once.")
    var logitBias: [Bias] = []
    @Option(
        parsing: .unconditional, help: "The same seed gives the same answer. Default: a random one."
    )
    var seed: UInt64?

    struct Bias: ExpressibleByArgument, Sendable {
        var token: UInt32
        var bias: Float

        init?(argument: String) {
            let parts = argument.split(separator: "=")
            guard parts.count == 2, let token = UInt32(parts[0]), let bias = Float(parts[1]) else {
                return nil
            }
            self.token = token
            self.bias = bias
        }
    }

    var options: GenerateOptions {
        var options = GenerateOptions(temperature: temperature, seed: seed)
        options.topK = topK.map { Int($0) }
        options.topP = topP
        options.minP = minP
        options.repetitionPenalty = repetitionPenalty
        options.presencePenalty = presencePenalty
        options.frequencyPenalty = frequencyPenalty
        for bias in logitBias { options.logitBias[bias.token] = bias.bias }
        return options
    }
}

// MARK: JSON

private struct StartedRow: Encodable {
    let requestId, model, modelDigest: String
    let seed: UInt64
    let promptTokens, queuePosition: Int

    init(_ started: GenerateEvent.Started) {
        (requestId, model) = (started.requestID ?? "", started.model)
        (modelDigest, seed) = (started.modelDigest, started.seed)
        (promptTokens, queuePosition) = (started.promptTokens, started.queuePosition)
    }
}

private struct PieceRow: Encodable {
    struct Logprob: Encodable {
        let token: TokenID
        /// `nil` of a prompt's first token, which nothing comes before.
        let logprob: Float?
        let text: String

        init(_ value: TokenLogprobs.Alternative) {
            (token, logprob) = (value.token, value.logprob.isNaN ? nil : value.logprob)
            text = String(decoding: value.bytes, as: UTF8.self)
        }
    }
    struct Logprobs: Encodable {
        let chosen: Logprob
        let top: [Logprob]

        init(_ value: TokenLogprobs) {
            (chosen, top) = (Logprob(value.chosen), value.top.map { Logprob($0) })
        }
    }
    let text: String
    let tokens: [TokenID]
    let logprobs, promptLogprobs: [Logprobs]?

    init(_ part: GenerateEvent) {
        text = part.text
        tokens = part.tokens
        func rows(_ values: [TokenLogprobs]) -> [Logprobs]? {
            values.isEmpty ? nil : values.map { Logprobs($0) }
        }
        (logprobs, promptLogprobs) = (rows(part.logprobs), rows(part.promptLogprobs))
    }
}

private struct FinishedRow: Encodable {
    let reason: String
    let promptTokens, completionTokens, cachedTokens: Int
    /// Of a session alone.
    let sessionTokens: Int?
    let queueMs, prefillMs, decodeMs: Double

    init(_ finished: GenerateEvent.Finished) {
        reason = finished.reason.rawValue
        promptTokens = finished.usage.promptTokens
        completionTokens = finished.usage.completionTokens
        cachedTokens = finished.usage.cachedTokens
        sessionTokens = finished.sessionTokens
        queueMs = finished.timings.queue / .milliseconds(1)
        prefillMs = finished.timings.prefill / .milliseconds(1)
        decodeMs = finished.timings.decode / .milliseconds(1)
    }
}
