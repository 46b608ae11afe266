// SPDX-License-Identifier: Apache-2.0

import CLinux
import MMFree
import ModelStore

extension Gateway {
    /// `POST /api/chat`.
    func ollamaChat(_ call: IncomingCall, _ reply: Reply) async throws {
        let began = cl_monotonic_nanoseconds()
        var fields = try Fields(call.body)
        let model = try fields.ollamaModel()
        let messages = try fields.messages()
        var options = try fields.ollamaOptions()
        let isStream = try fields.bool("stream") ?? true
        options.format = try fields.ollamaFormat()
        try fields.refuse("tools", "the models call none")
        try fields.refuse("think", "the models do not think aloud")
        try fields.finish()
        let prompt = try await prompt(messages, model, call)
        let answer = call.client.generate(.tokens(prompt), model: model, options: options)
        try await send(answer, model, isStream: isStream, began, reply) { text in
            [
                .init(
                    "message",
                    .object([
                        .init("role", .string("assistant")), .init("content", .string(text)),
                    ]))
            ]
        }
    }
}
