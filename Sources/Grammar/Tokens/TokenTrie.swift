// SPDX-License-Identifier: Apache-2.0

/// A vocabulary's tokens by their bytes: a trie in preorder, so that a walk over all of it, or past a subtree, is a walk over
/// arrays. Immutable; one for each model.
package final class TokenTrie: Sendable {
    /// How many ids there are.
    package let vocabulary: Int
    /// Tokens that end an answer: they stand for no text.
    package let endTokens: [UInt32]
    /// The longest token, bytes.
    let longest: Int
    /// Of each node: the byte that leads to it.
    let bytes: [UInt8]
    /// Of each node: its distance from the root; 1 and up.
    let depths: [UInt16]
    /// Of each node: the number of the first node after its subtree.
    let ends: [Int32]
    /// Of each node: where its tokens begin in `tokens`; [nodes + 1].
    let firstTokens: [Int32]
    /// Ids, ordered by their bytes.
    let tokens: [UInt32]
    private let texts: [UInt8]
    private let textEnds: [Int]

    /// - Parameters:
    ///   - count: of ids.
    ///   - endTokens: ids of tokens that end an answer.
    ///   - text: the bytes that a token stands for; empty for tokens that are never to be chosen.
    /// - Throws: where some byte is no token, so that not every text can be written.
    package init(
        count: Int, endTokens: [UInt32], text: (UInt32) -> [UInt8]
    ) throws(GrammarError) {
        var texts: [UInt8] = []
        var textEnds: [Int] = []
        textEnds.reserveCapacity(count)
        var single = [Bool](repeating: false, count: 256)
        var ids: [(start: Int, end: Int, id: UInt32)] = []
        for id in 0..<UInt32(count) {
            let start = texts.count
            if !endTokens.contains(id) { texts += text(id).prefix(Int(UInt16.max)) }
            textEnds.append(texts.count)
            guard texts.count > start else { continue }
            ids.append((start, texts.count, id))
            if texts.count == start + 1 { single[Int(texts[start])] = true }
        }
        // 0xC0, 0xC1 and 0xF5 to 0xFF are in no UTF-8 text.
        let needed = (0...255).filter { !(0xC0...0xC1).contains($0) && $0 < 0xF5 }
        if let missing = needed.first(where: { !single[$0] }) {
            throw GrammarError(
                "",
                "the vocabulary has no token for byte \(missing) alone: not every constraint could be met"
            )
        }
        ids.sort { a, b in
            let (x, y) = (texts[a.start..<a.end], texts[b.start..<b.end])
            if x.elementsEqual(y) { return a.id < b.id }
            return x.lexicographicallyPrecedes(y)
        }
        self.vocabulary = count
        self.endTokens = endTokens.filter { $0 < UInt32(count) }
        longest = ids.reduce(0) { max($0, $1.end - $1.start) }
        var nodes = Nodes()
        for (start, end, id) in ids { nodes.append(texts[start..<end], id) }
        nodes.close(to: 0)
        bytes = nodes.bytes
        depths = nodes.depths
        ends = nodes.ends
        firstTokens = nodes.firstTokens + [Int32(nodes.tokens.count)]
        tokens = nodes.tokens
        self.texts = texts
        self.textEnds = textEnds
    }

    /// The bytes of a token that may be chosen; empty for others.
    func text(_ token: UInt32) -> ArraySlice<UInt8> {
        let id = Int(token)
        guard id < textEnds.count else { return [] }
        return texts[(id == 0 ? 0 : textEnds[id - 1])..<textEnds[id]]
    }

    var nodeCount: Int { bytes.count }

    /// Arrays under construction.
    private struct Nodes {
        var bytes: [UInt8] = []
        var depths: [UInt16] = []
        var ends: [Int32] = []
        var firstTokens: [Int32] = []
        var tokens: [UInt32] = []
        /// The nodes that lead to the last token, and their bytes.
        private var path: [Int] = []

        mutating func append(_ text: ArraySlice<UInt8>, _ id: UInt32) {
            let shared = zip(text, path).prefix { $0 == bytes[$1] }.count
            close(to: shared)
            for byte in text.dropFirst(shared) {
                bytes.append(byte)
                path.append(bytes.count - 1)
                depths.append(UInt16(path.count))
                ends.append(0)
                firstTokens.append(Int32(tokens.count))
            }
            tokens.append(id)
        }

        mutating func close(to depth: Int) {
            while path.count > depth { ends[path.removeLast()] = Int32(bytes.count) }
        }
    }
}
