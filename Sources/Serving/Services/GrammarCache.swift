// SPDX-License-Identifier: Apache-2.0

import Engine
import Grammar
import RPC
import Synchronization

/// Compiled grammars of constrained answers, by model and source: the next request with the same schema begins at once, with the
/// masks that are known already. Compiling runs on the handler's thread.
final class GrammarCache: Sendable {
    private struct Key: Hashable {
        let digest: String
        let source: GrammarSource
    }

    private struct Entry {
        let grammar: TokenGrammar
        var used: UInt64
    }

    private struct Entries {
        var all: [Key: Entry] = [:]
        var clock: UInt64 = 0
    }

    private let entries = Mutex(Entries())

    /// How many are kept, and of how many bytes together; a grammar's own masks are bounded too (`GrammarLimits.cacheBytes`).
    static let countLimit = 64
    static let byteLimit = 64 << 20

    /// The constraint that a request asks for; `nil` if it asks for none.
    func constraint(
        _ format: Format?, _ name: String, _ model: Model
    ) throws(RPCError) -> Constraint? {
        guard let source = try Self.source(format) else { return nil }
        guard let tokenizer = model.tokenizer else {
            throw RPCError(
                .failedPrecondition,
                "model '\(name)' was packed without a tokenizer: its answers cannot be constrained",
                reason: "NO_TOKENIZER")
        }
        let key = Key(digest: model.digest, source: source)
        if let known = find(key) { return known.start }
        let trie: TokenTrie
        do { trie = try tokenizer.trie() } catch {
            throw RPCError(
                .failedPrecondition, "model '\(name)': \(error)", reason: "VOCABULARY_INCOMPLETE")
        }
        let grammar: TokenGrammar
        do { grammar = try TokenGrammar(source, trie) } catch {
            throw .invalid(Self.field(source), "\(error)")
        }
        keep(grammar, key)
        return grammar.start
    }

    private static func source(_ format: Format?) throws(RPCError) -> GrammarSource? {
        guard let format else { return nil }
        switch format.formatRule {
        case .jsonSchema(let text): return .jsonSchema(Array(text.utf8))
        case .regex(let text): return .regex(Array(text.utf8))
        case .grammar(let text): return .gbnf(Array(text.utf8))
        case .jsonObject(true): return .jsonObject
        case .jsonObject(false): return nil
        case nil:
            throw .invalid("format", "give one of json_schema, regex, grammar and json_object")
        }
    }

    private static func field(_ source: GrammarSource) -> String {
        switch source {
        case .jsonSchema: "format.json_schema"
        case .regex: "format.regex"
        case .gbnf: "format.grammar"
        case .jsonObject: "format.json_object"
        }
    }

    private func find(_ key: Key) -> TokenGrammar? {
        entries.withLock { entries in
            entries.clock += 1
            entries.all[key]?.used = entries.clock
            return entries.all[key]?.grammar
        }
    }

    private func keep(_ grammar: TokenGrammar, _ key: Key) {
        entries.withLock { entries in
            entries.clock += 1
            entries.all[key] = Entry(grammar: grammar, used: entries.clock)
            var bytes = entries.all.reduce(0) { $0 + $1.value.grammar.byteCount }
            while entries.all.count > Self.countLimit || bytes > Self.byteLimit {
                guard let oldest = entries.all.min(by: { $0.value.used < $1.value.used }) else {
                    return
                }
                bytes -= oldest.value.grammar.byteCount
                entries.all[oldest.key] = nil
            }
        }
    }

    /// Grammars that are kept.
    var count: Int { entries.withLock { $0.all.count } }
}
