// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore

extension Gateway {
    func ollamaVersion(_ call: IncomingCall, _ reply: Reply) async throws {
        try await reply.send(.object([.init("version", .string(Version.string))]))
    }

    func ollamaTags(_ call: IncomingCall, _ reply: Reply) async throws {
        let models = try await usableModels(call)
        try await reply.send(
            .object([
                .init(
                    "models",
                    .array(
                        models.map { model in
                            .object([
                                .init("name", .string(model.name + ":latest")),
                                .init("model", .string(model.name + ":latest")),
                                // When it was made is not known; the member must be there.
                                .init(
                                    "modified_at", .string(timestamp(seconds: 0, nanoseconds: 0))),
                                .init("size", .integer(Int(clamping: model.fileBytes))),
                                .init("digest", .string(model.digest)),
                                .init("details", Self.details(model)),
                            ])
                        }))
            ]))
    }

    func ollamaShow(_ call: IncomingCall, _ reply: Reply) async throws {
        var fields = try Fields(call.body)
        let name = try fields.ollamaModel()
        fields.ignore("verbose")
        try fields.finish()
        func find() async throws -> ModelInfo {
            guard let model = try await usableModels(call).first(where: { $0.name == name }) else {
                throw APIError(404, "model_not_found", "model '\(printable(name))' not found")
            }
            return model
        }
        var model = try await find()
        if model.architecture.isEmpty {
            // Nobody has asked for it: any call opens its file, and what is known of it then.
            _ = try? await call.client.detokenize([], model: name)
            model = try await find()
        }
        let kind = model.architecture
        var facts: [JSON.Member] = [
            .init("general.architecture", .string(kind)),
            .init("general.parameter_count", .integer(Self.parameters(model))),
            .init("\(kind).block_count", .integer(model.layers)),
            .init("\(kind).embedding_length", .integer(model.hidden)),
            .init("\(kind).feed_forward_length", .integer(model.intermediate)),
            .init("\(kind).vocab_size", .integer(model.vocabulary)),
        ]
        if let context = model.context {
            facts.append(.init("\(kind).context_length", .integer(context)))
        }
        try await reply.send(
            .object([
                .init("modelfile", .string("")), .init("parameters", .string("")),
                .init("template", .string("")), .init("details", Self.details(model)),
                .init("model_info", .object(facts)),
                .init(
                    "capabilities",
                    .array(
                        (model.isEmbeddingModel ? ["embedding"] : ["completion", "embedding"])
                            .map { .string($0) })),
            ]))
    }

    private static func parameters(_ model: ModelInfo) -> Int {
        // The ternary matrices, and the embedding.
        Int(clamping: model.ternaryWeights) + model.vocabulary * model.hidden
    }

    private static func details(_ model: ModelInfo) -> JSON {
        let millions = parameters(model) / 1_000_000
        return .object([
            .init("parent_model", .string("")), .init("format", .string("gguf")),
            .init("family", .string(model.architecture)),
            .init("families", .array([.string(model.architecture)])),
            .init(
                "parameter_size",
                .string(
                    millions >= 1000
                        ? "\((millions + 50) / 100 * 100 / 1000).\((millions + 50) / 100 % 10)B"
                        : "\(millions)M")),
            .init("quantization_level", .string("ternary")),
        ])
    }
}
