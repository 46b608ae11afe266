// SPDX-License-Identifier: Apache-2.0

import Engine
import Logging
import ModelStore
import RPC

/// mmfree.v1.Inference: calls in, requests to the decode loop.
struct InferenceService: Sendable {
    let configuration: ServingConfiguration
    let catalog: ModelCatalog
    let ledger: Ledger
    let metrics: ServingMetrics
    let loop: DecodeLoop
    let sessions: SessionStore
    let grammars = GrammarCache()
    nonisolated(unsafe) let kernels: Kernels.Table
    let logger: Logger
    private let refusals = LogLimit()

    private var checks: RequestChecks { RequestChecks(configuration: configuration) }

    func register(in services: inout Services) {
        let name = ServiceName.inference
        services.stream(name, "Generate") { (request: GenerateRequest, call, outbox) in
            let bytes = request.prompt?.byteCount ?? 0
            let body: @Sendable (Result<LoadedModel, CatalogError>) -> Void = { found in
                attempt(call, outbox.fail) { () throws(RPCError) in
                    try generate(request, try Self.model(found), call, outbox)
                }
            }
            guard !request.session.isEmpty else {
                return catalog.withModel(request.model, for: call, bytes: bytes, body)
            }
            let session = try sessions.find(request.session, for: call.peer)
            catalog.withModel(digest: session.digest, for: call, bytes: bytes, body)
        }
        services.stream(name, "Embed") { (request: EmbedRequest, call, outbox) in
            let bytes = request.input.reduce(0) { $0 + ($1.input?.byteCount ?? 0) }
            catalog.withModel(request.model, for: call, bytes: bytes) { found in
                attempt(call, outbox.fail) { () throws(RPCError) in
                    try embed(request, try Self.model(found), call, outbox)
                }
            }
        }
        services.stream(name, "Score") { (request: ScoreRequest, call, outbox) in
            let bytes = request.input?.byteCount ?? 0
            catalog.withModel(request.model, for: call, bytes: bytes) { found in
                attempt(call, outbox.fail) { () throws(RPCError) in
                    try score(request, try Self.model(found), call, outbox)
                }
            }
        }
        services.deferred(name, "Tokenize") { (request: TokenizeRequest, call, reply) in
            catalog.withModel(request.model, for: call, bytes: request.text.utf8.count) { found in
                reply(Result { try tokenize(request, try Self.model(found)) })
            }
        }
        services.deferred(name, "Detokenize") { (request: DetokenizeRequest, call, reply) in
            let bytes = request.tokens.count * 4
            catalog.withModel(request.model, for: call, bytes: bytes) { found in
                reply(Result { try detokenize(request, try Self.model(found)) })
            }
        }
        services.deferred(name, "ChatTemplate") { (request: ChatTemplateRequest, call, reply) in
            catalog.withModel(request.model, for: call, bytes: 0) { found in
                reply(
                    Result { try ChatTemplateChoice.answer(request, try Self.model(found)) })
            }
        }
        services.unary(name, "Cancel", isQuick: true) { request, call in
            try cancel(request, call)
        }
    }

    private static func model(
        _ found: Result<LoadedModel, CatalogError>
    ) throws(RPCError) -> LoadedModel {
        do { return try found.get() } catch { throw RPCError(error) }
    }

    /// Hands a refusal to the caller, and to the log what an administrator should see of it.
    private func attempt(
        _ call: Call, _ refuse: (RPCError) -> Void, _ body: () throws(RPCError) -> Void
    ) {
        do { try body() } catch {
            var level: Logger.Level =
                error.code == .resourceExhausted
                ? .notice : error.code == .dataLoss ? .error : .debug
            var others = ""
            if level != .debug {
                if let held = refusals.pass() {
                    others = held > 0 ? " (and \(held) other requests)" : ""
                } else {
                    level = .debug
                }
            }
            logger.log(
                level: level, "refused \(call.method): \(error)\(others)",
                metadata: [
                    "message-id": "\(Event.requestRefused)", "uid": "\(call.peer.uid)",
                    "pid": "\(call.peer.pid)", "code": "\(error.code.name)",
                ])
            metrics.refused(call, error)
            refuse(error)
        }
    }

    private static func newID() -> String {
        "r" + String(UInt64.random(in: .min ... .max) >> 4, radix: 36)
    }

    private func generate(
        _ request: GenerateRequest, _ loaded: LoadedModel, _ call: Call,
        _ outbox: Outbox<GenerateResponse>
    ) throws(RPCError) {
        let (name, model) = (loaded.name, loaded.model)
        try checks.hasHead(name, model)
        let options = try checks.sampling(request, vocabulary: model.shape.vocabulary)
        let maxTokens = try checks.maxTokens(request)
        let stops = try checks.stops(request, name, model)
        let constraint = try grammars.constraint(request.format, name, model)
        let tokens = try checks.tokens(
            request.prompt, "prompt", name, model, parseSpecial: request.parseSpecial,
            appends: !request.session.isEmpty)
        let echo = try echo(of: request, model)
        var scorer: PromptScorer?
        if request.echo, let top = options.logprobs {
            guard request.session.isEmpty else {
                throw .invalid(
                    "echo",
                    "a session's prompt has no log-probabilities; leave out echo or logprobs")
            }
            scorer = PromptScorer(tokens, from: 1, top: top, kernels: kernels)
        }
        let session = try turn(request, loaded, call, adding: tokens.count + maxTokens)
        let record = RequestRecord(
            id: Self.newID(), call: call, model: name, promptTokens: tokens.count)
        var started = Started()
        started.requestID = record.id
        started.model = name
        started.modelDigest = model.digest
        started.seed = options.seed
        started.promptTokens = UInt32(clamping: tokens.count)
        started.queuePosition = UInt32(clamping: try ledger.admit(record))
        if let prompt = request.prompt { logText(prompt, record) }
        let completion = Completion(
            record: record, outbox: outbox, tokenizer: model.tokenizer,
            step: DecodingStep(
                Sampler(options, prompt: tokens, kernels: kernels), tokenizer: model.tokenizer,
                stops: stops, constraint: constraint, maxTokens: maxTokens),
            started: started, echo: echo, scorer: scorer, keepsText: configuration.logsText)
        submit(record, call, model, [tokens], completion, outbox, session)
    }

    /// A request's place in the turns of its session, if it has one.
    private func turn(
        _ request: GenerateRequest, _ loaded: LoadedModel, _ call: Call, adding tokens: Int
    ) throws(RPCError) -> SessionTurn? {
        guard !request.session.isEmpty else { return nil }
        guard request.model.isEmpty || request.model == loaded.name else {
            throw .invalid(
                "model",
                "session '\(request.session)' is of model '\(loaded.name)', not '\(request.model)'")
        }
        var opening: UInt32?
        if case .text = request.prompt, let tokenizer = loaded.model.tokenizer, tokenizer.addsBOS {
            opening = tokenizer.bos
        }
        return try sessions.beginTurn(
            request.session, opening: opening, refusesBusy: request.refuseIfBusy,
            proof: loaded.proof, growth: loaded.model.memory.pageBytes(tokens),
            for: call.peer)
    }

    /// Writes what a request is about to the log, where the administrator wants that.
    private func logText(_ prompt: Prompt, _ record: RequestRecord) {
        guard configuration.logsText else { return }
        logger.info(
            "prompt of \(record.id): \(Self.excerpt(prompt))", metadata: ["request": "\(record.id)"]
        )
    }

    /// A prompt in a log record: its text, which the log cuts to what a record holds, or at most 256 token ids.
    static func excerpt(_ prompt: Prompt) -> String {
        switch prompt {
        case .text(let text): return text
        case .tokens(let ids):
            let shown = ids.prefix(256).map(String.init).joined(separator: ",")
            return "tokens \(shown)" + (ids.count > 256 ? "… (\(ids.count) tokens)" : "")
        }
    }

    /// The prompt's text, if it is to stand before the answer.
    private func echo(of request: GenerateRequest, _ model: Model) throws(RPCError) -> String? {
        guard request.echo else { return nil }
        let echo: String? =
            switch request.prompt {
            case .text(let text): text.utf8.count <= AnswerSize.limit ? text : nil
            case .tokens(let ids):
                if let tokenizer = model.tokenizer {
                    AnswerSize.text(of: ids, tokenizer, skipSpecial: true)
                } else {
                    ""
                }
            case nil: ""
            }
        guard let echo else {
            throw .invalid(
                "echo",
                "the prompt's text takes more than \(AnswerSize.limit) bytes, a frame holds \(FrameHeader.dataLimit)"
            )
        }
        return echo
    }

    private func embed(
        _ request: EmbedRequest, _ loaded: LoadedModel, _ call: Call,
        _ outbox: Outbox<EmbedResponse>
    ) throws(RPCError) {
        let (name, model) = (loaded.name, loaded.model)
        guard !request.input.isEmpty, request.input.count <= configuration.maxEmbedInputs else {
            throw .invalid(
                "input",
                "\(request.input.count) inputs; 1 to \(configuration.maxEmbedInputs) are allowed")
        }
        var inputs: [[UInt32]] = []
        var total = 0
        for (index, input) in request.input.enumerated() {
            let tokens = try checks.embedded(input.input, "input[\(index)]", name, model)
            let bytes = tokens.count * model.shape.hidden * 4
            guard request.pooling != .none || bytes < FrameHeader.dataLimit - 4096 else {
                throw .invalid(
                    "input[\(index)]",
                    "\(tokens.count) vectors take \(bytes) bytes, a frame holds \(FrameHeader.dataLimit): send shorter inputs"
                )
            }
            inputs.append(tokens)
            total += (request.pooling == .none ? tokens.count : 1) * model.shape.hidden * 4 + 64
        }
        guard outbox.isStreamed || total < FrameHeader.dataLimit - 4096 else {
            throw RPCError(
                .resourceExhausted,
                "the vectors take \(total) bytes, a frame holds \(FrameHeader.dataLimit): ask for them as a stream",
                reason: "ANSWER_TOO_LARGE")
        }
        let record = RequestRecord(
            id: Self.newID(), call: call, model: name,
            promptTokens: inputs.reduce(0) { $0 + $1.count })
        _ = try ledger.admit(record)
        for input in request.input {
            if let input = input.input { logText(input, record) }
        }
        let job = EmbeddingJob(
            record: record, outbox: outbox, digest: model.digest, pooling: request.pooling,
            normalizes: request.normalize, files: model.shape.embedding)
        submit(record, call, model, inputs, job, outbox)
    }

    private func score(
        _ request: ScoreRequest, _ loaded: LoadedModel, _ call: Call,
        _ outbox: Outbox<ScoreResponse>
    ) throws(RPCError) {
        let (name, model) = (loaded.name, loaded.model)
        try checks.hasHead(name, model)
        let tokens = try checks.scored(request, name, model)
        let from = max(1, Int(request.from))
        guard from < tokens.count else {
            throw .invalid(
                "from",
                "\(from), of \(tokens.count) tokens; the first has no predecessor, so 1 to \(tokens.count - 1) can be scored"
            )
        }
        guard request.topK <= UInt32(SamplingOptions.logprobsLimit) else {
            throw .invalid(
                "top_k", "\(request.topK); allowed: 0 to \(SamplingOptions.logprobsLimit)")
        }
        let record = RequestRecord(
            id: Self.newID(), call: call, model: name, promptTokens: tokens.count)
        _ = try ledger.admit(record)
        if let input = request.input { logText(input, record) }
        let job = ScoreJob(
            record: record, outbox: outbox, digest: model.digest, tokenizer: model.tokenizer,
            scorer: PromptScorer(
                tokens, from: from, top: Int(request.topK), kernels: kernels))
        submit(record, call, model, [Array(tokens.dropLast())], job, outbox)
    }

    /// Gives a request that was admitted to the decode thread, which from then on has it alone.
    private func submit<Answer>(
        _ record: RequestRecord, _ call: Call, _ model: Model, _ inputs: [[UInt32]],
        _ consumer: any Consumer, _ outbox: Outbox<Answer>, _ session: SessionTurn? = nil
    ) {
        let (loop, id) = (loop, record.id)
        outbox.onDrain { loop.post(.drained(id)) }
        loop.post(
            .submit(
                Request(
                    record: record, deadline: call.deadline, model: ObjectIdentifier(model),
                    digest: model.digest, memory: model.memory, inputs: inputs,
                    consumer: consumer, session: session),
                model))
        call.onCancel { loop.post(.gone(id)) }
    }

    private func tokenize(
        _ request: TokenizeRequest, _ loaded: LoadedModel
    ) throws(RPCError) -> TokenizeResponse {
        let (name, model) = (loaded.name, loaded.model)
        let tokenizer = try checks.tokenizer(name, model)
        var response = TokenizeResponse()
        response.tokens = RequestChecks.encode(
            request.text, tokenizer, addBOS: request.asPrompt ? tokenizer.addsBOS : request.addBOS,
            parseSpecial: request.parseSpecial)
        guard AnswerSize.tokenized(response.tokens, tokenizer) <= AnswerSize.limit else {
            throw AnswerSize.tooLarge("send a shorter text")
        }
        response.pieces = response.tokens.map { tokenizer.piece($0) }
        return response
    }

    private func detokenize(
        _ request: DetokenizeRequest, _ loaded: LoadedModel
    ) throws(RPCError) -> DetokenizeResponse {
        let (name, model) = (loaded.name, loaded.model)
        let tokenizer = try checks.tokenizer(name, model)
        if !request.tokens.isEmpty {
            _ = try checks.tokens(
                .tokens(request.tokens), "tokens", name, model, parseSpecial: false)
        }
        var response = DetokenizeResponse()
        guard
            let text = AnswerSize.text(
                of: request.tokens, tokenizer, skipSpecial: !request.keepSpecial)
        else { throw AnswerSize.tooLarge("send fewer tokens") }
        response.text = text
        return response
    }

    private func cancel(_ request: CancelRequest, _ call: Call) throws(RPCError) -> CancelResponse {
        guard let record = ledger.find(request.requestID) else {
            throw RPCError(
                .notFound, "no request '\(request.requestID)' is open", reason: "NO_SUCH_REQUEST")
        }
        guard Permissions.mayCancel(call.peer, ownedBy: record.peer) else {
            throw RPCError(
                .permissionDenied,
                "request '\(request.requestID)' is another user's; you are user \(call.peer.uid)",
                reason: "NOT_YOURS")
        }
        loop.post(.cancel(record.id))
        var response = CancelResponse()
        response.cancelled = true
        return response
    }
}

extension Prompt {
    /// About how many bytes of memory it takes.
    fileprivate var byteCount: Int {
        switch self {
        case .text(let text): text.utf8.count
        case .tokens(let ids): ids.count * 4
        }
    }
}
