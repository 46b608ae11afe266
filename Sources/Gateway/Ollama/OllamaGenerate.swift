// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import MMFree
import ModelStore

/// `POST /api/generate`, checked.
struct OllamaGenerateRequest {
    let model: String
    let prompt: String
    let options: GenerateOptions
    let isStream: Bool

    init(_ bytes: [UInt8]) throws(APIError) {
        var fields = try Fields(bytes)
        model = try fields.ollamaModel()
        prompt = try fields.string("prompt") ?? ""
        var options = try fields.ollamaOptions()
        options.format = try fields.ollamaFormat()
        self.options = options
        isStream = try fields.bool("stream") ?? true
        // A prompt is continued as it is, which is what raw asks for.
        fields.ignore("raw")
        try fields.refuse("suffix", "the models continue text; they do not fill gaps")
        try fields.refuse("images", "the models read text only")
        try fields.refuse(
            "system", "the model has no chat template to put it into; write it into prompt")
        try fields.refuse(
            "template", "the prompt is taken as it is; write it as the model is to see it")
        try fields.refuse("context", "put the earlier text into prompt")
        try fields.refuse("think", "the models do not think aloud")
        try fields.finish()
    }
}

extension Gateway {
    func ollamaGenerate(_ call: IncomingCall, _ reply: Reply) async throws {
        let began = cl_monotonic_nanoseconds()
        let request = try OllamaGenerateRequest(call.body)
        // Ollama: without a prompt the model is loaded and nothing else.
        guard !request.prompt.isEmpty else {
            let end = JSON.object([
                .init("model", .string(request.model)), .init("created_at", .string(Self.now)),
                .init("response", .string("")), .init("done", .bool(true)),
                .init("done_reason", .string("load")),
            ])
            let models = try await usableModels(call)
            guard models.contains(where: { $0.name == request.model || request.model.isEmpty })
            else {
                throw APIError(
                    404, "model_not_found", "model '\(printable(request.model))' not found")
            }
            return try await reply.send(end)
        }
        let answer = call.client.generate(
            .text(request.prompt), model: request.model, options: request.options)
        try await send(answer, request.model, isStream: request.isStream, began, reply) { text in
            [.init("response", .string(text))]
        }
    }

    /// An answer in Ollama's form.
    ///
    /// - Parameter content: the members that hold a text.
    func send(
        _ answer: Generation, _ model: String, isStream: Bool, _ began: UInt64, _ reply: Reply,
        _ content: (String) -> [JSON.Member]
    ) async throws {
        var name = model
        func json(_ text: String, _ rest: [JSON.Member]) -> JSON {
            .object(
                [.init("model", .string(name)), .init("created_at", .string(Self.now))]
                    + content(text) + rest)
        }
        guard isStream else {
            let whole = try await answer.collect()
            name = whole.started?.model ?? name
            guard let finished = whole.finished else { return }
            return try await reply.send(json(whole.text, try Self.end(finished, began)))
        }
        let lines = LineStream(reply: reply)
        do {
            for try await part in answer {
                if let started = part.started {
                    name = started.model
                    try await lines.begin()
                }
                if !part.text.isEmpty {
                    try await lines.send(json(part.text, [.init("done", .bool(false))]))
                }
                if let finished = part.finished {
                    try await lines.send(json("", try Self.end(finished, began)))
                }
            }
        } catch {
            guard reply.isBegun else { throw error }
            return try await lines.end(error)
        }
        try await lines.end()
    }

    private static func end(
        _ finished: GenerateEvent.Finished, _ began: UInt64
    ) throws(APIError) -> [JSON.Member] {
        func nanoseconds(_ duration: Duration) -> JSON { .integer(Int(duration / .nanoseconds(1))) }
        let total = cl_monotonic_nanoseconds() &- began
        return [
            .init("done", .bool(true)),
            .init("done_reason", .string(try finishReason(finished.reason))),
            .init("total_duration", .integer(Int(clamping: total))),
            .init("load_duration", nanoseconds(finished.timings.queue)),
            .init("prompt_eval_count", .integer(finished.usage.promptTokens)),
            .init("prompt_eval_duration", nanoseconds(finished.timings.prefill)),
            .init("eval_count", .integer(finished.usage.completionTokens)),
            .init("eval_duration", nanoseconds(finished.timings.decode)),
        ]
    }

    static var now: String {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return timestamp(seconds: time.tv_sec, nanoseconds: time.tv_nsec)
    }
}
