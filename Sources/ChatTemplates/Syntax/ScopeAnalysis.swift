// SPDX-License-Identifier: Apache-2.0

/// Which names are undefined when a scope begins, whatever a caller gave: Jinja decides at compile time what a name means in a scope,
/// and what is set there before it is read is a variable of that scope alone, even in scopes further in that read it earlier.
struct ScopeAnalysis {
    /// Names that this scope or one around it has met.
    private var known: Set<Name>
    private var outer: Set<Name>
    private var stored: Set<Name> = []
    private var masked: Set<Name> = []

    private init(in outer: Set<Name>, parameters: [Name] = []) {
        self.outer = outer
        known = outer.union(parameters)
    }

    /// The template with its scopes' masked names.
    static func analysed(_ template: Scope) -> Scope {
        analysed(template, in: [], parameters: [])
    }

    private static func analysed(
        _ scope: Scope, in outer: Set<Name>, parameters: [Name], values: [Expression] = []
    ) -> Scope {
        var analysis = ScopeAnalysis(in: outer, parameters: parameters)
        for value in values { analysis.read(value) }
        analysis.visit(scope.statements)
        return Scope(
            statements: scope.statements.map { analysis.entered($0) },
            masked: analysis.masked.sorted())
    }

    // MARK: One scope, in order

    private mutating func load(_ name: Name) { known.insert(name) }

    private mutating func store(_ name: Name) {
        stored.insert(name)
        if known.insert(name).inserted { masked.insert(name) }
    }

    private mutating func visit(_ statements: [Statement]) {
        for statement in statements { visit(statement) }
    }

    private mutating func visit(_ statement: Statement) {
        switch statement {
        case .text, .breakLoop, .continueLoop, .generation: break
        case .print(let expression): read(expression)
        case .condition(let branches, let otherwise): visit(branches[...], otherwise)
        case .loop(let loop): read(loop.items)
        case .assign(let target, let expression, _):
            read(expression)
            visit(target)
        case .assignBlock(let target, _, _, _): visit(target)
        case .macro(let macro): if let name = macro.name { store(name) }
        case .callBlock(let call, _): read(call)
        case .filterBlock(_, let value): read(value)
        case .with(let values, _, _): for (_, value) in values { read(value) }
        }
    }

    private mutating func visit(_ target: AssignmentTarget) {
        switch target {
        case .name(let name): store(name)
        case .attribute(let name, _, _): load(name)
        case .tuple(let targets, _): for target in targets { visit(target) }
        }
    }

    /// What is set in some branches only is looked up where it is not.
    private mutating func visit(
        _ branches: ArraySlice<(test: Expression, body: [Statement])>, _ otherwise: [Statement]
    ) {
        guard let (test, body) = branches.first else { return visit(otherwise) }
        read(test)
        var then = self
        then.visit(body)
        // Jinja keeps branches by `elif` apart from the last one: each is a condition without its own `else`.
        var middle = self
        for (test, body) in branches.dropFirst() {
            middle.read(test)
            var branch = middle
            branch.visit(body)
            middle.join([branch, middle, middle])
        }
        var last = self
        last.visit(otherwise)
        join([then, middle, last])
    }

    private mutating func join(_ branches: [ScopeAnalysis]) {
        var counts: [Name: Int] = [:]
        for branch in branches {
            for name in branch.stored.subtracting(stored) { counts[name, default: 0] += 1 }
        }
        for branch in branches {
            known.formUnion(branch.known)
            stored.formUnion(branch.stored)
            masked.formUnion(branch.masked)
        }
        for (name, count) in counts where count < branches.count { masked.remove(name) }
    }

    // MARK: Expressions

    private mutating func read(_ expression: Expression) {
        switch expression.kind {
        case .none, .bool, .integer, .float, .text, .captured: break
        case .name(let name): load(name)
        case .list(let parts), .tuple(let parts), .concatenation(let parts):
            for part in parts { read(part) }
        case .dictionary(let pairs):
            for (key, value) in pairs {
                read(key)
                read(value)
            }
        case .attribute(let value, _), .not(let value), .negative(let value), .positive(let value):
            read(value)
        case .item(let left, let right), .and(let left, let right), .or(let left, let right),
            .arithmetic(_, let left, let right):
            read(left)
            read(right)
        case .slice(let value, let from, let to, let step):
            for part in [value, from, to, step] { if let part { read(part) } }
        case .call(let value, let arguments), .method(let value, _, let arguments),
            .filter(let value, _, let arguments), .test(let value, _, let arguments):
            read(value)
            for part in arguments.positional + arguments.keyword.map(\.value) { read(part) }
            for part in [arguments.list, arguments.mapping] { if let part { read(part) } }
        case .comparison(let first, let others):
            read(first)
            for (_, other) in others { read(other) }
        case .conditional(let value, let test, let otherwise):
            read(test)
            read(value)
            if let otherwise { read(otherwise) }
        }
    }

    // MARK: Scopes further in

    private func entered(_ statement: Statement) -> Statement {
        func inner(
            _ scope: Scope, _ parameters: [Name] = [], values: [Expression] = []
        ) -> Scope {
            Self.analysed(scope, in: known, parameters: parameters, values: values)
        }
        func inner(_ macro: Statement.Macro) -> Statement.Macro {
            var macro = macro
            macro.body = inner(
                macro.body, macro.parameters.map(\.name),
                values: macro.parameters.compactMap(\.initial))
            return macro
        }
        switch statement {
        case .condition(let branches, let otherwise):
            return .condition(
                branches.map { ($0.test, $0.body.map(entered)) },
                otherwise: otherwise.map(entered))
        case .loop(var loop):
            loop.body = inner(loop.body, loop.target.names)
            loop.otherwise = loop.otherwise.map { inner($0) }
            return .loop(loop)
        case .assignBlock(let target, let scope, let value, let place):
            return .assignBlock(target, inner(scope), value: value, place)
        case .macro(let macro): return .macro(inner(macro))
        case .callBlock(let call, let macro): return .callBlock(call, inner(macro))
        case .filterBlock(let scope, let value):
            return .filterBlock(inner(scope, values: [value]), value: value)
        case .with(let values, let scope, let place):
            return .with(values, inner(scope, values.flatMap(\.0.names)), place)
        case .generation(let scope): return .generation(inner(scope))
        case .text, .print, .assign, .breakLoop, .continueLoop: return statement
        }
    }
}

extension AssignmentTarget {
    /// Variables that it sets.
    var names: [Name] {
        switch self {
        case .name(let name): [name]
        case .attribute: []
        case .tuple(let targets, _): targets.flatMap(\.names)
        }
    }
}
