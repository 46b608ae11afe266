// SPDX-License-Identifier: Apache-2.0

extension Parser {
    private func made(
        _ kind: Expression.Kind, _ position: TemplatePosition, over parts: Int...
    ) throws(TemplateError) -> Expression {
        let depth = 1 + (parts.max() ?? 0)
        guard depth <= TemplateLimits.nesting else { throw Self.tooDeep(position) }
        return Expression(kind: kind, position: position, depth: depth)
    }

    func isTupleEnd(_ ends: [String]) -> Bool {
        switch token.kind {
        case .variableEnd, .blockEnd, .symbol(.rightParenthesis): true
        case .name(let name): ends.contains(name)
        default: false
        }
    }

    /// Expressions between commas are a tuple, one without a comma is itself.
    mutating func tuple(
        hasConditions: Bool = true, until ends: [String] = [], isInParentheses: Bool = false
    ) throws(TemplateError) -> Expression {
        let begin = position
        var items: [Expression] = []
        var isTuple = false
        while true {
            if !items.isEmpty { try expect(.comma) }
            if isTupleEnd(ends) { break }
            items.append(try expression(hasConditions: hasConditions))
            guard isSymbol(.comma) else { break }
            isTuple = true
        }
        if !isTuple, let first = items.first { return first }
        guard isTuple || isInParentheses else { throw unexpected("an expression") }
        return try made(.tuple(items), begin, over: items.map(\.depth).max() ?? 0)
    }

    mutating func expression(hasConditions: Bool = true) throws(TemplateError) -> Expression {
        try nested { (parser) throws(TemplateError) in
            hasConditions ? try parser.conditional() : try parser.or()
        }
    }

    private mutating func conditional() throws(TemplateError) -> Expression {
        let begin = position
        var value = try or()
        while skip(name: "if") {
            let test = try or()
            let otherwise = skip(name: "else") ? try expression() : nil
            value = try made(
                .conditional(value, test: test, otherwise: otherwise), begin, over: value.depth,
                test.depth, otherwise?.depth ?? 0)
        }
        return value
    }

    private mutating func or() throws(TemplateError) -> Expression {
        var left = try and()
        while isName("or") {
            let place = position
            advance()
            let right = try and()
            left = try made(.or(left, right), place, over: left.depth, right.depth)
        }
        return left
    }

    private mutating func and() throws(TemplateError) -> Expression {
        var left = try not()
        while isName("and") {
            let place = position
            advance()
            let right = try not()
            left = try made(.and(left, right), place, over: left.depth, right.depth)
        }
        return left
    }

    private mutating func not() throws(TemplateError) -> Expression {
        guard isName("not") else { return try comparison() }
        let place = position
        advance()
        let value = try nested { (parser) throws(TemplateError) in try parser.not() }
        return try made(.not(value), place, over: value.depth)
    }

    private mutating func comparison() throws(TemplateError) -> Expression {
        let begin = position
        let first = try sum()
        var others: [(Expression.Comparison, Expression)] = []
        while true {
            let comparison: Expression.Comparison
            switch token.kind {
            case .symbol(.equal): comparison = .equal
            case .symbol(.notEqual): comparison = .notEqual
            case .symbol(.less): comparison = .less
            case .symbol(.lessOrEqual): comparison = .lessOrEqual
            case .symbol(.greater): comparison = .greater
            case .symbol(.greaterOrEqual): comparison = .greaterOrEqual
            case .name("in"): comparison = .isIn
            case .name("not") where isName("in", ahead: 1):
                comparison = .isNotIn
                advance()
            default:
                guard !others.isEmpty else { return first }
                return try made(
                    .comparison(first, others), begin, over: first.depth,
                    others.map(\.1.depth).max() ?? 0)
            }
            advance()
            others.append((comparison, try sum()))
        }
    }

    private mutating func sum() throws(TemplateError) -> Expression {
        var left = try concatenation()
        while isSymbol(.add) || isSymbol(.subtract) {
            let place = position
            let operation: Expression.Arithmetic = isSymbol(.add) ? .add : .subtract
            advance()
            let right = try concatenation()
            left = try made(
                .arithmetic(operation, left, right), place, over: left.depth, right.depth)
        }
        return left
    }

    private mutating func concatenation() throws(TemplateError) -> Expression {
        let begin = position
        var parts = [try product()]
        while skip(.tilde) { parts.append(try product()) }
        if parts.count == 1 { return parts[0] }
        return try made(.concatenation(parts), begin, over: parts.map(\.depth).max() ?? 0)
    }

    private mutating func product() throws(TemplateError) -> Expression {
        var left = try power()
        while true {
            let place = position
            let operation: Expression.Arithmetic
            switch token.kind {
            case .symbol(.multiply): operation = .multiply
            case .symbol(.divide): operation = .divide
            case .symbol(.floorDivide): operation = .floorDivide
            case .symbol(.modulo): operation = .modulo
            default: return left
            }
            advance()
            let right = try power()
            left = try made(
                .arithmetic(operation, left, right), place, over: left.depth, right.depth)
        }
    }

    private mutating func power() throws(TemplateError) -> Expression {
        var left = try unary()
        while isSymbol(.power) {
            let place = position
            advance()
            let right = try unary()
            left = try made(.arithmetic(.power, left, right), place, over: left.depth, right.depth)
        }
        return left
    }

    private mutating func unary(hasFilters: Bool = true) throws(TemplateError) -> Expression {
        let begin = position
        var value: Expression
        if isSymbol(.subtract) || isSymbol(.add) {
            let isNegative = isSymbol(.subtract)
            advance()
            value = try nested { (parser) throws(TemplateError) in
                try parser.unary(hasFilters: false)
            }
            value = try made(
                isNegative ? .negative(value) : .positive(value), begin, over: value.depth)
        } else {
            value = try primary()
        }
        value = try postfix(value)
        return hasFilters ? try filtersAndTests(value) : value
    }

    private mutating func primary() throws(TemplateError) -> Expression {
        let begin = position
        switch token.kind {
        case .name(let name):
            advance()
            switch name {
            case "true", "True": return try made(.bool(true), begin)
            case "false", "False": return try made(.bool(false), begin)
            case "none", "None": return try made(.none, begin)
            default:
                mentioned.append(name)
                return try made(.name(number(name)), begin)
            }
        case .string(var text):
            advance()
            while case .string(let more) = token.kind {
                text.scalars += more.scalars
                advance()
            }
            return try made(.text(text), begin)
        case .integer(let value):
            advance()
            return try made(.integer(value), begin)
        case .float(let value):
            advance()
            return try made(.float(value), begin)
        case .symbol(.leftParenthesis):
            advance()
            let value = try tuple(isInParentheses: true)
            try expect(.rightParenthesis)
            return value
        case .symbol(.leftBracket):
            advance()
            var items: [Expression] = []
            while !isSymbol(.rightBracket) {
                if !items.isEmpty { try expect(.comma) }
                if isSymbol(.rightBracket) { break }
                items.append(try expression())
            }
            advance()
            return try made(.list(items), begin, over: items.map(\.depth).max() ?? 0)
        case .symbol(.leftBrace): return try dictionary()
        default: throw unexpected("an expression")
        }
    }

    private mutating func dictionary() throws(TemplateError) -> Expression {
        let begin = position
        advance()
        var pairs: [(key: Expression, value: Expression)] = []
        while !isSymbol(.rightBrace) {
            if !pairs.isEmpty { try expect(.comma) }
            if isSymbol(.rightBrace) { break }
            let key = try expression()
            try expect(.colon)
            pairs.append((key, try expression()))
        }
        advance()
        return try made(
            .dictionary(pairs), begin,
            over: pairs.map { Swift.max($0.key.depth, $0.value.depth) }.max() ?? 0)
    }

    // MARK: What stands behind a value

    private mutating func postfix(_ value: Expression) throws(TemplateError) -> Expression {
        var value = value
        while true {
            switch token.kind {
            case .symbol(.dot): value = try attribute(of: value)
            case .symbol(.leftBracket): value = try item(of: value)
            case .symbol(.leftParenthesis): value = try call(value)
            default: return value
            }
        }
    }

    private mutating func attribute(of value: Expression) throws(TemplateError) -> Expression {
        let place = position
        advance()
        if case .integer(let number) = token.kind {
            let key = try made(.integer(number), position)
            advance()
            return try made(.item(value, key), place, over: value.depth)
        }
        let name = try expectName()
        guard !name.hasPrefix("_") else {
            throw TemplateError(
                .unsupported, "the attribute '\(name)': those that begin with '_' are closed",
                at: place)
        }
        guard isSymbol(.leftParenthesis) else {
            return try made(.attribute(value, Text(name)), place, over: value.depth)
        }
        guard let method = Method(rawValue: name) else {
            throw TemplateError(
                .unsupported,
                Method.changing.contains(name)
                    ? "the method '\(name)', which would change a value (Jinja's sandbox refuses it too)"
                    : "the method '\(name)'", at: place)
        }
        let arguments = try arguments()
        return try made(
            .method(value, method, arguments), place, over: value.depth, arguments.depth)
    }

    private mutating func item(of value: Expression) throws(TemplateError) -> Expression {
        let place = position
        advance()
        func bound(_ parser: inout Parser) throws(TemplateError) -> Expression? {
            switch parser.token.kind {
            case .symbol(.colon), .symbol(.rightBracket), .symbol(.comma): nil
            default: try parser.expression()
            }
        }
        if isSymbol(.rightBracket) { throw unexpected("an expression") }
        let first = isSymbol(.colon) ? nil : try expression()
        if isSymbol(.colon) {
            advance()
            let to = try bound(&self)
            let step = skip(.colon) ? try bound(&self) : nil
            guard !isSymbol(.comma) else {
                throw TemplateError(.unsupported, "several slices at once", at: position)
            }
            try expect(.rightBracket)
            return try made(
                .slice(value, from: first, to: to, step: step), place, over: value.depth,
                first?.depth ?? 0, to?.depth ?? 0, step?.depth ?? 0)
        }
        guard let first else { throw unexpected("an expression") }
        guard isSymbol(.comma) else {
            try expect(.rightBracket)
            return try made(.item(value, first), place, over: value.depth, first.depth)
        }
        var keys = [first]
        while skip(.comma) {
            if isSymbol(.rightBracket) { break }
            keys.append(try expression())
        }
        try expect(.rightBracket)
        // `x[1,]` is `x[1]` to Jinja.
        let key =
            keys.count == 1
            ? first : try made(.tuple(keys), place, over: keys.map(\.depth).max() ?? 0)
        return try made(.item(value, key), place, over: value.depth, key.depth)
    }

    private mutating func call(_ function: Expression) throws(TemplateError) -> Expression {
        let place = position
        if case .name(let name) = function.kind {
            called.append((labels[name], function.position))
        }
        let arguments = try arguments()
        return try made(
            .call(function, arguments), place, over: function.depth, arguments.depth)
    }

    private mutating func arguments() throws(TemplateError) -> Expression.Arguments {
        let begin = position
        try expect(.leftParenthesis)
        var arguments = Expression.Arguments()
        var isFirst = true
        func ensure(_ isSo: Bool) throws(TemplateError) {
            guard isSo else {
                throw TemplateError(.syntax, "arguments in an order that is none", at: begin)
            }
        }
        while !isSymbol(.rightParenthesis) {
            if !isFirst {
                try expect(.comma)
                if isSymbol(.rightParenthesis) { break }
            }
            isFirst = false
            if skip(.multiply) {
                try ensure(arguments.list == nil && arguments.mapping == nil)
                arguments.list = try expression()
            } else if skip(.power) {
                try ensure(arguments.mapping == nil)
                arguments.mapping = try expression()
            } else if case .name(let name) = token.kind, isSymbol(.assign, ahead: 1) {
                try ensure(arguments.mapping == nil)
                advance()
                advance()
                let place = position
                guard !arguments.keyword.contains(where: { $0.name == name }) else {
                    throw TemplateError(.syntax, "the argument '\(name)' twice", at: place)
                }
                arguments.keyword.append((name, try expression()))
            } else {
                try ensure(
                    arguments.list == nil && arguments.mapping == nil && arguments.keyword.isEmpty)
                arguments.positional.append(try expression())
            }
        }
        advance()
        return arguments
    }

    // MARK: Filters and tests

    private mutating func filtersAndTests(_ value: Expression) throws(TemplateError) -> Expression {
        var value = value
        while true {
            switch token.kind {
            case .symbol(.pipe): value = try filters(of: value)
            case .name("is"): value = try test(of: value)
            case .symbol(.leftParenthesis): value = try call(value)
            default: return value
            }
        }
    }

    /// - Parameter isInline: the first filter stands without its `|`.
    mutating func filters(
        of value: Expression, isInline: Bool = false
    ) throws(TemplateError) -> Expression {
        var value = value
        var isInline = isInline
        while isInline || isSymbol(.pipe) {
            if !isInline { advance() }
            isInline = false
            let place = position
            let name = try expectName()
            guard let filter = Filter(rawValue: name), !isSymbol(.dot) else {
                throw TemplateError(.unsupported, "the filter '\(name)'", at: place)
            }
            let arguments = isSymbol(.leftParenthesis) ? try arguments() : .init()
            try checkNamed(filter, arguments)
            value = try made(
                .filter(value, filter, arguments), place, over: value.depth, arguments.depth)
        }
        return value
    }

    /// Filters and tests that are named by a literal, as in `map('upper')`, are known too.
    private func checkNamed(
        _ filter: Filter, _ arguments: Expression.Arguments
    ) throws(TemplateError) {
        let place: Int
        switch filter {
        case .map, .select, .reject: place = 0
        case .selectattr, .rejectattr: place = 1
        default: return
        }
        guard arguments.positional.count > place,
            case .text(let name) = arguments.positional[place].kind
        else { return }
        let isKnown =
            filter == .map
            ? Filter(rawValue: name.string) != nil : ValueTest(rawValue: name.string) != nil
        guard isKnown else {
            throw TemplateError(
                .unsupported, "the \(filter == .map ? "filter" : "test") '\(name.string)'",
                at: arguments.positional[place].position)
        }
    }

    private mutating func test(of value: Expression) throws(TemplateError) -> Expression {
        advance()
        let isNot = skip(name: "not")
        let place = position
        let name = try expectName()
        guard let test = ValueTest(rawValue: name), !isSymbol(.dot) else {
            throw TemplateError(.unsupported, "the test '\(name)'", at: place)
        }
        var arguments = Expression.Arguments()
        switch token.kind {
        case .symbol(.leftParenthesis): arguments = try self.arguments()
        case .name("else"), .name("or"), .name("and"): break
        case .name("is"):
            throw TemplateError(.syntax, "tests cannot be chained with 'is'", at: position)
        case .name, .string, .integer, .float, .symbol(.leftBracket), .symbol(.leftBrace):
            arguments.positional = [
                try nested { (parser) throws(TemplateError) in
                    try parser.postfix(try parser.primary())
                }
            ]
        default: break
        }
        let tested = try made(
            .test(value, test, arguments), place, over: value.depth, arguments.depth)
        return isNot ? try made(.not(tested), place, over: tested.depth) : tested
    }
}
