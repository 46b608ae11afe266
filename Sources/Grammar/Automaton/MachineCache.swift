// SPDX-License-Identifier: Apache-2.0
//
// What has been computed of a grammar so far: transitions, and the masks of states. Filled as it is needed, thrown away when it gets
// large; nothing in it decides what is allowed.

/// Used by one thread at a time.
struct MachineCache {
    private typealias Number = Transitions.Number

    private let machine: Machine
    private let trie: TokenTrie
    private var transitions: Transitions
    private var masks: [Number: TokenMask] = [:]
    private var lexemeMasks: [Number: LexemeMask] = [:]
    private var maskBytes = 0

    /// The tokens that a lexeme allows by itself, and the nodes of the trie at which it may end.
    private struct LexemeMask {
        let mask: TokenMask
        let exits: [Int32]
    }

    init(_ machine: Machine, _ trie: TokenTrie) {
        self.machine = machine
        self.trie = trie
        transitions = Transitions(machine, trie)
    }

    /// About what it takes in memory.
    var bytes: Int { transitions.bytes + maskBytes }

    /// The state after `text`; `dead` if it is not allowed.
    func advance(
        _ state: MachineState, over text: ArraySlice<UInt8>
    ) throws(MachineLimit) -> MachineState {
        var state = state
        for byte in text where !state.isDead { state = try transitions.step(state, byte) }
        return state
    }

    private mutating func tidy() {
        guard bytes > GrammarLimits.cacheBytes else { return }
        transitions.removeAll()
        masks.removeAll()
        lexemeMasks.removeAll()
        maskBytes = 0
    }

    // MARK: Masks

    /// The tokens that may follow: text first, and those that end an answer if it is complete.
    mutating func mask(of state: MachineState) throws(MachineLimit) -> TokenMask {
        tidy()
        // A token has at most `longest` bytes.
        let state = state.saturated(at: Int32(trie.longest) + 1)
        let number = transitions.number(of: state)
        if let known = masks[number] { return known }
        var mask = TokenMask(count: trie.vocabulary)
        if state.accepts { for token in trie.endTokens { mask.insert(token) } }
        var plain: [Thread] = []
        for thread in state.threads {
            if case .lexeme(let lexeme) = thread.place {
                try addLexeme(lexeme, thread.stack, to: &mask)
            } else {
                plain.append(thread)
            }
        }
        if !plain.isEmpty {
            let rest = transitions.number(of: MachineState(plain, accepts: false))
            mask = try found(from: rest, 0, trie.nodes.count, Found(mask, from: 0)).mask
        }
        masks[number] = mask
        maskBytes += mask.words.count * 8
        return mask
    }

    private mutating func addLexeme(
        _ lexeme: MachineState, _ stack: Frame?, to mask: inout TokenMask
    ) throws(MachineLimit) {
        let inner = transitions.number(of: lexeme)
        if lexemeMasks[inner] == nil {
            let empty = Found(TokenMask(count: trie.vocabulary), from: 0, exits: [])
            let new = try found(from: inner, 0, trie.nodes.count, empty)
            lexemeMasks[inner] = LexemeMask(mask: new.mask, exits: new.exits ?? [])
            maskBytes += new.mask.words.count * 8 + (new.exits?.count ?? 0) * 4
        }
        guard let known = lexemeMasks[inner] else { return }
        mask.formUnion(known.mask)
        guard !known.exits.isEmpty else { return }
        let after = transitions.number(of: try machine.after(stack))
        var found = Found(mask, from: 0)
        // One owner, or it would be copied at every exit.
        mask = TokenMask(count: 0)
        for node in known.exits {
            let first = Int(node) + 1
            let end = Int(trie.nodes[Int(node)].end)
            guard first < end else { continue }
            found.begin(at: first)
            try walk(after, first, end, &found)
            found.finish(at: end, trie)
        }
        mask = found.mask
    }

    private mutating func found(
        from state: Number, _ first: Int, _ end: Int, _ start: consuming Found
    ) throws(MachineLimit) -> Found {
        var found = start
        try walk(state, first, end, &found)
        found.finish(at: end, trie)
        return found
    }

    /// Finds the tokens whose bytes, from the nodes `first`..<`end` on (a whole trie, or all below one node), the state `start`
    /// allows.
    private mutating func walk(
        _ start: Number, _ first: Int, _ end: Int, _ found: inout Found
    ) throws(MachineLimit) {
        var at = first
        var last: Number = 0
        var run = Transitions.Run()
        while at < end {
            let node = trie.nodes[at]
            let state = try transitions.next(start, node.byte)
            guard state != 0 else {
                found.refuse(at..<Int(node.end), trie)
                at = Int(node.end)
                continue
            }
            if found.exits != nil, transitions.accepts[Int(state)] {
                found.exits?.append(Int32(at))
            }
            if node.height > 0 {
                // Most siblings lead to one state.
                if state != last { run = transitions.run(state) }
                last = state
                switch run.reach(node.kinds, node.height, silently: found.exits != nil) {
                case .all: break
                case .upTo(let length):
                    found.allow(at..<Int(node.end), below: Int(node.depth) + length, trie)
                case .unknown: try walk(state, at + 1, Int(node.end), &found)
                }
            }
            at = Int(node.end)
        }
    }

    /// What a walk finds.
    private struct Found {
        var mask: TokenMask
        /// If not `nil`, gets each node that is reached with a state that accepts.
        var exits: [Int32]?
        /// All nodes from here to where the walk has come are allowed.
        private var allowed: Int

        init(_ mask: TokenMask, from node: Int, exits: [Int32]? = nil) {
            self.mask = mask
            self.exits = exits
            allowed = node
        }

        mutating func begin(at node: Int) { allowed = node }

        mutating func refuse(_ nodes: Range<Int>, _ trie: TokenTrie) {
            finish(at: nodes.lowerBound, trie)
            allowed = nodes.upperBound
        }

        /// Of a node and those below it, those that are at most so deep.
        mutating func allow(_ nodes: Range<Int>, below depth: Int, _ trie: TokenTrie) {
            finish(at: nodes.lowerBound, trie)
            mask.insert(trie.tokens(of: nodes), trie.lengths(of: nodes), atMost: depth)
            allowed = nodes.upperBound
        }

        mutating func finish(at node: Int, _ trie: TokenTrie) {
            if allowed < node { mask.insert(trie.tokens(of: allowed..<node)) }
        }
    }
}
