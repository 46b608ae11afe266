// SPDX-License-Identifier: Apache-2.0

import MMFree

/// What a template has rendered, as tokens.
struct ConversationText {
    let client: Client
    let model: String

    /// Refuses a message that spells control tokens: in a rendering they would be those tokens, and could end the message and begin
    /// another one in somebody else's name.
    ///
    /// - Parameter what: the message, for the error.
    func check(_ message: String, _ what: String = "the message") async throws {
        let plain = try await client.tokenize(message, model: model, addsBOS: false)
        let parsed = try await client.tokenize(
            message, model: model, addsBOS: false, parsesSpecialTokens: true)
        guard plain.ids != parsed.ids else { return }
        let named = Set(parsed.pieces).subtracting(plain.pieces).sorted()
            .filter { message.contains($0) }
        throw Failure(
            "\(what) spells control tokens of the model (\(named.joined(separator: " "))); say it without them, or use --plain",
            .usage)
    }

    /// The tokens of `addition`, which follows `before`. Where the two are cut into tokens as their texts are, these are the tokens of the
    /// whole behind those of the beginning; else those of the addition by itself.
    func tokens(of addition: String, after before: String) async throws -> [TokenID] {
        guard !before.isEmpty else { return try await tokens(addition) }
        let (whole, known) = (try await tokens(before + addition), try await tokens(before))
        return whole.starts(with: known)
            ? Array(whole.dropFirst(known.count)) : try await tokens(addition)
    }

    private func tokens(_ text: String) async throws -> [TokenID] {
        try await client.tokenize(
            text, model: model, addsBOS: false, parsesSpecialTokens: true
        ).ids
    }
}
