// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// A token named apart from the vocabulary: `<s>`, or one a later training added.
struct AddedToken {
    let id: Int
    let content: String
    /// The object with `special`, `lstrip` and so on.
    let flags: JSON
    /// Whether the tokenizer changes text before it looks for tokens: then `normalized` means something.
    var hasNormalizer = false

    var isSpecial: Bool { flags["special"]?.bool ?? false }

    /// Flags that would change how the token is found in text.
    var ignoredFlags: [String] {
        let names = ["lstrip", "rstrip", "single_word"] + (hasNormalizer ? ["normalized"] : [])
        return names.filter { flags[$0]?.bool == true }
    }
}

extension TokenizerTables {
    /// Marks tokens that are there, appends those that follow the vocabulary (gaps become unused).
    mutating func add(_ added: [AddedToken], file: String) throws(PackError) {
        for token in added.sorted(by: { $0.id < $1.id }) {
            guard (0..<1 << 22).contains(token.id) else {
                throw .malformed(
                    file: file,
                    what: "added token \"\(token.content.quoted)\" has the id \(token.id)")
            }
            if token.id < tokens.count {
                guard tokens[token.id].isSame(as: token.content) else {
                    throw .malformed(
                        file: file,
                        what: "token \(token.id) is \"\(tokens[token.id].quoted)\" and, as an "
                            + "added token, \"\(token.content.quoted)\"")
                }
            } else {
                guard token.id - tokens.count <= 1 << 16 else {
                    throw .malformed(
                        file: file, what: "added token \(token.id) leaves a gap in the ids")
                }
                while tokens.count < token.id {
                    append("<unused\(tokens.count)>", .unused, score: 0)
                }
                append(token.content, .normal, score: 0)
            }
            if kinds[token.id] == .normal {
                kinds[token.id] = token.isSpecial ? .control : .userDefined
            }
            if !token.ignoredFlags.isEmpty {
                warnings.append(
                    "added token \"\(token.content.quoted)\" asks for "
                        + "\(token.ignoredFlags.joined(separator: ", ")), ignoring")
            }
        }
    }
}
