// SPDX-License-Identifier: Apache-2.0
//
// HTTP on one side, a daemon's protocol on the other: requests are translated, checked for what would change their answers and is not
// understood, and passed on. The gateway keeps nothing between requests and computes nothing.

import Glibc
import MMFree
import ModelStore

/// What an administrator may set.
package struct GatewayConfiguration: Sendable {
    /// The daemon's socket; `nil` looks in the usual places.
    package var daemon: String?
    package var hosts = HostList()
    package var origins = OriginList()
    /// `nil` lets everybody in who can reach a socket.
    package var keys: KeyList?
    /// The most bytes of one request's body, and of all at once.
    package var bodyBytes = 4 << 20
    package var allBodyBytes = 32 << 20
    /// How long an answer may take; `nil` leaves it to the daemon.
    package var timeout: Duration?
    /// Take token numbers for embeddings, which clients made for OpenAI's models send in numbers of another vocabulary.
    package var takesEmbeddingTokens = false
    /// Choices that one request may ask for, of all its prompts, and how many of them are asked for at once.
    package var mostChoices = 128
    package var choicesAtOnce = 8
    /// Whether each caller's requests are charged to its own account in the daemon, or all to the gateway's.
    package var speaksForCallers = true

    package init() {}
}

/// Answers requests with the help of a daemon.
package final class Gateway: Sendable {
    let configuration: GatewayConfiguration
    let bodies: BodyBudget
    let clients: Clients
    let workers = Workers()

    package init(_ configuration: GatewayConfiguration) {
        self.configuration = configuration
        bodies = BodyBudget(configuration.allBodyBytes)
        clients = Clients { user in
            Client(Client.Options(timeout: configuration.timeout), onBehalfOf: user) {
                () throws(MMFreeError) in
                try SocketChoice(given: configuration.daemon, name: "daemon")
            }
        }
    }

    /// For whom the gateway speaks to the daemon; `nil` where it speaks for its own user.
    func account(_ caller: Caller) throws(APIError) -> UInt32? {
        guard configuration.speaksForCallers else { return nil }
        guard let uid = caller.uid else {
            throw APIError(
                403, "caller_unknown",
                "the kernel does not tell whose connection this is, so that nobody can be charged")
        }
        return uid == geteuid() ? nil : uid
    }

    func answer(_ route: Route, _ call: IncomingCall, _ reply: Reply) async throws {
        switch route {
        case .root:
            try await reply.send(
                bytes: Array("mmfree-gateway is running\n".utf8), type: "text/plain")
        case .openAPI: try await reply.send(bytes: PackageResources.openapi_json)
        case .health: try await health(call, reply)
        case .models: try await models(call, reply)
        case .model(let name): try await model(name, call, reply)
        case .completions: try await completions(call, reply)
        case .chatCompletions: try await chatCompletions(call, reply)
        case .ollamaChat: try await ollamaChat(call, reply)
        case .tokenizerInfo: try await tokenizerInfo(call, reply)
        case .embeddings: try await embeddings(call, reply)
        case .tokenize: try await tokenize(call, reply)
        case .detokenize: try await detokenize(call, reply)
        case .metrics: try await metrics(call, reply)
        case .ollamaVersion: try await ollamaVersion(call, reply)
        case .ollamaTags: try await ollamaTags(call, reply)
        case .ollamaShow: try await ollamaShow(call, reply)
        case .ollamaGenerate: try await ollamaGenerate(call, reply)
        case .ollamaEmbed: try await ollamaEmbed(call, reply, isOld: false)
        case .ollamaEmbeddings: try await ollamaEmbed(call, reply, isOld: true)
        }
    }

    /// As llama-server's: 200 when requests would be served.
    private func health(_ call: IncomingCall, _ reply: Reply) async throws {
        let isServing = try await call.client.isServing()
        guard isServing else {
            throw APIError(
                503, "unavailable", "the daemon is not serving", retryAfter: .seconds(1))
        }
        try await reply.send(.object([.init("status", .string("ok"))]))
    }
}
