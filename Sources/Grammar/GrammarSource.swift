// SPDX-License-Identifier: Apache-2.0

/// What an answer is to obey, as it was given.
package enum GrammarSource: Hashable, Sendable {
    /// A JSON schema (2020-12, as far as docs/grammar.md says), UTF-8.
    case jsonSchema([UInt8])
    /// A regular expression that the whole answer matches, UTF-8.
    case regex([UInt8])
    /// A context-free grammar in GBNF, whose first symbol is `root`, UTF-8.
    case gbnf([UInt8])
    /// Any JSON object.
    case jsonObject

    /// Bytes of it.
    package var byteCount: Int {
        switch self {
        case .jsonSchema(let bytes), .regex(let bytes), .gbnf(let bytes): bytes.count
        case .jsonObject: 0
        }
    }

    func program() throws(GrammarError) -> Program {
        guard byteCount <= GrammarLimits.sourceBytes else {
            throw GrammarError(
                "",
                "it is \(byteCount) bytes long; at most \(GrammarLimits.sourceBytes) are allowed")
        }
        switch self {
        case .jsonSchema(let bytes): return try SchemaCompiler.program(bytes)
        case .regex(let bytes): return try RegexParser.program(bytes)
        case .gbnf(let bytes): return try GBNFParser.program(bytes)
        case .jsonObject: return try SchemaCompiler.program(Array(#"{"type":"object"}"#.utf8))
        }
    }
}
