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
        let models = try await usableModels(call)
        guard let model = models.first(where: { $0.name == name }) else {
            throw APIError(404, "model_not_found", "model '\(printable(name))' not found")
        }
        try await reply.send(
            .object([
                .init("modelfile", .string("")), .init("parameters", .string("")),
                .init("template", .string("")), .init("details", Self.details(model)),
                .init(
                    "model_info",
                    .object([
                        .init("general.architecture", .string("hgrnbit")),
                        .init("general.parameter_count", .integer(Self.parameters(model))),
                        .init("hgrnbit.block_count", .integer(model.layers)),
                        .init("hgrnbit.embedding_length", .integer(model.hidden)),
                        .init("hgrnbit.feed_forward_length", .integer(model.intermediate)),
                        .init("hgrnbit.vocab_size", .integer(model.vocabulary)),
                    ])),
                .init("capabilities", .array([.string("completion"), .string("embedding")])),
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
            .init("family", .string("hgrnbit")), .init("families", .array([.string("hgrnbit")])),
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
