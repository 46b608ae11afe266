// SPDX-License-Identifier: Apache-2.0

import Glibc
import MMFree

/// A chat under way: lines in, answers out, and the sessions behind them.
final class ChatLoop {
    private let client: Client
    private let style: ChatStyle
    private let model: String
    /// Of each session what it has read, under a chat template.
    private var conversations: [String: Conversation] = [:]
    private var options: GenerateOptions
    private var history: ChatHistory
    /// Whether the session has no turn yet.
    private var isEmpty: Bool
    /// A session of the user's, which stays.
    private let kept: String?
    private let lines = ChatLines()
    private var input = ChatInput()

    init(
        _ client: Client, _ session: Session, _ style: ChatStyle, system: String?,
        _ record: ConversationRecord?, _ options: GenerateOptions, keeps kept: String?
    ) {
        self.client = client
        self.style = style
        model = session.model
        self.options = options
        self.kept = kept
        history = ChatHistory(session.id)
        switch style {
        case .turns(let template): self.options.stop += template.stops
        case .conversation(let style):
            conversations[session.id] =
                record.map { Conversation(style, $0) } ?? Conversation(style, system: system)
        }
        isEmpty = session.tokens == 0
        if lines.isInteractive {
            Terminal.note("\(session.model), \(session.tokens) tokens; /help shows what there is")
        }
    }

    func run() async throws {
        while true {
            switch try lines.next(prompt: input.isOpen ? ". " : "> ") {
            case .ended:
                if case .turn(let text) = input.end() { try await turn(text) }
                return
            case .interrupted: input.drop()
            case .line(let line):
                switch input.take(line) {
                case .more, .nothing: break
                case .turn(let text): try await turn(text)
                case .command(.quit): return
                case .command(let command):
                    do { try await perform(command) } catch { try survive(error) }
                }
            }
        }
    }

    /// Drops all sessions that the chat has made, but the one that a session of the user's has become.
    func end() async {
        if kept != nil, history.current != kept {
            Terminal.note("the chat ended in session \(history.current), which stays")
        }
        for session in Set(history.all) where kept == nil || session != history.current {
            await drop([session])
        }
    }

    // MARK: A turn

    private func turn(_ text: String) async throws {
        do {
            let copy = try await client.forkSession(history.current, name: "chat, before a turn")
            conversations[copy.id] = conversations[history.current]
            await drop(history.beginTurn(copy: copy.id))
            do { try await answer(text) } catch {
                // Part of the turn may be in the session: go back to what was before it.
                if history.undo() { await drop(history.forget()) }
                throw error
            }
            await note()
        } catch { try survive(error) }
    }

    /// What the session is given for a turn.
    private func prompt(_ text: String) async throws -> Prompt {
        guard case .turns(let template) = style else { return .tokens(try await tokens(text)) }
        return .text(template.text(text, isFirst: isEmpty))
    }

    /// The same under a chat template.
    private func tokens(_ text: String) async throws -> [TokenID] {
        guard var conversation = conversations[history.current] else {
            throw Failure(
                "this session's messages are not known, so the chat template cannot go on with it; /undo goes back",
                .usage)
        }
        let tokeniser = ConversationText(client: client, model: model)
        try await tokeniser.check(text)
        let before = conversation.read
        let turn = try conversation.say(text)
        let tokens: [TokenID]
        switch turn {
        case .append(let addition):
            tokens = try await tokeniser.tokens(of: addition, after: before)
        case .restart(let whole, let why):
            // They were read as they were drawn, and would be read as text now.
            for answer in conversation.answers {
                try await tokeniser.check(answer, "an answer of the model")
            }
            Terminal.note("\(why): the conversation is read again from its beginning")
            let anew = try await client.createSession(model: model, name: "chat", blank: true)
            await drop(history.restart(in: anew.id))
            tokens = try await tokeniser.tokens(of: whole, after: "")
        }
        conversations[history.current] = conversation
        return tokens
    }

    // MARK: The conversation, for later

    /// What a session has read, written down beside the state's file, or by a chat with a session that stayed.
    static func record(of session: Session, savedAs path: String?) throws -> ConversationRecord {
        if let path, path != "-", access(path + messages, F_OK) == 0 {
            let record = try ConversationRecord(
                Input(path + messages).bytes(limit: ConversationRecord.sizeLimit), path + messages)
            guard record.belongs(to: session) else {
                throw Failure("\(path + messages) is the conversation of another state", .data)
            }
            return record
        }
        if let record = try ConversationStore()?.record(of: session) { return record }
        throw Failure(
            "the messages of the session's \(session.tokens) tokens are not known, so a chat template cannot go on with it: no chat here has had it last\(path.map { ", and there is no \($0 + messages)" } ?? ""); give --plain, or --template with sections",
            .usage)
    }

    private static let messages = ".messages"

    /// Writes down what the user's session has read.
    private func note() async {
        guard kept != nil, let conversation = conversations[history.current] else { return }
        do {
            let session = try await client.session(history.current)
            try ConversationStore()?.keep(
                ConversationRecord(conversation, session), of: session)
        } catch {
            Terminal.complain(
                "the conversation is not kept, so a later chat cannot go on with it under a chat template: \(Failure(error)?.message ?? "\(error)")"
            )
        }
    }

    private func answer(_ text: String) async throws {
        let prompt = try await prompt(text)
        var options = options
        options.session = history.current
        var answered = ""
        defer { conversations[history.current]?.hear(answered) }
        let watch = lines.isInteractive ? InterruptWatch() : nil
        defer { watch?.end() }
        var endsInNewline = true
        for try await part in client.generate(prompt, options: options) {
            if let started = part.started, let id = started.requestID {
                watch?.begin { [client] in _ = try? await client.cancel(id) }
            }
            if !part.text.isEmpty {
                Terminal.printModelText(part.text)
                answered += part.text
                endsInNewline = part.text.utf8.last == 0x0A
            }
            guard let finished = part.finished else { continue }
            if !endsInNewline { Terminal.print("") }
            if let tokens = finished.sessionTokens { isEmpty = tokens == 0 }
            if lines.isInteractive, finished.reason != .stop {
                let why =
                    switch finished.reason {
                    case .length: "cut at its limit"
                    case .cancelled: "stopped"
                    default: "\(finished.reason)"
                    }
                Terminal.note(
                    "(\(why); \(finished.sessionTokens.map { "\($0)" } ?? "?") tokens so far)")
            }
        }
    }

    private func drop(_ sessions: [String]) async {
        for session in sessions where session != kept {
            conversations[session] = nil
            try? await client.dropSession(session, timeout: .seconds(5))
        }
    }

    /// Says what went wrong; a pipe ends there, a terminal does not.
    private func survive(_ error: any Error) throws {
        guard lines.isInteractive else { throw error }
        Terminal.complain(Failure(error)?.message ?? "\(error)")
    }

    // MARK: Commands

    private func perform(_ command: ChatCommand) async throws {
        switch command {
        case .help: Terminal.note(ChatCommand.summary)
        case .wrong(let why): throw Failure(why, .usage)
        case .quit: break
        case .seed(let seed): options.seed = seed
        case .temperature(let value): options.temperature = value
        case .tokens(let count): options.maxTokens = count
        case .save(let path):
            _ = try Output(path, replacing: false, inputs: [])
            var messages: (place: Output, bytes: [UInt8])?
            if let conversation = conversations[history.current], path != "-" {
                let record = ConversationRecord(
                    conversation, try await client.session(history.current))
                let place = try Output(path + Self.messages, replacing: false, inputs: [])
                messages = (place, record.written())
            }
            let count = try await StateFile.save(
                history.current, to: path, replacing: false, client)
            if let messages { try messages.place.write(messages.bytes) }
            Terminal.note("\(path): \(Terminal.bytes(count))")
        case .restore(let path):
            let restored = try await StateFile.restore(path, name: "chat", client)
            do { try resume(restored, path) } catch {
                await drop([restored.id])
                throw error
            }
            await drop(history.replace(with: restored.id))
            try await tell("restored")
        case .fork(let name):
            let copy = try await client.forkSession(history.current, name: name)
            Terminal.note(
                "session \(copy.id), \(copy.tokens) tokens: mmfreectl chat --session \(copy.id)")
            if let conversation = conversations[history.current], copy.tokens > 0 {
                try ConversationStore()?.keep(ConversationRecord(conversation, copy), of: copy)
            }
        case .undo:
            guard history.undo() else { throw Failure("there is no turn to take back", .usage) }
            try await tell("back")
        case .redo:
            guard history.redo() else { throw Failure("no turn was taken back", .usage) }
            try await tell("again")
        }
    }

    /// - Parameter path: where the session's state was read.
    private func resume(_ session: Session, _ path: String) throws {
        guard case .conversation(let style) = style else { return }
        conversations[session.id] =
            session.tokens == 0
            ? Conversation(style)
            : Conversation(style, try Self.record(of: session, savedAs: path))
    }

    private func tell(_ what: String) async throws {
        let info = try await client.session(history.current)
        isEmpty = info.tokens == 0
        if lines.isInteractive { Terminal.note("(\(what): \(info.tokens) tokens)") }
    }
}
