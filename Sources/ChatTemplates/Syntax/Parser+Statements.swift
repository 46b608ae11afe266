// SPDX-License-Identifier: Apache-2.0

extension Parser {
    /// Statements up to a tag that begins with one of `ends`, whose name is the present token then; without ends up to the
    /// template's.
    mutating func statements(until ends: [String]) throws(TemplateError) -> [Statement] {
        var statements: [Statement] = []
        while true {
            switch token.kind {
            case .data(let text):
                statements.append(.text(text))
                advance()
            case .variableBegin:
                advance()
                statements.append(.print(try tuple()))
                try expect(.variableEnd, "'}}'")
            case .blockBegin:
                advance()
                if case .name(let name) = token.kind, ends.contains(name) { return statements }
                let begin = position
                let new = try nested { (parser) throws(TemplateError) in
                    try parser.statement(begin)
                }
                statements += new
                try expect(.blockEnd, "'%}'")
            case .end:
                guard ends.isEmpty else {
                    throw unexpected(ends.map { "'{% \($0) %}'" }.joined(separator: " or "))
                }
                return statements
            default: throw unexpected("text or a tag")
            }
        }
    }

    /// Statements behind a tag's end, up to an end tag, whose name is skipped if there is only one.
    private mutating func body(_ ends: String...) throws(TemplateError) -> [Statement] {
        _ = skip(.colon)
        try expect(.blockEnd, "'%}'")
        let statements = try statements(until: ends)
        if ends.count == 1 { advance() }
        return statements
    }

    private mutating func statement(
        _ begin: TemplatePosition
    ) throws(TemplateError) -> [Statement] {
        let word = try expectName()
        switch word {
        case "if": return [try condition()]
        case "for": return [.loop(try loop(begin))]
        case "set": return [try assignment(begin)]
        case "macro":
            let name = try expectName()
            assigned.insert(name)
            return [.macro(try macro(name: name, begin))]
        case "call":
            let parameters = isSymbol(.leftParenthesis) ? try signature() : []
            let call = try expression()
            switch call.kind {
            case .call, .method: break
            default: throw TemplateError(.syntax, "'call' needs a call", at: begin)
            }
            let block = try macro(
                parameters, label: "caller", name: nil, end: "endcall", begin,
                from: mentioned.count)
            return [.callBlock(call, block)]
        case "filter":
            let value = try filters(of: captured(begin), isInline: true)
            return [.filterBlock(Scope(statements: try body("endfilter")), value: value)]
        case "with": return [try with(begin)]
        case "generation":
            let outer = loops
            loops = 0
            defer { loops = outer }
            return [.generation(Scope(statements: try body("endgeneration")))]
        case "print":
            var printed: [Statement] = []
            while token.kind != .blockEnd {
                if !printed.isEmpty { try expect(.comma) }
                printed.append(.print(try expression()))
            }
            return printed
        case "break", "continue":
            guard loops > 0 else {
                throw TemplateError(.syntax, "'\(word)' outside of a loop", at: begin)
            }
            return [word == "break" ? .breakLoop : .continueLoop]
        case "block", "extends", "include", "import", "from", "autoescape", "do", "trans", "debug":
            throw TemplateError(.unsupported, "the tag '\(word)'", at: begin)
        default: throw TemplateError(.syntax, "unknown tag '\(word)'", at: begin)
        }
    }

    private func captured(_ position: TemplatePosition) -> Expression {
        Expression(kind: .captured, position: position, depth: 1)
    }

    private mutating func condition() throws(TemplateError) -> Statement {
        var branches: [(test: Expression, body: [Statement])] = []
        var otherwise: [Statement] = []
        while true {
            let test = try tuple(hasConditions: false)
            branches.append((test, try body("elif", "else", "endif")))
            let word = try expectName()
            if word == "elif" { continue }
            if word == "else" { otherwise = try body("endif") }
            return .condition(branches, otherwise: otherwise)
        }
    }

    private mutating func loop(_ begin: TemplatePosition) throws(TemplateError) -> Statement.Loop {
        let target = try target(until: ["in"])
        if case .name(let name) = target, name == number("loop") {
            throw TemplateError(.syntax, "a loop's target cannot be 'loop'", at: begin)
        }
        try expect(name: "in")
        let items = try tuple(hasConditions: false, until: ["recursive"])
        let test = skip(name: "if") ? try expression() : nil
        if isName("recursive") {
            throw TemplateError(.unsupported, "a recursive loop", at: position)
        }
        loops += 1
        let statements: [Statement]
        do {
            defer { loops -= 1 }
            statements = try body("endfor", "else")
        }
        let otherwise = try expectName() == "else" ? Scope(statements: try body("endfor")) : nil
        return Statement.Loop(
            target: target, items: items, test: test, body: Scope(statements: statements),
            otherwise: otherwise, position: begin)
    }

    private mutating func assignment(
        _ begin: TemplatePosition
    ) throws(TemplateError) -> Statement {
        let target = try target(until: [], hasNamespaces: true)
        if skip(.assign) { return .assign(target, try tuple(), begin) }
        let value = try filters(of: captured(begin))
        return .assignBlock(target, Scope(statements: try body("endset")), value: value, begin)
    }

    private mutating func with(_ begin: TemplatePosition) throws(TemplateError) -> Statement {
        var values: [(AssignmentTarget, Expression)] = []
        while token.kind != .blockEnd {
            if !values.isEmpty { try expect(.comma) }
            let target = try target(until: [])
            try expect(.assign)
            values.append((target, try expression()))
        }
        return .with(values, Scope(statements: try body("endwith")), begin)
    }

    // MARK: Macros

    private mutating func signature() throws(TemplateError) -> [(
        name: Name, label: String, initial: Expression?
    )] {
        var parameters: [(name: Name, label: String, initial: Expression?)] = []
        try expect(.leftParenthesis)
        while !isSymbol(.rightParenthesis) {
            if !parameters.isEmpty { try expect(.comma) }
            let place = position
            let label = try expectName()
            guard !["caller", "varargs", "kwargs"].contains(label) else {
                throw TemplateError(.unsupported, "a parameter called '\(label)'", at: place)
            }
            guard !parameters.contains(where: { $0.label == label }) else {
                throw TemplateError(.syntax, "two parameters called '\(label)'", at: place)
            }
            assigned.insert(label)
            let initial = skip(.assign) ? try expression() : nil
            guard initial != nil || parameters.last?.initial == nil else {
                throw TemplateError(
                    .syntax, "'\(label)' needs a default, as the parameter before it has one",
                    at: place)
            }
            parameters.append((number(label), label, initial))
        }
        try expect(.rightParenthesis)
        return parameters
    }

    private mutating func macro(
        name: String, _ begin: TemplatePosition
    ) throws(TemplateError) -> Statement.Macro {
        let parameters = try signature()
        return try macro(
            parameters, label: name, name: number(name), end: "endmacro", begin,
            from: mentioned.count)
    }

    /// - Parameter from: where in `mentioned` the body begins.
    private mutating func macro(
        _ parameters: [(name: Name, label: String, initial: Expression?)], label: String,
        name: Name?, end: String, _ begin: TemplatePosition, from: Int
    ) throws(TemplateError) -> Statement.Macro {
        let outer = loops
        loops = 0
        defer { loops = outer }
        let statements = try body(end)
        let mentioned = mentioned[from...]
        return Statement.Macro(
            name: name, label: label, parameters: parameters, body: Scope(statements: statements),
            takesCaller: mentioned.contains("caller"), takesKeywords: mentioned.contains("kwargs"),
            takesList: mentioned.contains("varargs"), position: begin)
    }

    // MARK: Targets

    private mutating func target(
        until ends: [String], hasNamespaces: Bool = false
    ) throws(TemplateError) -> AssignmentTarget {
        try nested { (parser) throws(TemplateError) in
            let begin = parser.position
            var targets: [AssignmentTarget] = []
            var isTuple = false
            while true {
                if !targets.isEmpty { try parser.expect(.comma) }
                if parser.isTupleEnd(ends) { break }
                targets.append(try parser.oneTarget(hasNamespaces: hasNamespaces))
                guard parser.isSymbol(.comma) else { break }
                isTuple = true
            }
            guard let first = targets.first else { throw parser.unexpected("a name") }
            return isTuple ? .tuple(targets, begin) : first
        }
    }

    private mutating func oneTarget(hasNamespaces: Bool) throws(TemplateError) -> AssignmentTarget {
        if skip(.leftParenthesis) {
            let inner = try target(until: [])
            try expect(.rightParenthesis)
            return inner
        }
        let begin = position
        let name = try expectName()
        guard !Self.constants.contains(name) else {
            throw TemplateError(.syntax, "'\(name)' cannot be assigned to", at: begin)
        }
        if hasNamespaces, skip(.dot) {
            mentioned.append(name)
            return .attribute(number(name), Text(try expectName()), begin)
        }
        assigned.insert(name)
        return .name(number(name))
    }

    static let constants: Set<String> = ["true", "false", "none", "True", "False", "None"]
}
