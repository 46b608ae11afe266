// SPDX-License-Identifier: Apache-2.0

import Engine

/// What is known at a token of a prompt.
struct KnownPrefix {
    let snapshot: StateSnapshot
    /// The sum of the hidden states of all its tokens, in their order: [hidden]. What a mean over a longer input begins with.
    var hiddenSum: [Float]?
    /// What its tokens and the next one were scored.
    var scores: KnownScores?

    var byteCount: Int { snapshot.byteCount + resultBytes }
    /// Of what is known beside the state.
    var resultBytes: Int { (hiddenSum?.count ?? 0) * 4 + (scores?.byteCount ?? 0) }
}

/// Token sequences that begin alike share their beginning: a radix tree with a state at some of its nodes. Every leaf has one.
struct PrefixTree {
    struct Found {
        /// The longest known prefix that can be used.
        var known: (node: Int, depth: Int, prefix: KnownPrefix)?
        /// How many tokens are those of a sequence in the tree.
        var agreed = 0
    }

    private struct Node {
        /// Between the parent and this node: [1...], but for the root.
        var edge: [UInt32]
        var parent: Int
        /// By the first token of their edges.
        var children: [UInt32: Int] = [:]
        var known: KnownPrefix?
    }

    private static let root = 0
    /// About what a node takes besides its tokens and state.
    static let nodeBytes = 256

    /// By number; numbers are never used again.
    private var nodes = [root: Node(edge: [], parent: root)]
    private var last = root
    /// Of states, tokens and nodes; a page that several states share counts once.
    private(set) var bytes = 0
    /// How many states have each page.
    private var pages: [ObjectIdentifier: Int] = [:]
    /// Nodes with a state.
    private(set) var states = 0

    var isEmpty: Bool { nodes.count == 1 && states == 0 }
    /// Nodes but for the root: at most two for each state.
    var nodeCount: Int { nodes.count - 1 }

    /// - Parameter most: the longest prefix that is of use.
    func find(
        _ tokens: [UInt32], most: Int, where isUsable: (KnownPrefix) -> Bool = { _ in true }
    ) -> Found {
        var found = Found()
        var number = Self.root
        while let child = child(of: number, tokens[found.agreed...]), let node = nodes[child] {
            let same = Self.common(node.edge[...], tokens[found.agreed...])
            found.agreed += same
            guard same == node.edge.count else { break }
            number = child
            if let known = node.known, found.agreed <= most, isUsable(known) {
                found.known = (number, found.agreed, known)
            }
        }
        return found
    }

    /// Enters a state, or what a state that is there already lacks.
    ///
    /// - Parameter tokens: what the state has read; at least one.
    /// - Returns: its node.
    mutating func insert(_ tokens: ArraySlice<UInt32>, _ known: KnownPrefix) -> Int {
        var number = Self.root
        var rest = tokens
        while !rest.isEmpty {
            guard let child = child(of: number, rest), let node = nodes[child]
            else {
                number = add(Array(rest), under: number)
                break
            }
            let same = Self.common(node.edge[...], rest)
            number = same < node.edge.count ? split(child, at: same) : child
            rest = rest.dropFirst(same)
        }
        let old = nodes[number]?.known
        var new = old ?? known
        new.hiddenSum = new.hiddenSum ?? known.hiddenSum
        // What came next may be another token now, and is likelier to come again.
        new.scores = known.scores ?? new.scores
        nodes[number]?.known = new
        bytes += new.resultBytes - (old?.resultBytes ?? 0)
        if old == nil {
            hold(new.snapshot)
            states += 1
        }
        return number
    }

    /// Forgets the state of a node, and what led to it alone.
    mutating func remove(_ number: Int) {
        guard let known = nodes[number]?.known else { return }
        nodes[number]?.known = nil
        bytes -= known.resultBytes
        release(known.snapshot)
        states -= 1
        tidy(number)
    }

    private mutating func hold(_ snapshot: StateSnapshot) {
        let (ids, size) = snapshot.sharedPages
        bytes += ids.isEmpty ? snapshot.byteCount : 0
        for id in ids {
            if pages[id] == nil { bytes += size }
            pages[id, default: 0] += 1
        }
    }

    private mutating func release(_ snapshot: StateSnapshot) {
        let (ids, size) = snapshot.sharedPages
        bytes -= ids.isEmpty ? snapshot.byteCount : 0
        for id in ids {
            let left = (pages[id] ?? 1) - 1
            pages[id] = left == 0 ? nil : left
            if left == 0 { bytes -= size }
        }
    }

    private func child(of number: Int, _ tokens: ArraySlice<UInt32>) -> Int? {
        tokens.first.flatMap { nodes[number]?.children[$0] }
    }

    private mutating func add(_ edge: [UInt32], under parent: Int) -> Int {
        last += 1
        nodes[last] = Node(edge: edge, parent: parent)
        nodes[parent]?.children[edge[0]] = last
        bytes += edge.count * 4 + Self.nodeBytes
        return last
    }

    /// Puts a node between `number` and its parent, `length` tokens down its edge.
    private mutating func split(_ number: Int, at length: Int) -> Int {
        guard let node = nodes[number] else { preconditionFailure("no such node") }
        let middle = add(Array(node.edge[..<length]), under: node.parent)
        bytes -= length * 4
        nodes[number]?.edge = Array(node.edge[length...])
        nodes[number]?.parent = middle
        nodes[middle]?.children[node.edge[length]] = number
        return middle
    }

    /// Takes out a node that leads to no state, or to one only.
    private mutating func tidy(_ number: Int) {
        guard number != Self.root, let node = nodes[number], node.known == nil,
            node.children.count < 2
        else { return }
        nodes[number] = nil
        bytes -= Self.nodeBytes
        if let child = node.children.first?.value, let below = nodes[child] {
            nodes[child]?.edge = node.edge + below.edge
            nodes[child]?.parent = node.parent
            nodes[node.parent]?.children[node.edge[0]] = child
        } else {
            bytes -= node.edge.count * 4
            nodes[node.parent]?.children[node.edge[0]] = nil
            tidy(node.parent)
        }
    }

    /// How many tokens two sequences begin with in common.
    private static func common(_ a: ArraySlice<UInt32>, _ b: ArraySlice<UInt32>) -> Int {
        a.withUnsafeBufferPointer { a in
            b.withUnsafeBufferPointer { b in
                let most = min(a.count, b.count)
                var index = 0
                while index < most, a[index] == b[index] { index += 1 }
                return index
            }
        }
    }
}
