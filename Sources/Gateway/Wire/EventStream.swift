// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// Server-sent events, one JSON document each, as OpenAI's SDKs read them.
struct EventStream {
    let reply: Reply

    func begin() async throws { try await reply.begin("text/event-stream; charset=utf-8") }

    func send(_ json: JSON) async throws { try await send { json.writeCompactly(to: &$0) } }

    func send(_ frame: PartFrame, _ choice: JSON) async throws {
        try await send { frame.write(choice, to: &$0) }
    }

    private func send(_ write: (inout [UInt8]) -> Void) async throws {
        var event = Array("data: ".utf8)
        event.reserveCapacity(512)
        write(&event)
        event += "\n\n".utf8
        try await reply.write(event)
    }

    /// - Parameter error: what cut the answer short; then there is no [DONE].
    func end(_ error: (any Error)? = nil) async throws {
        if let error {
            try await send(APIError(any: error).json(.openAI))
        } else {
            try await reply.write(Array("data: [DONE]\n\n".utf8))
        }
        try await reply.finish()
    }
}
