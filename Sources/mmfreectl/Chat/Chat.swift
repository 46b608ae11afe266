// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Chat: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Talk with a model: a session in the terminal, or line by line in a pipe.",
        discussion: """
            What is typed is put before the model by the model's chat template, by another one (--template, or NAME.chat beside the
            model), or, where there is none, as it is.
            Ctrl-C stops an answer; /help shows what can be done besides talking.
            """)

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection
    @OptionGroup(title: "Sampling") var sampling: SamplingArguments
    @Option(
        name: [.customShort("n"), .long], parsing: .unconditional,
        help: "Tokens of an answer at most.")
    var maxTokens: UInt32?
    @Option(
        help: "How turns are put before the model: a chat template (Jinja), or sections.",
        completion: .file())
    var template: String?
    @Flag(help: "Put turns before the model as they are, whatever template it has.")
    var plain = false
    @Option(help: "What a chat template tells the model first.") var system: String?
    @Option(help: "Go on from a state that /save has written.", completion: .file())
    var restore: String?
    @Option(help: "Go on in this session, which stays when the chat ends.") var session: String?

    func validate() throws {
        if template != nil, plain { throw ValidationError("give --template or --plain") }
        if system != nil, plain { throw ValidationError("give --system or --plain") }
        if restore != nil, session != nil { throw ValidationError("give --restore or --session") }
    }

    func run() async throws {
        let client = connection.client()
        var info: Session
        if let session {
            // The chat's own copies; the session itself is the one that is written to.
            info = try await client.session(session)
        } else if let restore {
            info = try await StateFile.restore(restore, name: "chat", model: model.model, client)
        } else {
            info = try await client.createSession(model: model.model, name: "chat")
        }
        let models = try await client.models()
        let style = try await ChatStyle.chosen(
            file: template, isPlain: plain, models.first { $0.name == info.model }, client)
        var record: ConversationRecord?
        if case .conversation = style {
            if info.tokens > 0, session == nil, restore == nil {
                // The model's initial state.
                try await client.dropSession(info.id)
                info = try await client.createSession(
                    model: info.model, name: "chat", blank: true)
            }
            if info.tokens > 0 {
                record = try ChatLoop.record(of: info, savedAs: restore)
                guard system == nil else {
                    throw Failure("--system: the conversation has begun already", .usage)
                }
            }
            if let system {
                try await ConversationText(client: client, model: info.model).check(
                    system, "--system")
            }
        } else if system != nil {
            throw Failure("--system needs a chat template, and there is none", .usage)
        }
        var options = sampling.options
        options.maxTokens = maxTokens.map { Int($0) }
        let loop = ChatLoop(
            client, info, style, system: system, record, options, keeps: session)
        let result: Result<Void, any Error>
        do { result = .success(try await loop.run()) } catch { result = .failure(error) }
        await loop.end()
        try result.get()
    }
}
