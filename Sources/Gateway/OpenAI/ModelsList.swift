// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore

extension Gateway {
    func models(_ call: IncomingCall, _ reply: Reply) async throws {
        let models = try await usableModels(call)
        try await reply.send(
            .object([
                .init("object", .string("list")), .init("data", .array(models.map(Self.json))),
            ]))
    }

    func model(_ name: String, _ call: IncomingCall, _ reply: Reply) async throws {
        let models = try await usableModels(call)
        guard let model = models.first(where: { $0.name == name }) else {
            let names = models.map(\.name).joined(separator: ", ")
            throw APIError(
                404, "model_not_found",
                "there is no model '\(printable(name))'; there are: \(names.isEmpty ? "none" : names)",
                param: "model")
        }
        try await reply.send(Self.json(model))
    }

    func usableModels(_ call: IncomingCall) async throws -> [ModelInfo] {
        try await call.client.models().filter { $0.state != .refused }
    }

    private static func json(_ model: ModelInfo) -> JSON {
        .object([
            .init("id", .string(model.name)), .init("object", .string("model")),
            // When it was made is not known; the member must be there.
            .init("created", .integer(0)), .init("owned_by", .string("mmfreed")),
        ])
    }
}
