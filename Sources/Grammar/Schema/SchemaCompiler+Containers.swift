// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

extension SchemaCompiler {
    // MARK: Lists

    mutating func array(_ shape: SchemaShape) -> ExpressionID {
        if let most = shape.maxItems, most < shape.minItems {
            return never(
                shape.place,
                "its schemas ask for at least \(shape.minItems) and at most \(most) items")
        }
        let item = call(shape.items)
        let separator = grammar.sequence([grammar.literal(","), space])
        let close = grammar.sequence([space, grammar.literal("]")])
        let next = grammar.sequence([separator, item])
        let count = shape.prefix.count
        // From the end: what follows the first `index` items.
        var rest: ExpressionID
        let least = max(0, shape.minItems - count)
        let most = shape.maxItems.map { max(0, $0 - count) }
        if count > 0 {
            rest = grammar.sequence([grammar.loop(next, least, most), close])
        } else {
            let more = most.map { max(0, $0 - 1) }
            rest = grammar.sequence([
                space, item, grammar.loop(next, max(0, least - 1), more), close,
            ])
            if most == 0 { rest = Expressions.never }
            if least == 0 { rest = grammar.choice([grammar.literal("]"), rest]) }
        }
        for index in shape.prefix.indices.reversed() {
            let rule = grammar.rule(shape.place)
            let before = index == 0 ? space : separator
            var choices: [ExpressionID] = []
            if index < shape.maxItems ?? .max {
                choices.append(grammar.sequence([before, call(shape.prefix[index]), rest]))
            }
            if index >= shape.minItems {
                choices.append(index == 0 ? grammar.literal("]") : close)
            }
            grammar.rules[rule].body = grammar.choice(choices)
            rest = grammar.call(rule)
        }
        return grammar.sequence([grammar.literal("["), rest])
    }

    // MARK: Objects

    /// A place in an object: before property `next`, after `written` members.
    private struct Point: Hashable {
        let next: Int
        let written: Int
    }

    /// What an object is made of.
    private struct Members {
        /// Named ones, in order: a member's name and value, and whether it must be there.
        var named: [(member: ExpressionID, isRequired: Bool)] = []
        /// Any other; `never` if there are none.
        var other = Expressions.never
        var least = 0
        var most: Int?
        let separator, space, close: ExpressionID
        let end: ExpressionID
        let place: String
        /// Members are counted as far as a bound asks for it, and always whether there is one.
        var counted: Int { max(1, least, most ?? 0) }
    }

    mutating func object(_ shape: SchemaShape) throws(GrammarError) -> ExpressionID {
        if let most = shape.maxProperties, most < shape.minProperties {
            return never(
                shape.place,
                "its schemas ask for at least \(shape.minProperties) and at most \(most) members")
        }
        var properties = shape.properties
        for name in shape.required where shape.property(name) == nil {
            properties.append(SchemaShape.Property(name: name, schemas: shape.additional))
        }
        var members = Members(
            least: shape.minProperties, most: shape.maxProperties,
            separator: grammar.sequence([grammar.literal(","), space]), space: space,
            close: grammar.sequence([space, grammar.literal("}")]), end: grammar.literal("}"),
            place: shape.place)
        for property in properties {
            var schemas = property.schemas
            for pattern in shape.patternProperties
            where try pattern.pattern.matches(property.name, pattern.schema.place) {
                // Named by its pattern, it is no additional one.
                if shape.property(property.name) == nil {
                    schemas.removeAll { schema in
                        shape.additional.contains { $0.place == schema.place }
                    }
                }
                schemas.append(pattern.schema)
            }
            let value = call(schemas)
            members.named.append(
                (member(quoted(property.name), value), shape.requires(property.name)))
        }
        members.other = try others(shape, properties)
        if members.least > properties.count {
            throw GrammarError(
                "\(shape.place)/minProperties",
                "\(members.least), with \(properties.count) properties: names that are free may repeat, so they do not count"
            )
        }
        guard properties.count * (members.counted + 1) <= GrammarLimits.members else {
            throw GrammarError(
                shape.place,
                "\(properties.count) properties counted up to \(members.counted): more than \(GrammarLimits.members) combinations"
            )
        }
        return grammar.sequence([grammar.literal("{"), chain(members)])
    }

    private mutating func member(_ name: ExpressionID, _ value: ExpressionID) -> ExpressionID {
        grammar.sequence([name, grammar.literal(":"), space, value])
    }

    /// A member that no property names.
    private mutating func others(
        _ shape: SchemaShape, _ properties: [SchemaShape.Property]
    ) throws(GrammarError) -> ExpressionID {
        let names = properties.map(\.name)
        for name in names where name.unicodeScalars.count > GrammarLimits.nameLength {
            throw GrammarError(
                shape.place,
                "the property '\(name.quoted)' has more than \(GrammarLimits.nameLength) characters"
            )
        }
        let isClosed = shape.additional.contains { $0.schema.bool == false }
        guard shape.patternProperties.isEmpty else {
            return try patternMembers(shape, names, isClosed: isClosed)
        }
        if isClosed { return Expressions.never }
        let name: ExpressionID
        if names.isEmpty {
            name = freeText()
        } else {
            let free = JSONText.name(except: names, in: &grammar)
            name = grammar.lexeme(shape.place, free)
        }
        return member(name, call(shape.additional))
    }

    /// Members by the patterns that their names match: each set of patterns is a case of its own.
    private mutating func patternMembers(
        _ shape: SchemaShape, _ names: [String], isClosed: Bool
    ) throws(GrammarError) -> ExpressionID {
        let patterns = shape.patternProperties
        guard patterns.count <= 4 else {
            throw GrammarError(
                "\(shape.place)/patternProperties",
                "\(patterns.count) patterns; at most 4 are supported")
        }
        var choices: [ExpressionID] = []
        for cell in 0..<(1 << patterns.count) {
            let inside = patterns.indices.filter { cell >> $0 & 1 == 1 }
            if inside.isEmpty, isClosed { continue }
            let name = try Intersection.expression(
                of: inside.map { patterns[$0].pattern },
                outside: patterns.indices.filter { cell >> $0 & 1 == 0 }.map {
                    patterns[$0].pattern
                }
                    + names.map { RegexNode.literal($0) },
                in: &grammar, &steps, shape.place)
            guard let name else { continue }
            let quote = grammar.literal("\"")
            let lexeme = grammar.lexeme(shape.place, grammar.sequence([quote, name, quote]))
            let schemas = inside.isEmpty ? shape.additional : inside.map { patterns[$0].schema }
            choices.append(member(lexeme, call(schemas)))
        }
        return grammar.choice(choices)
    }

    /// Named members in their order, then others. A rule for each place, so that nothing nests.
    private mutating func chain(_ members: Members) -> ExpressionID {
        var rules: [Point: Int] = [:]
        // Every place first, from the last backwards; then what follows it.
        let counts = 0...members.counted
        for next in (0...members.named.count).reversed() {
            for written in counts where written <= next {
                rules[Point(next: next, written: written)] = grammar.rule(members.place)
            }
        }
        for (point, rule) in rules {
            grammar.rules[rule].body = body(at: point, members, rules)
        }
        return grammar.call(rules[Point(next: 0, written: 0)] ?? 0)
    }

    private mutating func body(
        at point: Point, _ members: Members, _ rules: [Point: Int]
    ) -> ExpressionID {
        let before = point.written == 0 ? members.space : members.separator
        let written = min(point.written + 1, members.counted)
        let isFull = members.most.map { point.written >= $0 } ?? false
        func go(_ next: Int, _ written: Int, _ grammar: inout Expressions) -> ExpressionID {
            grammar.call(rules[Point(next: next, written: written)] ?? 0)
        }
        guard point.next < members.named.count else {
            return rest(after: point.written, isFull: isFull, members)
        }
        let (member, isRequired) = members.named[point.next]
        var choices: [ExpressionID] = []
        if !isFull {
            choices.append(
                grammar.sequence([before, member, go(point.next + 1, written, &grammar)]))
        }
        if !isRequired { choices.append(go(point.next + 1, point.written, &grammar)) }
        return grammar.choice(choices)
    }

    /// What follows the named members.
    private mutating func rest(
        after written: Int, isFull: Bool, _ members: Members
    ) -> ExpressionID {
        // Names that are free may repeat, so they do not help to reach the least count.
        guard written >= members.least else { return Expressions.never }
        let close = written == 0 ? members.end : members.close
        guard !isFull, members.other != Expressions.never else { return close }
        let left = members.most.map { $0 - written }
        let next = grammar.sequence([members.separator, members.other])
        if written > 0 { return grammar.sequence([grammar.loop(next, 0, left), members.close]) }
        let first = grammar.sequence([
            members.space, members.other, grammar.loop(next, 0, left.map { $0 - 1 }), members.close,
        ])
        return grammar.choice([close, first])
    }
}
