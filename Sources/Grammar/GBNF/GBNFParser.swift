// SPDX-License-Identifier: Apache-2.0
//
// GBNF as llama.cpp's grammars/README.md describes it: rules `name ::= alternatives`, of texts in quotes, sets in brackets, `.`,
// names, groups and repetitions; comments after `#`. A rule ends with its line, but for groups and after `::=` and `|`. Refused: left
// recursion, names that have no rule or two, rules that no text can complete.

/// Reads a grammar.
struct GBNFParser {
    private var source: ScalarReader
    private var grammar = Expressions()
    private var rules: [String: Int] = [:]
    /// Where each name was met first.
    private var uses: [String: Int] = [:]
    private var defined: Set<String> = []
    private var depth = 0

    static func program(_ bytes: [UInt8]) throws(GrammarError) -> Program {
        var parser = GBNFParser(source: try ScalarReader(bytes))
        let root = try parser.parse()
        return try Program(parser.grammar, root: root, place: "")
    }

    private init(source: ScalarReader) { self.source = source }

    private mutating func parse() throws(GrammarError) -> Int {
        skip(lines: true)
        while !source.isAtEnd {
            try rule()
            skip(lines: true)
        }
        for (name, at) in uses.sorted(by: { $0.value < $1.value }) where !defined.contains(name) {
            throw GrammarError(byte: at, "'\(name)' has no rule")
        }
        guard let root = rules["root"], defined.contains("root") else {
            throw GrammarError("", "there is no rule 'root'")
        }
        let facts = ExpressionFacts(grammar)
        for rule in grammar.rules.indices where !facts.isProductive[rule] {
            throw GrammarError(
                grammar.rules[rule].name,
                "no text can complete it: every alternative goes on for ever")
        }
        findLexemes(root)
        return root
    }

    /// Rules that call nothing, and are called, are lexemes; so are those that call only small ones of that kind.
    private mutating func findLexemes(_ root: Int) {
        for rule in grammar.rules.indices where rule != root {
            let body = grammar.rules[rule].body
            if !grammar.calls(body) { grammar.rules[rule].isLexeme = true }
        }
    }

    private mutating func number(of name: String, _ at: Int) -> Int {
        if let known = rules[name] { return known }
        let rule = grammar.rule("rule '\(name)'")
        rules[name] = rule
        uses[name] = at
        return rule
    }

    private mutating func rule() throws(GrammarError) {
        let at = source.offset
        guard let name = name() else { throw source.error("a rule's name is missing") }
        skip(lines: false)
        guard source.take("::=") else { throw source.error("'::=' is missing after '\(name)'") }
        guard defined.insert(name).inserted else {
            throw GrammarError(byte: at, "'\(name)' has a rule already")
        }
        let rule = number(of: name, at)
        grammar.rules[rule].name = "byte \(at), rule '\(name)'"
        skip(lines: true)
        let body = try choice(isNested: false)
        grammar.rules[rule].body = body
        guard source.isAtEnd || source.peek == "\n" || source.peek == "\r" else {
            throw source.error("the end of the line is missing after the rule '\(name)'")
        }
    }

    private mutating func name() -> String? {
        var name = String.UnicodeScalarView()
        while let scalar = source.peek, Self.isNamePart(scalar) {
            name.append(scalar)
            _ = source.next()
        }
        return name.isEmpty ? nil : String(name)
    }

    private static func isNamePart(_ scalar: Unicode.Scalar) -> Bool {
        scalar == "-" || ScalarSet.words.contains(scalar)
    }

    private mutating func skip(lines: Bool) {
        while let scalar = source.peek {
            switch scalar {
            case " ", "\t": _ = source.next()
            case "\n" where lines, "\r" where lines: _ = source.next()
            case "#":
                while let next = source.peek, next != "\n", next != "\r" { _ = source.next() }
            default: return
            }
        }
    }

    private mutating func choice(isNested: Bool) throws(GrammarError) -> ExpressionID {
        var parts = [try sequence(isNested)]
        while source.take("|") {
            skip(lines: true)
            parts.append(try sequence(isNested))
        }
        return grammar.choice(parts)
    }

    private mutating func sequence(_ isNested: Bool) throws(GrammarError) -> ExpressionID {
        var parts: [ExpressionID] = []
        while let atom = try atom() {
            skip(lines: isNested)
            parts.append(try repeated(atom, isNested))
        }
        return grammar.sequence(parts)
    }

    private mutating func atom() throws(GrammarError) -> ExpressionID? {
        let at = source.offset
        switch source.peek {
        case "\""?:
            _ = source.next()
            return try text(at)
        case "["?:
            _ = source.next()
            return grammar.scalar(try set(at))
        case "."?:
            _ = source.next()
            return grammar.scalar(.all)
        case "("?:
            _ = source.next()
            depth += 1
            defer { depth -= 1 }
            guard depth <= GrammarLimits.groups else {
                throw GrammarError(byte: at, "more than \(GrammarLimits.groups) nested groups")
            }
            skip(lines: true)
            let inner = try choice(isNested: true)
            guard source.take(")") else { throw GrammarError(byte: at, "the group does not end") }
            return inner
        case let scalar? where Self.isNamePart(scalar):
            let name = name() ?? ""
            return grammar.call(number(of: name, at))
        case nil, "|"?, ")"?, "\n"?, "\r"?: return nil
        case let scalar?: throw source.error("'\(scalar)' is not supported")
        }
    }

    private mutating func repeated(
        _ atom: ExpressionID, _ isNested: Bool
    ) throws(GrammarError) -> ExpressionID {
        var result = atom
        while true {
            let at = source.offset
            let bounds: (Int, Int?)
            if source.take("*") {
                bounds = (0, nil)
            } else if source.take("+") {
                bounds = (1, nil)
            } else if source.take("?") {
                bounds = (0, 1)
            } else if source.take("{") {
                bounds = try source.bounds(at)
            } else {
                return result
            }
            result = grammar.loop(result, bounds.0, bounds.1)
            skip(lines: isNested)
        }
    }

    private mutating func text(_ at: Int) throws(GrammarError) -> ExpressionID {
        var bytes: [UInt8] = []
        while let scalar = source.peek {
            if source.take("\"") { return grammar.literal(bytes) }
            bytes += Array(String(Character(try character(scalar))).utf8)
        }
        throw GrammarError(byte: at, "the text does not end")
    }

    private mutating func set(_ at: Int) throws(GrammarError) -> ScalarSet {
        let inverts = source.take("^")
        var ranges: [ClosedRange<UInt32>] = []
        while let scalar = source.peek {
            if source.take("]") {
                return inverts ? ScalarSet(ranges).inverted : ScalarSet(ranges)
            }
            let start = source.offset
            let low = try character(scalar).value
            var high = low
            if source.peek == "-", !source.begins(with: "-]") {
                _ = source.next()
                guard let next = source.peek else { break }
                high = try character(next).value
            }
            guard low <= high else {
                throw GrammarError(byte: start, "the range ends before it begins")
            }
            ranges.append(low...high)
        }
        throw GrammarError(byte: at, "the set does not end")
    }

    /// One character of a text or set, escaped or not.
    private mutating func character(_ first: Unicode.Scalar) throws(GrammarError) -> Unicode.Scalar
    {
        let at = source.offset
        _ = source.next()
        guard first == "\\" else { return first }
        guard let scalar = source.next() else {
            throw GrammarError(byte: at, "'\\' escapes nothing")
        }
        switch scalar {
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "\\", "\"", "[", "]": return scalar
        case "x": return try source.hex(2, at)
        case "u": return try source.hex(4, at)
        case "U": return try source.hex(8, at)
        default: throw GrammarError(byte: at, "'\\\(scalar)' is not supported")
        }
    }
}
