// SPDX-License-Identifier: Apache-2.0

import CLinux
import MMFree
import ModelStore

extension Gateway {
    /// `POST /api/embed`, and its predecessor `/api/embeddings`, which has one prompt and one vector.
    func ollamaEmbed(_ call: IncomingCall, _ reply: Reply, isOld: Bool) async throws {
        let began = cl_monotonic_nanoseconds()
        var fields = try Fields(call.body)
        let model = try fields.ollamaModel()
        let texts = try fields.strings(isOld ? "prompt" : "input")
        let name = isOld ? "prompt" : "input"
        if texts.isEmpty || (isOld && texts.count != 1) {
            throw APIError.invalid(name, isOld ? "give a text" : "give a text or a list of texts")
        }
        if texts.count > EmbeddingsRequest.mostInputs {
            throw APIError.invalid(
                name, "\(texts.count) texts; at most \(EmbeddingsRequest.mostInputs) are allowed")
        }
        // Nothing is too long to be read.
        fields.ignore("truncate", "keep_alive")
        let dimensions = try fields.integer("dimensions", 1...Int(Int32.max))
        // They change how an answer is chosen; there is none here.
        _ = try fields.ollamaOptions()
        try fields.finish()
        let vectors = try await call.client.embed(
            texts.map { .text($0) }, model: model, normalized: !isOld)
        if let dimensions, let vector = vectors.first, vector.dimensions != dimensions {
            throw APIError.invalid(
                "dimensions", "\(dimensions); vectors of this model have \(vector.dimensions)")
        }
        func json(_ vector: Embedding) -> JSON { .array(vector.values.map { .float($0) }) }
        if isOld { return try await reply.send(.object([.init("embedding", json(vectors[0]))])) }
        let total = cl_monotonic_nanoseconds() &- began
        try await reply.send(
            .object([
                .init("model", .string(model)),
                .init("embeddings", .array(vectors.map(json))),
                .init("total_duration", .integer(Int(clamping: total))),
                .init("load_duration", .integer(0)),
                .init(
                    "prompt_eval_count", .integer(vectors.reduce(0) { $0 + $1.promptTokens })),
            ]))
    }
}
