// SPDX-License-Identifier: Apache-2.0

/// Tokens as statements; Jinja's grammar, function by function.
struct Parser {
    let tokens: [Token]
    var index = 0
    /// Levels of parentheses and blocks around the present token.
    var depth = 0
    /// Loops around the present statement in the same macro or template.
    var loops = 0
    private(set) var names: [String: Name] = [:]
    /// The same by number.
    private(set) var labels: [String] = []
    /// Names that stand as the target of something, anywhere.
    var assigned: Set<String> = []
    /// Names that are called and their first places.
    var called: [(name: String, position: TemplatePosition)] = []
    /// Every name that is read, in order: a macro takes what its body mentions.
    var mentioned: [String] = []

    init(_ source: String) throws(TemplateError) {
        tokens = try Lexer.tokens(source)
    }

    mutating func template() throws(TemplateError) -> Scope {
        let statements = try statements(until: [])
        for (name, position) in called where !assigned.contains(name) {
            if Builtin.unsupported.contains(name) {
                throw TemplateError(.unsupported, "the function '\(name)'", at: position)
            }
        }
        return Scope(statements: statements)
    }

    mutating func number(_ name: String) -> Name {
        if let number = names[name] { return number }
        names[name] = labels.count
        labels.append(name)
        return labels.count - 1
    }

    // MARK: Tokens

    var token: Token { tokens[index] }
    var position: TemplatePosition { token.position }

    func isName(_ name: String, ahead: Int = 0) -> Bool {
        index + ahead < tokens.count && tokens[index + ahead].kind == .name(name)
    }

    func isSymbol(_ symbol: Token.Symbol, ahead: Int = 0) -> Bool {
        index + ahead < tokens.count && tokens[index + ahead].kind == .symbol(symbol)
    }

    mutating func advance() {
        if index < tokens.count - 1 { index += 1 }
    }

    mutating func skip(_ symbol: Token.Symbol) -> Bool {
        guard isSymbol(symbol) else { return false }
        advance()
        return true
    }

    mutating func skip(name: String) -> Bool {
        guard isName(name) else { return false }
        advance()
        return true
    }

    mutating func expect(_ symbol: Token.Symbol) throws(TemplateError) {
        guard skip(symbol) else { throw unexpected("'\(symbol.rawValue)'") }
    }

    mutating func expect(name: String) throws(TemplateError) {
        guard skip(name: name) else { throw unexpected("'\(name)'") }
    }

    mutating func expect(_ kind: Token.Kind, _ what: String) throws(TemplateError) {
        guard token.kind == kind else { throw unexpected(what) }
        advance()
    }

    mutating func expectName() throws(TemplateError) -> String {
        guard case .name(let name) = token.kind else { throw unexpected("a name") }
        advance()
        return name
    }

    func unexpected(_ expected: String) -> TemplateError {
        TemplateError(
            .syntax, "expected \(expected), found \(token.description)", at: position)
    }

    /// One level further in.
    mutating func nested<T>(
        _ body: (inout Parser) throws(TemplateError) -> T
    ) throws(TemplateError) -> T {
        guard depth < TemplateLimits.nesting else { throw Self.tooDeep(position) }
        depth += 1
        defer { depth -= 1 }
        return try body(&self)
    }

    static func tooDeep(_ position: TemplatePosition) -> TemplateError {
        TemplateError(
            .limit, "nested more than \(TemplateLimits.nesting) levels deep", at: position)
    }
}
