// SPDX-License-Identifier: Apache-2.0

/// What is known of each rule of a grammar, found as the least fixed points.
struct ExpressionFacts {
    /// Whether a rule matches the empty text.
    private(set) var isNullable: [Bool]
    /// Whether a rule matches any text at all.
    private(set) var isProductive: [Bool]

    init(_ grammar: Expressions) {
        isNullable = [Bool](repeating: false, count: grammar.rules.count)
        isProductive = isNullable
        var callers = [[Int]](repeating: [], count: grammar.rules.count)
        for rule in grammar.rules.indices {
            var calls: Set<Int> = []
            grammar.calls(in: grammar.rules[rule].body, &calls)
            for call in calls { callers[call].append(rule) }
        }
        // Each is looked at again when something that it calls has become known.
        var waiting = Array(grammar.rules.indices)
        while let rule = waiting.popLast() {
            let body = grammar.rules[rule].body
            let nullable = isNullable[rule] || isNullable(body, grammar)
            let productive = isProductive[rule] || isProductive(body, grammar)
            guard nullable != isNullable[rule] || productive != isProductive[rule] else { continue }
            isNullable[rule] = nullable
            isProductive[rule] = productive
            waiting += callers[rule]
        }
    }

    func isNullable(_ id: ExpressionID, _ grammar: Expressions) -> Bool {
        switch grammar[id] {
        case .empty: true
        case .never, .bytes: false
        case .sequence(let parts): parts.allSatisfy { isNullable($0, grammar) }
        case .choice(let parts): parts.contains { isNullable($0, grammar) }
        case .loop(let part, let least, _): least == 0 || isNullable(part, grammar)
        // Rules that `LoopCleaning` adds match no empty text.
        case .call(let rule): rule < isNullable.count && isNullable[rule]
        }
    }

    func isProductive(_ id: ExpressionID, _ grammar: Expressions) -> Bool {
        switch grammar[id] {
        case .never: false
        case .empty, .bytes: true
        case .sequence(let parts): parts.allSatisfy { isProductive($0, grammar) }
        case .choice(let parts): parts.contains { isProductive($0, grammar) }
        case .loop(let part, let least, _): least == 0 || isProductive(part, grammar)
        case .call(let rule): isProductive[rule]
        }
    }

    /// A rule that begins with itself before any byte is read, if there is one.
    func leftRecursion(_ grammar: Expressions) -> Int? {
        var first: [[Int]] = []
        for rule in grammar.rules {
            var calls: Set<Int> = []
            begin(rule.body, grammar, &calls)
            first.append(calls.sorted())
        }
        // 0: not seen, 1: on the way, 2: done. Without recursion: a grammar may be as deep as it is long.
        var marks = [UInt8](repeating: 0, count: first.count)
        for start in first.indices where marks[start] == 0 {
            var path = [(rule: start, next: 0)]
            marks[start] = 1
            while let (rule, next) = path.last {
                guard next < first[rule].count else {
                    marks[rule] = 2
                    path.removeLast()
                    continue
                }
                path[path.count - 1].next += 1
                let call = first[rule][next]
                if marks[call] == 1 { return call }
                if marks[call] == 0 {
                    marks[call] = 1
                    path.append((call, 0))
                }
            }
        }
        return nil
    }

    /// The rules that may be called before a byte is read.
    private func begin(_ id: ExpressionID, _ grammar: Expressions, _ calls: inout Set<Int>) {
        switch grammar[id] {
        case .empty, .never, .bytes: break
        case .sequence(let parts):
            for part in parts {
                begin(part, grammar, &calls)
                if !isNullable(part, grammar) { break }
            }
        case .choice(let parts): for part in parts { begin(part, grammar, &calls) }
        case .loop(let part, _, _): begin(part, grammar, &calls)
        case .call(let rule): calls.insert(rule)
        }
    }
}

/// Makes repetitions repeat something only: (a?){2,5} becomes a{0,5}. Then every turn of a loop reads a byte.
struct LoopCleaning {
    private(set) var grammar: Expressions
    private let facts: ExpressionFacts
    private var cleaned: [ExpressionID: ExpressionID] = [:]
    private var nonEmpty: [ExpressionID: ExpressionID] = [:]
    /// The rule that matches what a rule matches, without the empty text.
    private var nonEmptyRules: [Int: Int] = [:]
    private var waiting: [(rule: Int, of: Int)] = []

    init(_ grammar: Expressions, _ facts: ExpressionFacts) {
        self.grammar = grammar
        self.facts = facts
        for rule in grammar.rules.indices {
            self.grammar.rules[rule].body = clean(grammar.rules[rule].body)
        }
        while let (rule, source) = waiting.popLast() {
            self.grammar.rules[rule].body = withoutEmpty(self.grammar.rules[source].body)
        }
    }

    private func isNullable(_ id: ExpressionID) -> Bool { facts.isNullable(id, grammar) }

    private mutating func clean(_ id: ExpressionID) -> ExpressionID {
        if let known = cleaned[id] { return known }
        let result: ExpressionID
        switch grammar[id] {
        case .empty, .never, .bytes, .call: result = id
        case .sequence(let parts):
            let parts = parts.map { clean($0) }
            result = grammar.sequence(parts)
        case .choice(let parts):
            let parts = parts.map { clean($0) }
            result = grammar.choice(parts)
        case .loop(let part, let least, let most):
            let part = clean(part)
            result =
                isNullable(part)
                ? grammar.loop(withoutEmpty(part), 0, most) : grammar.loop(part, least, most)
        }
        cleaned[id] = result
        return result
    }

    /// - Parameter id: cleaned.
    private mutating func withoutEmpty(_ id: ExpressionID) -> ExpressionID {
        if !isNullable(id) { return id }
        if let known = nonEmpty[id] { return known }
        let result: ExpressionID
        switch grammar[id] {
        case .empty, .never: result = Expressions.never
        case .bytes: result = id
        case .sequence(let parts):
            var choices: [ExpressionID] = []
            for (index, part) in parts.enumerated() {
                let head = withoutEmpty(part)
                choices.append(grammar.sequence([head] + parts[(index + 1)...]))
            }
            result = grammar.choice(choices)
        case .choice(let parts):
            let parts = parts.map { withoutEmpty($0) }
            result = grammar.choice(parts)
        case .loop(let part, _, let most): result = grammar.loop(part, 1, most)
        case .call(let rule):
            if let known = nonEmptyRules[rule] {
                result = grammar.call(known)
            } else {
                let new = grammar.rule(grammar.rules[rule].name)
                grammar.rules[new].isLexeme = grammar.rules[rule].isLexeme
                nonEmptyRules[rule] = new
                waiting.append((new, rule))
                result = grammar.call(new)
            }
        }
        nonEmpty[id] = result
        return result
    }
}
