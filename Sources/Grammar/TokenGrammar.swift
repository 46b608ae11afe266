// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// A compiled constraint over one vocabulary. Shared by all answers that obey it, on any thread.
package final class TokenGrammar: Sendable {
    let trie: TokenTrie
    private let cache: Mutex<MachineCache>
    private let first: MachineState
    private let programBytes: Int

    /// Compiles `source`, at most `GrammarLimits.sourceBytes` of it.
    package init(_ source: GrammarSource, _ trie: TokenTrie) throws(GrammarError) {
        let program = try source.program()
        do {
            let machine = try Machine(program)
            first = try machine.start()
            cache = Mutex(MachineCache(machine, trie))
        } catch { throw Self.refusal(error, 0) }
        self.trie = trie
        programBytes = source.byteCount + 64 * program.code.count
    }

    /// About what it takes in memory.
    package var byteCount: Int { programBytes + cache.withLock { $0.bytes } }

    /// An answer's beginning.
    package var start: Constraint { Constraint(grammar: self, state: first) }

    /// - Parameter count: bytes of the answer so far.
    private static func refusal(_ limit: MachineLimit, _ count: Int) -> GrammarError {
        switch limit {
        case .alternatives:
            GrammarError(
                "",
                "too ambiguous: more than \(GrammarLimits.threads) alternatives at once after \(count) bytes of the answer"
            )
        case .memory:
            GrammarError(
                "",
                "too large: the tokens after \(count) bytes of the answer take more than \(4 * GrammarLimits.cacheBytes >> 20) MiB to find"
            )
        }
    }

    fileprivate func mask(_ state: MachineState, _ count: Int) throws(GrammarError) -> TokenMask {
        try cache.withLock { cache throws(GrammarError) in
            do throws(MachineLimit) { return try cache.mask(of: state) } catch {
                throw Self.refusal(error, count)
            }
        }
    }

    fileprivate func advance(
        _ state: MachineState, _ text: ArraySlice<UInt8>, _ count: Int
    ) throws(GrammarError) -> MachineState {
        try cache.withLock { cache throws(GrammarError) in
            do throws(MachineLimit) { return try cache.advance(state, over: text) } catch {
                throw Self.refusal(error, count)
            }
        }
    }
}

/// Where an answer stands in its constraint. A value: a copy goes its own way.
package struct Constraint: Sendable {
    package let grammar: TokenGrammar
    private var state: MachineState
    /// Bytes of the answer so far.
    private var count = 0

    fileprivate init(grammar: TokenGrammar, state: MachineState) {
        self.grammar = grammar
        self.state = state
    }

    /// Whether the answer may end here.
    package var isComplete: Bool { state.accepts }
    /// Whether it must: nothing may follow.
    package var isFinal: Bool { state.accepts && state.threads.isEmpty }

    /// The tokens that may come next. Never empty, unless `isFinal` and the vocabulary has no end-of-text token.
    ///
    /// - Throws: when too many alternatives would have to be followed, or it would take too much memory.
    package func mask() throws(GrammarError) -> TokenMask {
        try grammar.mask(state, count)
    }

    /// Goes on after a token of the text.
    ///
    /// - Returns: whether it was allowed; if not, nothing changes.
    package mutating func take(_ token: UInt32) throws(GrammarError) -> Bool {
        let text = grammar.trie.text(token)
        guard !text.isEmpty else { return false }
        return try take(text)
    }

    /// Goes on after some bytes of the text.
    package mutating func take(_ text: ArraySlice<UInt8>) throws(GrammarError) -> Bool {
        let next = try grammar.advance(state, text, count)
        guard !next.isDead else { return false }
        state = next
        count += text.count
        return true
    }
}
