// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import MMFree

struct Chat: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Talk with a model: a session in the terminal, or line by line in a pipe.",
        discussion: """
            What is typed is put before the model as it is, or by a template (--template, or NAME.chat beside the model).
            Ctrl-C stops an answer; /help shows what can be done besides talking.
            """)

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection
    @OptionGroup(title: "Sampling") var sampling: SamplingArguments
    @Option(
        name: [.customShort("n"), .long], parsing: .unconditional,
        help: "Tokens of an answer at most.")
    var maxTokens: UInt32?
    @Option(help: "How turns are put before the model.", completion: .file()) var template: String?
    @Flag(help: "Put turns before the model as they are, whatever lies beside it.")
    var plain = false
    @Option(help: "Go on from a state that /save has written.", completion: .file())
    var restore: String?
    @Option(help: "Go on in this session, which stays when the chat ends.") var session: String?

    func validate() throws {
        if template != nil, plain { throw ValidationError("give --template or --plain") }
        if restore != nil, session != nil { throw ValidationError("give --restore or --session") }
    }

    func run() async throws {
        let client = connection.client()
        let info: Session
        if let session {
            // The chat's own copies; the session itself is the one that is written to.
            info = try await client.session(session)
        } else if let restore {
            info = try await client.restoreSession(
                try Input(restore).bytes(limit: ChatLoop.stateLimit), name: "chat",
                model: model.model)
        } else {
            info = try await client.createSession(model: model.model, name: "chat")
        }
        let models = try await client.models()
        var options = sampling.options
        options.maxTokens = maxTokens.map { Int($0) }
        let loop = ChatLoop(
            client, info, try chosenTemplate(models.first { $0.name == info.model }), options,
            keeps: session)
        let result: Result<Void, any Error>
        do { result = .success(try await loop.run()) } catch { result = .failure(error) }
        await loop.end()
        try result.get()
    }

    private func chosenTemplate(_ model: ModelInfo?) throws -> ChatTemplate {
        if plain { return .plain }
        if let template { return try ChatTemplate(Input(template).text(limit: 64 << 10)) }
        guard let path = model?.path, path.hasSuffix(".gguf") else { return .plain }
        let beside = path.dropLast(5) + ".chat"
        // A user may not see the daemon's directory.
        guard access(String(beside), R_OK) == 0 else { return .plain }
        do { return try ChatTemplate(Input(String(beside)).text(limit: 64 << 10)) } catch {
            throw Failure("\(beside): \(Failure(error)?.message ?? "\(error)")", .data)
        }
    }
}
