// SPDX-License-Identifier: Apache-2.0
//
// Regular expressions: what ECMA-262 (with its u flag), Python and RE2 agree on, and nothing else. What they read differently, or
// what is not regular, is refused by its place.

/// Reads a pattern.
struct RegexParser {
    private var source: ScalarReader
    private var depth = 0

    /// The program of a pattern that a whole answer matches.
    static func program(_ bytes: [UInt8]) throws(GrammarError) -> Program {
        let node = try parse(bytes).anchored(searches: false)
        var grammar = Expressions()
        let root = grammar.rule("")
        // All of it is one lexeme: a finite automaton, whose states have no callers.
        grammar.rules[root].body = node.lowered(into: &grammar) { $1.scalar($0) }
        return try Program(grammar, root: root, place: "")
    }

    static func parse(_ bytes: [UInt8]) throws(GrammarError) -> RegexNode {
        var parser = RegexParser(source: try ScalarReader(bytes))
        let node = try parser.choice()
        guard parser.source.isAtEnd else { throw parser.source.error("')' closes no group") }
        return node
    }

    private init(source: ScalarReader) { self.source = source }

    private mutating func choice() throws(GrammarError) -> RegexNode {
        var parts = [try sequence()]
        while source.take("|") { parts.append(try sequence()) }
        return parts.count == 1 ? parts[0] : .choice(parts)
    }

    private mutating func sequence() throws(GrammarError) -> RegexNode {
        var parts: [RegexNode] = []
        while let next = source.peek, next != "|", next != ")" {
            let at = source.offset
            let atom = try atom()
            guard let (least, most) = try count() else {
                parts.append(atom)
                continue
            }
            if case .anchor = atom {
                throw GrammarError(byte: at, "an anchor cannot be repeated")
            }
            parts.append(.loop(atom, least: least, most: most))
        }
        return .sequence(parts)
    }

    private mutating func atom() throws(GrammarError) -> RegexNode {
        let at = source.offset
        guard let scalar = source.next() else { throw source.error("ends too early") }
        switch scalar {
        case "(": return try group(at)
        case "[": return .set(try set(at))
        case ".": return .set(.notLineEnds)
        case "^": return .anchor(isStart: true, at: at)
        case "$": return .anchor(isStart: false, at: at)
        case "\\": return .set(try escape(at, inSet: false))
        case "*", "+", "?": throw GrammarError(byte: at, "'\(scalar)' repeats nothing")
        case "{":
            throw GrammarError(byte: at, "'{' counts nothing; write \\{ for the character")
        default: return .set(ScalarSet(scalar))
        }
    }

    private mutating func group(_ at: Int) throws(GrammarError) -> RegexNode {
        depth += 1
        defer { depth -= 1 }
        guard depth <= GrammarLimits.groups else {
            throw GrammarError(byte: at, "more than \(GrammarLimits.groups) nested groups")
        }
        if source.take("?") { try groupKind(at) }
        let inner = try choice()
        guard source.take(")") else { throw GrammarError(byte: at, "the group does not end") }
        return inner
    }

    /// What follows "(?".
    private mutating func groupKind(_ at: Int) throws(GrammarError) {
        if source.take(":") { return }
        let isPython = source.take("P")
        guard source.take("<"), let first = source.peek, first != "=", first != "!" else {
            throw GrammarError(
                byte: at,
                "only (…), (?:…) and named groups are supported: no lookaround, flags, conditions or atomic groups"
            )
        }
        _ = isPython
        while let scalar = source.next() {
            if scalar == ">" { return }
            guard ScalarSet.words.contains(scalar) else { break }
        }
        throw GrammarError(byte: at, "the group's name is not letters, digits and '_'")
    }

    /// The count after an atom, if there is one.
    private mutating func count() throws(GrammarError) -> (Int, Int?)? {
        let at = source.offset
        let result: (Int, Int?)
        if source.take("*") {
            result = (0, nil)
        } else if source.take("+") {
            result = (1, nil)
        } else if source.take("?") {
            result = (0, 1)
        } else if source.take("{") {
            result = try source.bounds(at)
        } else {
            return nil
        }
        // Lazy or not, the same texts match.
        if source.take("?") { return result }
        if source.peek == "+" { throw source.error("possessive repetition is not supported") }
        if let next = source.peek, "*{".unicodeScalars.contains(next) {
            throw source.error("a repetition of a repetition; write a group")
        }
        return result
    }

    // MARK: Sets

    private mutating func set(_ at: Int) throws(GrammarError) -> ScalarSet {
        let inverts = source.take("^")
        var set = ScalarSet()
        if source.peek == "]" {
            throw GrammarError(
                byte: at, "a set that begins with ']': empty or not, engines disagree; write \\]")
        }
        while true {
            guard let scalar = source.peek else {
                throw GrammarError(byte: at, "the set does not end")
            }
            if source.take("]") { break }
            if source.begins(with: "&&") || source.begins(with: "[:") || source.begins(with: "--") {
                throw source.error("set operations and named sets are not supported")
            }
            let start = source.offset
            _ = source.next()
            let low = scalar == "\\" ? try escape(start, inSet: true) : ScalarSet(scalar)
            guard source.peek == "-", !source.begins(with: "-]") else {
                set = set.union(low)
                continue
            }
            _ = source.next()
            let highAt = source.offset
            guard let next = source.next() else {
                throw GrammarError(byte: at, "the set does not end")
            }
            let high = next == "\\" ? try escape(highAt, inSet: true) : ScalarSet(next)
            guard let from = low.only, let to = high.only, from <= to else {
                throw GrammarError(byte: start, "the range ends before it begins, or is none")
            }
            set = set.union(ScalarSet([from...to]))
        }
        return inverts ? set.inverted : set
    }

    private mutating func escape(_ at: Int, inSet: Bool) throws(GrammarError) -> ScalarSet {
        guard let scalar = source.next() else {
            throw GrammarError(byte: at, "'\\' escapes nothing")
        }
        switch scalar {
        case "d": return .digits
        case "D": return ScalarSet.digits.inverted
        case "w": return .words
        case "W": return ScalarSet.words.inverted
        case "s": return .spaces
        case "S": return ScalarSet.spaces.inverted
        case "n": return ScalarSet("\n")
        case "r": return ScalarSet("\r")
        case "t": return ScalarSet("\t")
        case "f": return ScalarSet("\u{0C}")
        case "v": return ScalarSet("\u{0B}")
        case "b" where inSet: return ScalarSet("\u{08}")
        case "0":
            if let next = source.peek, ScalarSet.digits.contains(next) { break }
            return ScalarSet("\0")
        case "x": return ScalarSet(try source.hex(2, at))
        case "u": return ScalarSet(try source.unicode(at))
        case "b", "B":
            throw GrammarError(byte: at, "'\\\(scalar)' (a word's edge) is not supported")
        case "p", "P":
            throw GrammarError(byte: at, "'\\\(scalar)' (Unicode properties) is not supported")
        case "1"..."9", "k":
            throw GrammarError(byte: at, "back references are not supported")
        case _ where !ScalarSet.words.contains(scalar) || scalar == "_":
            return ScalarSet(scalar)
        default: break
        }
        throw GrammarError(byte: at, "'\\\(scalar)' is not supported")
    }
}

extension ScalarSet {
    func contains(_ scalar: Unicode.Scalar) -> Bool {
        ranges.contains { $0.contains(scalar.value) }
    }

    /// The value, if there is only one.
    var only: UInt32? {
        ranges.count == 1 && ranges[0].count == 1 ? ranges[0].lowerBound : nil
    }
}
