// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore

/// The conversation that a session has read under a chat template, for a chat that goes on with the session later. A session is but a
/// state; which one a record belongs to, the digests of its model and of its tokens say.
struct ConversationRecord: Equatable {
    let messages: [Conversation.Message]
    /// What the session has read, answers included.
    let read: String
    private let modelDigest: String
    private let tokens: Int
    private let tokensDigest: String

    /// More than a conversation has that any session reads.
    static let sizeLimit = 64 << 20

    init(_ conversation: Conversation, _ session: Session) {
        messages = conversation.messages
        read = conversation.read
        modelDigest = session.modelDigest
        tokens = session.tokens
        tokensDigest = Self.digest(session)
    }

    private static func digest(_ session: Session) -> String {
        String(session.tokensDigest, radix: 16)
    }

    /// Whether this is what the session has read, all of it and nothing else.
    func belongs(to session: Session) -> Bool {
        modelDigest == session.modelDigest && tokens == session.tokens
            && tokensDigest == Self.digest(session)
    }

    /// Says of which state it is, for names of files.
    static func name(_ session: Session) -> String {
        "\(session.modelDigest.prefix(16))-\(session.tokens)-\(digest(session))"
    }

    // MARK: As JSON

    func written() -> [UInt8] {
        JSON.object([
            .init("format", .integer(1)), .init("model_digest", .string(modelDigest)),
            .init("tokens", .integer(tokens)), .init("tokens_digest", .string(tokensDigest)),
            .init("read", .string(read)),
            .init(
                "messages",
                .array(
                    messages.map {
                        .object([
                            .init("role", .string($0.role)), .init("content", .string($0.content)),
                        ])
                    })),
        ]).written()
    }

    /// - Throws: what is wrong with it, by the name of its file.
    init(_ bytes: [UInt8], _ path: String) throws(Failure) {
        let json: JSON
        do { json = try JSON(parsing: bytes) } catch {
            throw Failure("\(path), byte \(error.offset): \(error.what)", .data)
        }
        guard json["format"]?.integer == 1 else {
            throw Failure("\(path): no conversation of a format that is known: 1", .data)
        }
        guard let model = json["model_digest"]?.string, let tokens = json["tokens"]?.integer,
            let digest = json["tokens_digest"]?.string, let read = json["read"]?.string,
            let list = json["messages"]?.array
        else { throw Failure("\(path): no whole conversation", .data) }
        var messages: [Conversation.Message] = []
        for message in list {
            guard let role = message["role"]?.string, let content = message["content"]?.string
            else { throw Failure("\(path): message \(messages.count) is not whole", .data) }
            messages.append(.init(role: role, content: content))
        }
        (self.messages, self.read, modelDigest) = (messages, read, model)
        (self.tokens, tokensDigest) = (tokens, digest)
    }
}
