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
    /// In preorder.
    let nodes: [Node]
    /// Of each node: where its tokens begin in `tokens`; [nodes + 1].
    private let firstTokens: [Int32]
    /// Ids, ordered by their bytes.
    private let tokens: [UInt32]
    /// Of each of them: bytes.
    private let lengths: [UInt8]
    /// How many nodes each byte leads to: [256].
    let frequencies: [Int]
    private let texts: [UInt8]
    private let textEnds: [Int]

    /// 16 bytes: a walk takes as long as reading them does.
    struct Node: Sendable {
        /// The kinds of the bytes below it.
        var kinds = ByteKinds()
        /// The number of the first node after its subtree.
        var end: Int32 = 0
        /// The byte that leads to it.
        let byte: UInt8
        /// Its distance from the root; 1 and up.
        let depth: UInt8
        /// The most bytes of a token from here.
        var height: UInt8 = 0
    }

    /// - Parameters:
    ///   - count: of ids.
    ///   - endTokens: ids of tokens that end an answer.
    ///   - text: the bytes that a token stands for; empty for tokens that are never to be chosen. Nor are those of more than 255 bytes.
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
            let bytes = endTokens.contains(id) ? [] : text(id)
            if bytes.count <= Self.mostBytes { texts += bytes }
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
        var builder = Builder()
        for (start, end, id) in ids { builder.append(texts[start..<end], id) }
        builder.close(to: 0)
        var frequencies = [Int](repeating: 0, count: 256)
        for node in builder.nodes { frequencies[Int(node.byte)] += 1 }
        self.frequencies = frequencies
        nodes = builder.nodes
        firstTokens = builder.firstTokens + [Int32(builder.tokens.count)]
        tokens = builder.tokens
        lengths = ids.map { UInt8($0.end - $0.start) }
        self.texts = texts
        self.textEnds = textEnds
    }

    /// The bytes of a token that may be chosen; empty for others.
    func text(_ token: UInt32) -> ArraySlice<UInt8> {
        let id = Int(token)
        guard id < textEnds.count else { return [] }
        return texts[(id == 0 ? 0 : textEnds[id - 1])..<textEnds[id]]
    }

    func tokens(of nodes: Range<Int>) -> ArraySlice<UInt32> {
        tokens[Int(firstTokens[nodes.lowerBound])..<Int(firstTokens[nodes.upperBound])]
    }

    func lengths(of nodes: Range<Int>) -> ArraySlice<UInt8> {
        lengths[Int(firstTokens[nodes.lowerBound])..<Int(firstTokens[nodes.upperBound])]
    }

    private static let mostBytes = Int(UInt8.max)

    /// A trie under construction.
    private struct Builder {
        var nodes: [Node] = []
        var firstTokens: [Int32] = []
        var tokens: [UInt32] = []
        /// The nodes that lead to the last token.
        private var path: [Int] = []

        mutating func append(_ text: ArraySlice<UInt8>, _ id: UInt32) {
            let shared = zip(text, path).prefix { $0 == nodes[$1].byte }.count
            close(to: shared)
            for byte in text.dropFirst(shared) {
                path.append(nodes.count)
                nodes.append(Node(byte: byte, depth: UInt8(path.count)))
                firstTokens.append(Int32(tokens.count))
            }
            tokens.append(id)
        }

        mutating func close(to depth: Int) {
            while path.count > depth {
                let node = path.removeLast()
                nodes[node].end = Int32(nodes.count)
                guard let parent = path.last else { continue }
                nodes[parent].height = max(nodes[parent].height, nodes[node].height + 1)
                nodes[parent].kinds.formUnion(nodes[node].kinds)
                nodes[parent].kinds.insert(nodes[node].byte)
            }
        }
    }
}
