// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import RPC

struct Generate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Continue a text.",
        discussion: """
            The answer is written as it comes. The prompt is the argument, or standard input.
            With --json each line is an object: {"started":…}, then {"text":…,"tokens":[…]}, then {"finished":…}.
            """)

    @Argument(help: "The text to continue; standard input if absent or \"-\".")
    var prompt: String?

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection
    @OptionGroup(title: "Sampling") var sampling: SamplingArguments

    @Option(name: [.customShort("n"), .long], help: "Tokens at most. Default: the daemon's.")
    var maxTokens: UInt32 = 0

    @Option(
        help:
            "Token ids instead of text: 1,415,310. A model without tokenizer answers in ids, at the end."
    )
    var tokens: TokenList?

    @Option(parsing: .singleValue, help: "End before this text; may be given more than once.")
    var stop: [String] = []

    @Option(
        help: "Report log-probabilities, and those of this many likeliest tokens. Needs --json.")
    var logprobs: UInt32?

    @Flag(help: "Write the prompt before the answer.")
    var echo = false

    @Flag(help: "Take \"<s>\" and the like in the prompt for the tokens they name.")
    var parseSpecial = false

    @Flag(help: "One JSON object a line.")
    var json = false

    @Flag(name: [.short, .long], help: "Say on standard error how fast it went.")
    var verbose = false

    func validate() throws {
        if tokens != nil, prompt != nil {
            throw ValidationError("give a prompt or --tokens, not both")
        }
        if logprobs != nil, !json { throw ValidationError("--logprobs needs --json") }
    }

    func run() async throws {
        var request = GenerateRequest()
        request.model = model.model
        request.prompt = try tokens.map { .tokens($0.ids) } ?? .text(textArgument(prompt))
        request.maxTokens = maxTokens
        request.sampling = sampling.message
        request.stop = stop
        request.echo = echo
        request.parseSpecial = parseSpecial
        request.logprobs = logprobs
        var endsInNewline = true
        // A model without tokenizer answers in ids, and a piece without text does not tell which kind the model is.
        var ids: [UInt32]? = tokens == nil ? nil : []
        for try await part in try await connection.inference().generate(request) {
            if json {
                try write(part)
            } else if !part.text.isEmpty {
                Terminal.printModelText(part.text)
                endsInNewline = part.text.last == "\n"
                ids = nil
            } else {
                ids? += part.tokens
            }
            guard let finished = part.finished else { continue }
            if let ids, !ids.isEmpty {
                Terminal.print(ids.map(String.init).joined(separator: " "))
            }
            try end(finished, endsInNewline)
        }
    }

    private func end(_ finished: Finished, _ endsInNewline: Bool) throws {
        if !json, !endsInNewline { Terminal.print("") }
        if verbose, let usage = finished.usage, let timings = finished.timings {
            func rate(_ count: UInt32, _ nanoseconds: UInt64) -> String {
                nanoseconds == 0
                    ? "-" : "\(Int((Double(count) * 1e9 / Double(nanoseconds)).rounded()))"
            }
            Terminal.note(
                "\(finished.reason): \(usage.promptTokens) prompt tokens, \(rate(usage.promptTokens, timings.prefill)) a second; "
                    + "\(usage.completionTokens) tokens, \(rate(usage.completionTokens, timings.decode)) a second; "
                    + "waited \(timings.queue / 1_000_000) ms")
        }
        switch finished.reason {
        case .deadline: throw Failure("the time was up before the answer was complete", .temporary)
        case .cancelled: throw Failure("the request was cancelled", .interrupted)
        case .stop, .length, .unspecified, .unrecognized: break
        }
    }

    private func write(_ part: GenerateResponse) throws {
        if let started = part.started {
            Terminal.print(try Terminal.json(["started": StartedRow(started)]))
        }
        if !part.text.isEmpty || !part.tokens.isEmpty {
            Terminal.print(try Terminal.json(PieceRow(part)))
        }
        if let finished = part.finished {
            Terminal.print(try Terminal.json(["finished": FinishedRow(finished)]))
        }
    }
}

/// How tokens are chosen; what is absent is left to the daemon.
struct SamplingArguments: ParsableArguments {
    @Option(help: "0 takes the likeliest token; higher is more varied. Default: 0.7.")
    var temperature: Float?
    @Option(help: "Keep the k likeliest tokens. Default: all.")
    var topK: UInt32?
    @Option(help: "Keep the likeliest tokens that make up this share. Default: 0.9.")
    var topP: Float?
    @Option(help: "Keep tokens at least this fraction as likely as the likeliest. Default: 0.")
    var minP: Float?
    @Option(help: "Make tokens that have been there less likely: above 1. Default: 1.")
    var repetitionPenalty: Float?
    @Option(help: "Taken off the logit of tokens already in the answer. Default: 0.")
    var presencePenalty: Float?
    @Option(help: "Taken off once for each time a token is in the answer. Default: 0.")
    var frequencyPenalty: Float?
    @Option(
        parsing: .singleValue,
        help: "ID=VALUE, added to a token's logit; may be given more than once.")
    var logitBias: [Bias] = []
    @Option(help: "The same seed gives the same answer. Default: a random one.")
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

    var message: Sampling {
        var sampling = Sampling()
        sampling.temperature = temperature
        sampling.topK = topK
        sampling.topP = topP
        sampling.minP = minP
        sampling.repetitionPenalty = repetitionPenalty
        sampling.presencePenalty = presencePenalty
        sampling.frequencyPenalty = frequencyPenalty
        sampling.seed = seed
        sampling.logitBias = logitBias.map {
            var bias = LogitBias()
            (bias.token, bias.bias) = ($0.token, $0.bias)
            return bias
        }
        return sampling
    }
}

// MARK: JSON

private struct StartedRow: Encodable {
    let requestId, model, modelDigest: String
    let seed: UInt64
    let promptTokens, queuePosition: UInt32

    init(_ started: Started) {
        (requestId, model, modelDigest) = (started.requestID, started.model, started.modelDigest)
        (seed, promptTokens, queuePosition) = (
            started.seed, started.promptTokens, started.queuePosition
        )
    }
}

private struct PieceRow: Encodable {
    struct Logprob: Encodable {
        let token: UInt32
        let logprob: Float
        let text: String
    }
    struct Logprobs: Encodable {
        let chosen: Logprob?
        let top: [Logprob]
    }
    let text: String
    let tokens: [UInt32]
    let logprobs: [Logprobs]?

    init(_ part: GenerateResponse) {
        func row(_ value: TokenLogprob) -> Logprob {
            Logprob(
                token: value.token, logprob: value.logprob,
                text: String(decoding: value.text, as: UTF8.self))
        }
        text = part.text
        tokens = part.tokens
        logprobs =
            part.logprobs.isEmpty
            ? nil : part.logprobs.map { Logprobs(chosen: $0.chosen.map(row), top: $0.top.map(row)) }
    }
}

private struct FinishedRow: Encodable {
    let reason: String
    let promptTokens, completionTokens: UInt32
    let queueMs, prefillMs, decodeMs: Double

    init(_ finished: Finished) {
        reason = "\(finished.reason)"
        promptTokens = finished.usage?.promptTokens ?? 0
        completionTokens = finished.usage?.completionTokens ?? 0
        queueMs = Double(finished.timings?.queue ?? 0) / 1e6
        prefillMs = Double(finished.timings?.prefill ?? 0) / 1e6
        decodeMs = Double(finished.timings?.decode ?? 0) / 1e6
    }
}
