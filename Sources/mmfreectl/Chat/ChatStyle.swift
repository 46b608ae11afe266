// SPDX-License-Identifier: Apache-2.0

import ChatTemplates
import Glibc
import MMFree

/// How a conversation is put before the model.
enum ChatStyle {
    /// Turn by turn: as it is, or by a file of sections.
    case turns(TurnTemplate)
    /// The conversation as a whole, by a chat template.
    case conversation(ConversationStyle)
}

/// A chat template, ready to render.
struct ConversationStyle {
    let template: ChatTemplate
    let bosToken, eosToken: String?
    /// For messages: a path, or "the template of model 'x'".
    let name: String

    /// The template of a model, if it has one.
    static func of(_ model: String, _ client: Client) async throws -> ConversationStyle? {
        let found: ModelTemplate
        do { found = try await client.chatTemplate(model: model) } catch let error as MMFreeError
            where error.reason == "NO_CHAT_TEMPLATE" || error.code == .unimplemented
        { return nil }
        let name = "the chat template of model '\(found.model)'"
        return ConversationStyle(
            template: try compiled(found.source, name), bosToken: found.bosToken,
            eosToken: found.eosToken, name: name)
    }

    static func compiled(_ source: String, _ name: String) throws(Failure) -> ChatTemplate {
        do { return try ChatTemplate(source) } catch {
            throw Failure("\(name): \(error)", .data)
        }
    }
}

extension ChatStyle {
    static let sizeLimit = 1 << 20

    /// - Parameter model: whose sessions there are; its file may be out of sight.
    static func chosen(
        file: String?, isPlain: Bool, _ model: ModelInfo?, _ client: Client
    ) async throws -> ChatStyle {
        if isPlain { return .turns(.plain) }
        if let file {
            let source = try Input(file).text(limit: sizeLimit)
            if isSections(source) { return .turns(try TurnTemplate(source)) }
            let tokens = try? await client.chatTemplate(model: model?.name ?? "")
            return .conversation(
                ConversationStyle(
                    template: try ConversationStyle.compiled(source, file),
                    bosToken: tokens?.bosToken, eosToken: tokens?.eosToken, name: file))
        }
        if let turns = try beside(model) { return .turns(turns) }
        return try await ConversationStyle.of(model?.name ?? "", client)
            .map { .conversation($0) } ?? .turns(.plain)
    }

    /// A file of sections begins with the line of one; all else is a chat template.
    static func isSections(_ source: String) -> Bool {
        source.drop(while: \.isWhitespace).hasPrefix("--- ")
    }

    /// NAME.chat beside the model's file.
    private static func beside(_ model: ModelInfo?) throws -> TurnTemplate? {
        guard let path = model?.path, path.hasSuffix(".gguf") else { return nil }
        let beside = String(path.dropLast(5) + ".chat")
        // A user may not see the daemon's directory.
        guard access(beside, R_OK) == 0 else { return nil }
        do { return try TurnTemplate(Input(beside).text(limit: 64 << 10)) } catch {
            throw Failure("\(beside): \(Failure(error)?.message ?? "\(error)")", .data)
        }
    }
}
