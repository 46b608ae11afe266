// SPDX-License-Identifier: Apache-2.0
//
// What has been computed of a grammar so far: its states by number, their transitions, and the masks of states. Filled as it is
// needed, thrown away when it gets large; nothing in it decides what is allowed.

/// Used by one thread at a time.
struct MachineCache {
    /// A state's number; 0 is the state that allows nothing.
    typealias Number = Int32

    private let machine: Machine
    private let trie: TokenTrie
    private let classes: [UInt8]
    private let classCount: Int
    private var numbers: [MachineState: Number] = [:]
    private(set) var states: [MachineState] = []
    /// [states][classes]; −1 where it is not known yet.
    private var transitions: [Number] = []
    private var masks: [Number: TokenMask] = [:]
    private var lexemeMasks: [Number: LexemeMask] = [:]
    /// About what it takes in memory.
    private(set) var bytes = 0
    /// The states along the walk: [longest token + 1].
    private var path: [Number]

    /// The tokens that a lexeme allows by itself, and the nodes of the trie at which it may end.
    private struct LexemeMask {
        var mask: TokenMask
        var exits: [Int32] = []
    }

    init(_ machine: Machine, _ trie: TokenTrie) {
        self.machine = machine
        self.trie = trie
        classes = machine.program.classes.classes
        classCount = machine.program.classes.count
        path = [Number](repeating: 0, count: trie.longest + 1)
        reset()
    }

    private mutating func reset() {
        numbers.removeAll()
        states.removeAll()
        transitions.removeAll()
        masks.removeAll()
        lexemeMasks.removeAll()
        bytes = 0
        _ = number(of: .dead)
    }

    private mutating func number(of state: MachineState) -> Number {
        if let known = numbers[state] { return known }
        let number = Number(states.count)
        numbers[state] = number
        states.append(state)
        transitions.append(contentsOf: repeatElement(number == 0 ? 0 : -1, count: classCount))
        bytes += 200 + 4 * classCount + 100 * state.threads.count
        return number
    }

    private mutating func next(
        _ from: Number, _ byte: UInt8
    ) throws(Machine.TooManyThreads) -> Number {
        let at = Int(from) * classCount + Int(classes[Int(byte)])
        let known = transitions[at]
        if known >= 0 { return known }
        // One walk may not fill the memory either.
        guard bytes < 4 * GrammarLimits.cacheBytes else { throw Machine.TooManyThreads() }
        let new = number(of: try machine.step(states[Int(from)], byte))
        transitions[at] = new
        return new
    }

    /// The state after `text`; `dead` if it is not allowed.
    mutating func advance(
        _ state: MachineState, over text: ArraySlice<UInt8>
    ) throws(Machine.TooManyThreads) -> MachineState {
        tidy()
        var at = number(of: state)
        for byte in text {
            at = try next(at, byte)
            if at == 0 { break }
        }
        return states[Int(at)]
    }

    private mutating func tidy() { if bytes > GrammarLimits.cacheBytes { reset() } }

    // MARK: Masks

    /// The tokens that may follow: text first, and those that end an answer if it is complete.
    mutating func mask(of state: MachineState) throws(Machine.TooManyThreads) -> TokenMask {
        tidy()
        // A token has at most `longest` bytes, and each turn of a loop reads one.
        let state = state.clamped(to: Int32(trie.longest) + 1)
        let number = number(of: state)
        if let known = masks[number] { return known }
        var mask = TokenMask(count: trie.vocabulary)
        if state.accepts { for token in trie.endTokens { mask.insert(token) } }
        var plain: Set<Thread> = []
        for thread in state.threads {
            if case .lexeme(let lexeme) = thread.place {
                try addLexeme(lexeme, thread.stack, to: &mask)
            } else {
                plain.insert(thread)
            }
        }
        if plain.count == state.threads.count {
            try walk(number, 0, trie.nodeCount, &mask)
        } else if !plain.isEmpty {
            let rest = self.number(of: MachineState(plain, accepts: false))
            try walk(rest, 0, trie.nodeCount, &mask)
        }
        masks[number] = mask
        bytes += mask.words.count * 8
        return mask
    }

    private mutating func addLexeme(
        _ lexeme: MachineState, _ stack: Frame?, to mask: inout TokenMask
    ) throws(Machine.TooManyThreads) {
        let inner = number(of: lexeme)
        if lexemeMasks[inner] == nil {
            var new = LexemeMask(mask: TokenMask(count: trie.vocabulary))
            var exits: [Int32] = []
            try walk(inner, 0, trie.nodeCount, &new.mask) { node, accepts in
                if accepts { exits.append(Int32(node)) }
            }
            new.exits = exits
            lexemeMasks[inner] = new
            bytes += new.mask.words.count * 8 + exits.count * 4
        }
        guard let known = lexemeMasks[inner] else { return }
        mask.formUnion(known.mask)
        guard !known.exits.isEmpty else { return }
        let after = number(of: try machine.after(stack))
        for node in known.exits {
            let first = Int(node) + 1
            let end = Int(trie.ends[Int(node)])
            if first < end { try walk(after, first, end, &mask) }
        }
    }

    /// Adds the tokens whose bytes, from the nodes `first`..<`end` on (a whole trie, or all below one node), the state `start`
    /// allows.
    ///
    /// - Parameter visit: told of each node that is reached, and whether its state accepts.
    private mutating func walk(
        _ start: Number, _ first: Int, _ end: Int, _ mask: inout TokenMask,
        visit: ((Int, Bool) -> Void)? = nil
    ) throws(Machine.TooManyThreads) {
        guard first < end else { return }
        let trie = trie
        path[Int(trie.depths[first]) - 1] = start
        var node = first
        while node < end {
            let depth = Int(trie.depths[node])
            let state = try next(path[depth - 1], trie.bytes[node])
            guard state != 0 else {
                node = Int(trie.ends[node])
                continue
            }
            path[depth] = state
            for index in trie.firstTokens[node]..<trie.firstTokens[node + 1] {
                mask.insert(trie.tokens[Int(index)])
            }
            visit?(node, states[Int(state)].accepts)
            node += 1
        }
    }
}
