// SPDX-License-Identifier: Apache-2.0

import Grammar
import RPC

/// What an answer must be. Only such tokens are chosen as lead to it, so an answer that ends by itself obeys.
///
/// What is not supported is refused with ``MMFreeError/Code-swift.struct/invalidArgument`` and its place, never ignored.
public enum AnswerFormat: Sendable, Hashable {
    /// Any JSON object.
    case jsonObject
    /// A JSON value that obeys this JSON schema.
    case jsonSchema(String)
    /// A text that this regular expression matches as a whole.
    case regex(String)
    /// A text of this grammar (GBNF), whose first symbol is `root`.
    case grammar(String)
}

extension AnswerFormat {
    var wire: Format {
        var format = Format()
        format.formatRule =
            switch self {
            case .jsonObject: .jsonObject(true)
            case .jsonSchema(let text): .jsonSchema(text)
            case .regex(let text): .regex(text)
            case .grammar(let text): .grammar(text)
            }
        return format
    }

    var source: GrammarSource {
        switch self {
        case .jsonObject: .jsonObject
        case .jsonSchema(let text): .jsonSchema(Array(text.utf8))
        case .regex(let text): .regex(Array(text.utf8))
        case .grammar(let text): .gbnf(Array(text.utf8))
        }
    }

    /// Its name on the wire, for errors.
    var field: String {
        switch self {
        case .jsonObject: "format.json_object"
        case .jsonSchema: "format.json_schema"
        case .regex: "format.regex"
        case .grammar: "format.grammar"
        }
    }

    /// About how many bytes of work it is.
    var byteCount: Int { source.byteCount }
}
