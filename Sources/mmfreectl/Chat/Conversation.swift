// SPDX-License-Identifier: Apache-2.0

import ChatTemplates

/// A conversation under a chat template: its messages, and the text that its session has read. A session only takes more, so the whole is
/// rendered for each turn, and what goes beyond that text is what is appended.
struct Conversation {
    enum Turn: Equatable {
        /// The rendering goes on where the session is.
        case append(String)
        /// It does not: a session that begins anew has to read the whole.
        case restart(String, why: String)
    }

    let style: ConversationStyle
    private(set) var messages: [Message] = []
    /// What the session has read, answers included.
    private(set) var read = ""

    struct Message: Equatable {
        let role, content: String

        var value: TemplateValue { ["role": .string(role), "content": .string(content)] }
    }

    /// The model's own messages.
    var answers: [String] { messages.filter { $0.role == "assistant" }.map(\.content) }

    /// - Parameter system: what the model is told first.
    init(_ style: ConversationStyle, system: String? = nil) {
        self.style = style
        if let system { messages.append(Message(role: "system", content: system)) }
    }

    /// One that goes on: under another template than before it is read again from its beginning.
    init(_ style: ConversationStyle, _ record: ConversationRecord) {
        self.style = style
        messages = record.messages
        read = record.read
    }

    /// The user's next message.
    ///
    /// - Throws: what the template does not allow; the conversation is as it was then.
    mutating func say(_ text: String) throws(Failure) -> Turn {
        let all = messages + [Message(role: "user", content: text)]
        let whole: String
        do throws(TemplateError) {
            whole = try style.template.render(
                messages: all.map(\.value), bosToken: style.bosToken, eosToken: style.eosToken)
        } catch {
            throw Failure(
                error.kind == .raised
                    ? "\(style.name) refuses the conversation: \(error.message)"
                    : "\(style.name), \(error)", .data)
        }
        messages = all
        defer { read = whole }
        if whole.utf8.starts(with: read.utf8) {
            return .append(String(decoding: whole.utf8.dropFirst(read.utf8.count), as: UTF8.self))
        }
        let common = zip(whole.utf8, read.utf8).prefix { $0 == $1 }.count
        return .restart(
            whole,
            why:
                "\(style.name) writes what was said before in another way now (byte \(common) of \(read.utf8.count))"
        )
    }

    /// The model's answer to it.
    mutating func hear(_ text: String) {
        messages.append(Message(role: "assistant", content: text))
        read += text
    }
}
