// SPDX-License-Identifier: Apache-2.0

/// A grammar as instructions for a machine with a stack. What is on the stack is where to go on (`call`), or how often a
/// repetition is still to be taken (`loop`).
struct Program: Sendable {
    /// An instruction's number.
    typealias Address = Int32

    enum Instruction: Sendable {
        /// Reads a byte of the set.
        case bytes(ByteSet, next: Address)
        case split([Address])
        case call(Address, next: Address)
        /// As `call`, of a rule whose states are shared by all its callers.
        case lexeme(Address, next: Address)
        case back
        /// Counts turns of `body`, which reads at least a byte and ends at `again`.
        case loop(least: Int32, most: Int32, body: Address, next: Address)
        case again
    }

    private(set) var code: [Instruction] = [.back, .again]
    private(set) var start: Address = 0
    /// For each instruction, how much stack the rest of its rule takes at least.
    private(set) var heights: [Int32] = []
    let classes: ByteClasses

    static let back: Address = 0
    static let again: Address = 1
    /// A count without a bound.
    static let unbounded = Int32.max

    /// - Parameter place: for errors that concern the whole.
    init(_ source: Expressions, root: Int, place: String) throws(GrammarError) {
        guard !source.overflows else {
            throw GrammarError(place, "it takes more than \(GrammarLimits.nodes) nodes")
        }
        let facts = ExpressionFacts(source)
        guard facts.isProductive[root] else {
            throw GrammarError(
                source.rules[root].name, "no text can be complete: it is contradictory or endless")
        }
        if let rule = facts.leftRecursion(source) {
            throw GrammarError(
                source.rules[rule].name,
                "it begins with itself (left recursion), which is not supported")
        }
        let cleaned = LoopCleaning(source, facts).grammar
        guard !cleaned.overflows else {
            throw GrammarError(place, "it takes more than \(GrammarLimits.nodes) nodes")
        }
        var builder = Builder(cleaned)
        let entry = builder.entry(root)
        builder.finish()
        guard !builder.overflows else {
            throw GrammarError(
                place, "it takes more than \(GrammarLimits.instructions) instructions")
        }
        start = entry
        code = builder.code
        classes = ByteClasses(
            code.compactMap { if case .bytes(let set, _) = $0 { set } else { nil } })
        heights = Self.heights(code)
        guard heights[Int(start)] < GrammarLimits.depth else {
            throw GrammarError(
                place, "every text nests deeper than \(GrammarLimits.depth) calls and repetitions")
        }
    }

    /// The least solution: from the ends of rules backwards, to whatever may get lower.
    private static func heights(_ code: [Instruction]) -> [Int32] {
        let none = Int32(GrammarLimits.depth + 1)
        var heights = [Int32](repeating: none, count: code.count)
        var users = [[Address]](repeating: [], count: code.count)
        for index in code.indices {
            for target in code[index].targets { users[Int(target)].append(Address(index)) }
        }
        func height(_ address: Address) -> Int32 { heights[Int(address)] }
        var waiting = [back, again]
        while let address = waiting.popLast() {
            let new: Int32 =
                switch code[Int(address)] {
                case .back, .again: 0
                case .bytes(_, let next): height(next)
                case .split(let targets): targets.reduce(none) { min($0, height($1)) }
                case .call(let entry, let next), .lexeme(let entry, let next):
                    max(height(next), height(entry) + (next == back ? 0 : 1))
                case .loop(let least, _, let body, let next):
                    least == 0 ? height(next) : max(height(next), height(body) + 1)
                }
            guard new < heights[Int(address)] else { continue }
            heights[Int(address)] = new
            waiting += users[Int(address)]
        }
        return heights
    }
}

extension Program.Instruction {
    /// Where it may lead.
    fileprivate var targets: [Program.Address] {
        switch self {
        case .back, .again: []
        case .bytes(_, let next): [next]
        case .split(let targets): targets
        case .call(let entry, let next), .lexeme(let entry, let next): [entry, next]
        case .loop(_, _, let body, let next): [body, next]
        }
    }
}

/// Expressions to instructions, from the end to the beginning.
private struct Builder {
    private struct Key: Hashable {
        let expression: ExpressionID
        let next: Program.Address
    }

    private let grammar: Expressions
    private let facts: ExpressionFacts
    private(set) var code: [Program.Instruction] = [.back, .again]
    private(set) var overflows = false
    private var known: [Key: Program.Address] = [:]
    private var entries: [Int: Program.Address] = [:]
    private var waiting: [(rule: Int, at: Program.Address)] = []

    init(_ grammar: Expressions) {
        self.grammar = grammar
        facts = ExpressionFacts(grammar)
    }

    /// Where a rule begins; its body follows in `finish`.
    mutating func entry(_ rule: Int) -> Program.Address {
        if let known = entries[rule] { return known }
        let at = append(.split([]))
        entries[rule] = at
        waiting.append((rule, at))
        return at
    }

    mutating func finish() {
        while let (rule, at) = waiting.popLast() {
            code[Int(at)] = .split([compile(grammar.rules[rule].body, Program.back)])
        }
    }

    private mutating func append(_ instruction: Program.Instruction) -> Program.Address {
        guard code.count < GrammarLimits.instructions else {
            overflows = true
            return Program.back
        }
        code.append(instruction)
        return Program.Address(code.count - 1)
    }

    private mutating func compile(_ id: ExpressionID, _ next: Program.Address) -> Program.Address {
        if overflows { return Program.back }
        if id == Expressions.empty { return next }
        let key = Key(expression: id, next: next)
        if let at = known[key] { return at }
        let at = instruction(id, next)
        known[key] = at
        return at
    }

    private mutating func instruction(
        _ id: ExpressionID, _ next: Program.Address
    ) -> Program.Address {
        switch grammar[id] {
        case .empty: return next
        case .never: return append(.split([]))
        case .bytes(let set): return append(.bytes(set, next: next))
        case .sequence(let parts):
            var at = next
            for part in parts.reversed() { at = compile(part, at) }
            return at
        case .choice(let parts):
            // What can never be completed is left out, so that no text leads there.
            let targets = parts.filter { facts.isProductive($0, grammar) }.map { compile($0, next) }
            return append(.split(targets))
        case .call(let rule):
            guard facts.isProductive[rule] else { return append(.split([])) }
            let entry = entry(rule)
            return append(
                grammar.rules[rule].isLexeme
                    ? .lexeme(entry, next: next) : .call(entry, next: next))
        case .loop(let part, let least, let most):
            guard facts.isProductive(part, grammar) else { return next }
            return loop(part, least, most, next)
        }
    }

    private mutating func loop(
        _ part: ExpressionID, _ least: Int, _ most: Int?, _ next: Program.Address
    ) -> Program.Address {
        if least == 0, most == 1 { return append(.split([compile(part, next), next])) }
        if most == nil, least <= 1 {
            let at = append(.split([]))
            let body = compile(part, at)
            code[Int(at)] = .split([body, next])
            return least == 0 ? at : body
        }
        let body = compile(part, Program.again)
        return append(
            .loop(
                least: Int32(least), most: most.map { Int32($0) } ?? Program.unbounded, body: body,
                next: next))
    }
}
