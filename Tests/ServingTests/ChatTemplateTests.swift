// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC
import SystemPackage
import TestSupport
import Testing

@testable import Serving

@Suite("Chat templates", .fewAtOnce, .bounded)
struct ChatTemplateTests {
    private func ask(
        _ daemon: Daemon, _ name: String = ""
    ) async throws -> ChatTemplateResponse {
        let client = try await daemon.connect()
        let result: Result<ChatTemplateResponse, any Error>
        do {
            result = .success(
                try await client.unary(
                    ServiceName.inference, "ChatTemplate", ChatTemplateRequest(name: name)))
        } catch { result = .failure(error) }
        await client.close()
        return try result.get()
    }

    @Test("a model without one is NOT_FOUND, and told what supplies one")
    func missing() async throws {
        try await withDaemon { daemon in
            let error = try await refusal { _ = try await ask(daemon) }
            #expect(error?.code == .notFound)
            #expect(error?.reason == "NO_CHAT_TEMPLATE")
            let path = daemon.directory.appending("tiny.jinja").string
            #expect(
                error?.message
                    == "model 'tiny' has no chat template; the file \(path) supplies one, or packing a checkpoint that has one in tokenizer_config.json or chat_template.jinja"
            )
        }
    }

    @Test("NAME.jinja beside the model is the default template, as soon as it is there")
    func beside() async throws {
        try await withDaemon { daemon in
            let path = daemon.directory.appending("tiny.jinja")
            try write(Array("{{ 'ä' }}\n".utf8), to: path)
            let template = try await ask(daemon)
            #expect(template.template == "{{ 'ä' }}\n")
            #expect(template.fromSetting)
            #expect(template.model == "tiny")
            #expect(template.modelDigest == (try daemon.model("tiny").digest))
            #expect(template.bosToken == "<s>")
            #expect(template.eosToken == "</s>")
            let error = try await refusal { _ = try await ask(daemon, "tool_use") }
            #expect(error?.message == "model 'tiny' has no chat template 'tool_use'")
        }
    }

    @Test(
        "a file that is no text, or too large, is refused by name",
        arguments: [
            ([0xff], "it is not UTF-8"),
            (
                [UInt8](repeating: 0x61, count: 1 << 20 | 1),
                "it is 1048577 bytes long; at most 1048576 are allowed"
            ),
        ])
    func refused(_ bytes: [UInt8], _ why: String) async throws {
        try await withDaemon { daemon in
            let path = daemon.directory.appending("tiny.jinja")
            try write(bytes, to: path)
            let error = try await refusal { _ = try await ask(daemon) }
            #expect(error?.reason == "CHAT_TEMPLATE_REFUSED")
            #expect(error?.message.contains(why) == true, "\(error?.message ?? "")")
        }
    }
}
