// SPDX-License-Identifier: Apache-2.0
//
// JSON schemas to grammars. A value is written compactly: after "{", "[", "," and ":" and before "}" and "]" of what is not empty there
// may be one space or line feed, elsewhere none. Members stand in the order of `properties`; others follow. Every text that the grammar
// allows is valid JSON and obeys the schema; that some valid texts are not allowed (docs/grammar.md says which) costs no validity.

internal import ModelStore

struct SchemaCompiler {
    let branches: SchemaBranches
    var grammar = Expressions()
    /// The rule of each list of schemas that a value obeys together, by their places.
    private var rules: [String: Int] = [:]
    private var waiting: [(rule: Int, schemas: [LocatedSchema])] = []
    /// The first contradiction that was met: what a schema is refused for if nothing obeys it.
    private var contradiction: GrammarError?
    /// Parts that are the same everywhere.
    private(set) var space = Expressions.empty
    private var anyText: ExpressionID?
    /// Steps of intersections that may still be made.
    var steps = GrammarLimits.intersection

    static func program(_ bytes: [UInt8]) throws(GrammarError) -> Program {
        let document = try SchemaDocument(bytes)
        var compiler = SchemaCompiler(document)
        let root = compiler.rule(for: [document.root])
        while let (rule, schemas) = compiler.waiting.popLast() {
            compiler.grammar.rules[rule].body = try compiler.value(schemas)
            guard !compiler.grammar.overflows else {
                throw GrammarError(
                    schemas.first?.place ?? "#",
                    "the schema takes more than \(GrammarLimits.nodes) nodes up to here")
            }
        }
        if let contradiction = compiler.contradiction,
            !ExpressionFacts(compiler.grammar).isProductive[root]
        {
            throw contradiction
        }
        return try Program(compiler.grammar, root: root, place: "#")
    }

    private init(_ document: SchemaDocument) {
        branches = SchemaBranches(document: document)
        var blank = ByteSet(UInt8(ascii: " "))
        blank.insert(UInt8(ascii: "\n"))
        space = grammar.optional(grammar.bytes(blank))
    }

    private mutating func rule(for schemas: [LocatedSchema]) -> Int {
        // `true` says nothing.
        let schemas = schemas.filter { $0.schema.bool != true }
        let key = schemas.map(\.place).joined(separator: "\n")
        if let known = rules[key] { return known }
        let rule = grammar.rule(schemas.first?.place ?? "#")
        rules[key] = rule
        waiting.append((rule, schemas))
        return rule
    }

    /// A value that obeys all of these.
    mutating func call(_ schemas: [LocatedSchema]) -> ExpressionID {
        grammar.call(rule(for: schemas))
    }

    /// Nothing obeys what stands at `place`.
    mutating func never(_ place: String, _ problem: String) -> ExpressionID {
        contradiction = contradiction ?? GrammarError(place, problem)
        return Expressions.never
    }

    // MARK: Values

    private mutating func value(_ schemas: [LocatedSchema]) throws(GrammarError) -> ExpressionID {
        var choices: [ExpressionID] = []
        for shape in try branches.shapes(schemas) { choices.append(try value(shape)) }
        return grammar.choice(choices)
    }

    private mutating func value(_ shape: SchemaShape) throws(GrammarError) -> ExpressionID {
        if shape.isImpossible { return never(shape.place, "the schema is false: nothing obeys it") }
        if let values = shape.values { return try oneOf(values, shape) }
        var choices: [ExpressionID] = []
        if shape.types.contains(.null) { choices.append(grammar.literal("null")) }
        if shape.types.contains(.boolean) {
            choices.append(grammar.literal("true"))
            choices.append(grammar.literal("false"))
        }
        if shape.types.contains(.integer) { choices.append(try number(shape)) }
        if shape.types.contains(.string) { choices.append(try string(shape)) }
        if shape.types.contains(.array) { choices.append(array(shape)) }
        if shape.types.contains(.object) { choices.append(try object(shape)) }
        guard !shape.types.isEmpty else {
            return never(shape.place, "its schemas have no type in common")
        }
        return grammar.choice(choices)
    }

    /// One of some given values.
    private mutating func oneOf(
        _ values: [JSON], _ shape: SchemaShape
    ) throws(GrammarError) -> ExpressionID {
        var choices: [ExpressionID] = []
        for value in values where try admits(shape, value) {
            choices.append(try literal(value, shape))
        }
        guard !choices.isEmpty else {
            return never(shape.place, "none of the values obeys the rest of the schema")
        }
        return grammar.choice(choices)
    }

    /// Whether a value of `enum` or `const` obeys what stands beside it.
    private func admits(_ shape: SchemaShape, _ value: JSON) throws(GrammarError) -> Bool {
        let type = JSONTypes(of: value)
        guard shape.types.contains(type) else { return false }
        switch value {
        case .null, .bool: return true
        case .integer, .number:
            guard let number = Decimal(value) else {
                throw GrammarError(shape.place, "\(value.brief) among its values is not finite")
            }
            return shape.range.contains(number) && (!shape.range.isWhole || type == .integer)
        case .string(let text):
            let length = text.unicodeScalars.count
            guard length >= shape.minLength, length <= shape.maxLength ?? length else {
                return false
            }
            for pattern in shape.patterns where try !pattern.matches(text) { return false }
            return true
        case .array, .object:
            guard !shape.limitsContainers else {
                throw GrammarError(
                    shape.place,
                    "a list or an object among its values, beside keywords for them: not supported")
            }
            return true
        }
    }

    /// A given value.
    private mutating func literal(
        _ value: JSON, _ shape: SchemaShape
    ) throws(GrammarError) -> ExpressionID {
        switch value {
        case .string(let text): return quoted(text)
        case .array(let items):
            var parts: [ExpressionID] = []
            for item in items { parts.append(try literal(item, shape)) }
            return bracketed("[", parts, "]")
        case .object(let members):
            var parts: [ExpressionID] = []
            for member in members {
                parts.append(
                    grammar.sequence([
                        quoted(member.name), grammar.literal(":"), space,
                        try literal(member.value, shape),
                    ]))
            }
            return bracketed("{", parts, "}")
        case .number(let number):
            guard number.isFinite else {
                throw GrammarError(shape.place, "\(value.brief) among its values is not finite")
            }
            return grammar.literal(Int(exactly: number).map(String.init) ?? number.description)
        case .null, .bool, .integer: return grammar.literal(value.writtenCompactly())
        }
    }

    private mutating func bracketed(
        _ open: String, _ parts: [ExpressionID], _ close: String
    ) -> ExpressionID {
        var all = [grammar.literal(open)]
        for (index, part) in parts.enumerated() {
            all += [index == 0 ? Expressions.empty : grammar.literal(","), space, part]
        }
        if !parts.isEmpty { all.append(space) }
        return grammar.sequence(all + [grammar.literal(close)])
    }

    // MARK: Texts

    /// A text in quotes, written in the one way that `JSONText` writes it.
    mutating func quoted(_ text: String) -> ExpressionID {
        grammar.literal(JSONText.quoted(text))
    }

    private mutating func string(_ shape: SchemaShape) throws(GrammarError) -> ExpressionID {
        if let most = shape.maxLength, most < shape.minLength {
            return never(
                shape.place,
                "its schemas ask for at least \(shape.minLength) and at most \(most) characters")
        }
        if shape.patterns.isEmpty {
            if shape.minLength == 0, shape.maxLength == nil { return freeText() }
            let inner = grammar.loop(
                JSONText.character(in: &grammar), shape.minLength, shape.maxLength)
            return quotedLexeme(shape.place, inner)
        }
        // Counting what has no bound of its own takes many steps.
        let patterns = shape.patterns.map { text in
            shape.maxLength.flatMap { most in
                text.format.flatMap { SchemaFormats.short($0, within: most) }
            } ?? text.pattern
        }
        let lengths = patterns.map(\.lengths)
        // Bounds that the patterns keep by themselves are not intersected.
        let least = lengths.contains { $0.least >= shape.minLength } ? 0 : shape.minLength
        let most = shape.maxLength.flatMap { bound in
            lengths.contains { $0.most.map { $0 <= bound } ?? false } ? nil : bound
        }
        let isCounted = least > 0 || most != nil
        if patterns.count == 1, !isCounted {
            let inner = patterns[0].lowered(into: &grammar, JSONText.scalar)
            return quotedLexeme(shape.place, inner)
        }
        var nodes = patterns
        if isCounted { nodes.append(.loop(.any, least: least, most: most)) }
        guard let inner = try Intersection.expression(of: nodes, in: &grammar, &steps, shape.place)
        else {
            return never(shape.place, "its patterns, formats and lengths have no text in common")
        }
        return quotedLexeme(shape.place, inner)
    }

    private mutating func quotedLexeme(_ place: String, _ inner: ExpressionID) -> ExpressionID {
        let quote = grammar.literal("\"")
        return grammar.lexeme(place, grammar.sequence([quote, inner, quote]))
    }

    /// Any string.
    mutating func freeText() -> ExpressionID {
        if let anyText { return anyText }
        let character = JSONText.character(in: &grammar)
        let text = quotedLexeme("#", grammar.loop(character, 0, nil))
        anyText = text
        return text
    }
}

extension SchemaShape.Text {
    /// Whether a text matches.
    fileprivate func matches(_ text: String) throws(GrammarError) -> Bool {
        try pattern.matches(text, place)
    }
}

extension RegexNode {
    /// Whether a whole text matches.
    func matches(_ text: String, _ place: String) throws(GrammarError) -> Bool {
        var grammar = Expressions()
        let root = grammar.rule(place)
        grammar.rules[root].body = lowered(into: &grammar) { $1.scalar($0) }
        guard ExpressionFacts(grammar).isProductive[root] else { return false }
        let program = try Program(grammar, root: root, place: place)
        do {
            let machine = try Machine(program)
            var state = try machine.start()
            for byte in text.utf8 { state = try machine.step(state, byte) }
            return state.accepts
        } catch { throw GrammarError(place, "it is too ambiguous") }
    }
}
