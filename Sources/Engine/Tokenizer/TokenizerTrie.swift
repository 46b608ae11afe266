// SPDX-License-Identifier: Apache-2.0

/// Tokens that are looked for in raw text, by their bytes: "<s>", or what a later training added.
struct TokenizerTrie: Sendable {
    private struct Node: Sendable {
        var id: UInt32?
        /// Children by byte. Few nodes have any number of them, and there are few nodes.
        var children: [UInt8: Int] = [:]
    }

    private var nodes = [Node()]
    /// Whether any token begins with this byte: what nearly all text is asked, and no more.
    private var begins = [Bool](repeating: false, count: 256)

    var isEmpty: Bool { nodes.count == 1 }

    mutating func insert(_ text: some Collection<UInt8>, _ id: UInt32) {
        guard let first = text.first else { return }
        begins[Int(first)] = true
        var node = 0
        for byte in text {
            if let next = nodes[node].children[byte] {
                node = next
            } else {
                nodes.append(Node())
                nodes[node].children[byte] = nodes.count - 1
                node = nodes.count - 1
            }
        }
        if nodes[node].id == nil { nodes[node].id = id }
    }

    /// The longest token that stands at `at`.
    func match(
        _ text: UnsafeBufferPointer<UInt8>, at: Int
    ) -> (id: UInt32, count: Int)? {
        guard begins[Int(text[at])] else { return nil }
        var best: (id: UInt32, count: Int)?
        var node = 0
        for index in at..<text.count {
            guard let next = nodes[node].children[text[index]] else { break }
            node = next
            if let id = nodes[node].id { best = (id, index + 1 - at) }
        }
        return best
    }
}
