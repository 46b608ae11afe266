// SPDX-License-Identifier: Apache-2.0

extension Renderer {
    func execute(_ statements: [Statement], in frame: Frame) throws(TemplateError) -> Flow {
        for statement in statements {
            let flow = try execute(statement, in: frame)
            if flow != .normal { return flow }
        }
        return .normal
    }

    /// Statements in a scope of their own.
    func execute(_ scope: Scope, in parent: Frame) throws(TemplateError) -> Flow {
        let frame = Frame(in: parent, masked: scope.masked)
        defer { frame.clear() }
        return try execute(scope.statements, in: frame)
    }

    private func execute(_ statement: Statement, in frame: Frame) throws(TemplateError) -> Flow {
        try charge(1)
        switch statement {
        case .text(let text): try write(text)
        case .print(let expression): try print(expression, in: frame)
        case .condition(let branches, let otherwise):
            return try condition(branches, otherwise, in: frame)
        case .loop(let loop):
            return try nested { () throws(TemplateError) in
                try run(loop, in: frame)
            }
        case .assign(let target, let expression, _):
            try assign(try evaluate(expression, in: frame), to: target, in: frame)
        case .assignBlock(let target, let scope, let value, _):
            return try assignBlock(target, scope, value, in: frame)
        case .macro(let macro):
            if let name = macro.name { frame[name] = .macro(Macro(macro, in: frame)) }
        case .callBlock(let call, let macro): try callBlock(call, macro, in: frame)
        case .filterBlock(let scope, let value): return try filterBlock(scope, value, in: frame)
        case .with(let values, let scope, _): return try with(values, scope, in: frame)
        case .generation(let scope):
            return try nested { () throws(TemplateError) in try execute(scope, in: frame) }
        case .breakLoop: return .breakLoop
        case .continueLoop: return .continueLoop
        }
        return .normal
    }

    private func print(_ expression: Expression, in frame: Frame) throws(TemplateError) {
        let value = try evaluate(expression, in: frame)
        position = expression.position
        try write(try text(value))
    }

    private func condition(
        _ branches: [(test: Expression, body: [Statement])], _ otherwise: [Statement],
        in frame: Frame
    ) throws(TemplateError) -> Flow {
        for (test, body) in branches where isTrue(try evaluate(test, in: frame)) {
            return try nested { () throws(TemplateError) in try execute(body, in: frame) }
        }
        return try nested { () throws(TemplateError) in try execute(otherwise, in: frame) }
    }

    private func assignBlock(
        _ target: AssignmentTarget, _ scope: Scope, _ value: Expression, in frame: Frame
    ) throws(TemplateError) -> Flow {
        let inner = Frame(in: frame, masked: scope.masked)
        defer { inner.clear() }
        let (text, flow) = try capture { () throws(TemplateError) in
            try nested { () throws(TemplateError) in try execute(scope.statements, in: inner) }
        }
        guard flow == .normal else { return flow }
        try assign(try evaluate(value, capturing: text, in: inner), to: target, in: frame)
        return .normal
    }

    private func filterBlock(
        _ scope: Scope, _ value: Expression, in frame: Frame
    ) throws(TemplateError) -> Flow {
        let inner = Frame(in: frame, masked: scope.masked)
        defer { inner.clear() }
        let (captured, flow) = try capture { () throws(TemplateError) in
            try nested { () throws(TemplateError) in try execute(scope.statements, in: inner) }
        }
        guard flow == .normal else { return flow }
        try write(try text(try evaluate(value, capturing: captured, in: inner)))
        return .normal
    }

    private func evaluate(
        _ value: Expression, capturing text: Text, in frame: Frame
    ) throws(TemplateError) -> Value {
        captured.append(.text(text))
        defer { captured.removeLast() }
        return try evaluate(value, in: frame)
    }

    private func with(
        _ values: [(AssignmentTarget, Expression)], _ scope: Scope, in frame: Frame
    ) throws(TemplateError) -> Flow {
        let inner = Frame(in: frame, masked: scope.masked)
        defer { inner.clear() }
        for (target, expression) in values {
            try assign(try evaluate(expression, in: frame), to: target, in: inner)
        }
        return try nested { () throws(TemplateError) in
            try execute(scope.statements, in: inner)
        }
    }

    // MARK: Loops

    private func run(_ loop: Statement.Loop, in frame: Frame) throws(TemplateError) -> Flow {
        let value = try evaluate(loop.items, in: frame)
        position = loop.position
        var source = try iterator(value)
        var length = try? self.length(value)
        if let test = loop.test {
            length = nil
            source = filtered(source, loop.target, test, in: frame)
        }
        let state = Loop(source, length: length)
        let loopName = labels.firstIndex(of: "loop")
        // An `else` follows where no iteration came to its end: for Jinja those that `break` or `continue` end did not.
        var hasFinished = false
        while let element = try state.next() {
            try charge(1)
            let inner = Frame(in: frame, masked: loop.body.masked)
            defer { inner.clear() }
            if let loopName { inner[loopName] = .loop(state) }
            try assign(element, to: loop.target, in: inner)
            let flow = try execute(loop.body.statements, in: inner)
            if flow == .breakLoop { break }
            if flow == .normal { hasFinished = true }
        }
        guard !hasFinished, let otherwise = loop.otherwise else { return .normal }
        return try execute(otherwise, in: frame)
    }

    private func filtered(
        _ source: Iterator, _ target: AssignmentTarget, _ test: Expression, in frame: Frame
    ) -> Iterator {
        Iterator(depth: source.depth) { [unowned self] () throws(TemplateError) in
            while let element = try source.next() {
                try charge(1)
                let inner = Frame(in: frame)
                defer { inner.clear() }
                try assign(element, to: target, in: inner)
                if isTrue(try evaluate(test, in: inner)) { return element }
            }
            return nil
        }
    }

    // MARK: Macros

    private func callBlock(
        _ call: Expression, _ macro: Statement.Macro, in frame: Frame
    ) throws(TemplateError) {
        let caller = Value.macro(Macro(macro, in: frame))
        try write(try text(try evaluate(call: call, caller: caller, in: frame)))
    }

    func call(
        _ macro: Macro, _ arguments: EvaluatedArguments, caller: Value?
    ) throws(TemplateError) -> Value {
        let definition = macro.definition
        let frame = Frame(in: macro.frame, masked: definition.body.masked)
        defer { frame.clear() }
        var keyword = arguments.keyword
        let place = position
        if let caller { keyword.append(("caller", caller)) }
        for (index, parameter) in definition.parameters.enumerated() {
            if index < arguments.positional.count {
                frame[parameter.name] = arguments.positional[index]
            } else if let given = keyword.firstIndex(where: { $0.name == parameter.label }) {
                frame[parameter.name] = keyword.remove(at: given).value
            }
        }
        // Defaults see the parameters before them.
        for (index, parameter) in definition.parameters.enumerated()
        where index >= arguments.positional.count
            && !arguments.keyword.contains(where: { $0.name == parameter.label })
        {
            frame[parameter.name] =
                try parameter.initial.map { (initial) throws(TemplateError) in
                    try evaluate(initial, in: frame)
                } ?? .undefined("the parameter '\(parameter.label)' was not provided")
        }
        position = place
        try bindRest(definition, arguments, &keyword, in: frame)
        let (text, _) = try capture { () throws(TemplateError) in
            try nested { () throws(TemplateError) in
                try execute(definition.body.statements, in: frame)
            }
        }
        return .text(text)
    }

    /// `caller`, `kwargs` and `varargs`, where the macro's body reads them.
    private func bindRest(
        _ definition: Statement.Macro, _ arguments: EvaluatedArguments,
        _ keyword: inout [(name: String, value: Value)], in frame: Frame
    ) throws(TemplateError) {
        func name(_ label: String) -> Name { labels.firstIndex(of: label) ?? -1 }
        if definition.takesCaller {
            let given = keyword.firstIndex { $0.name == "caller" }
            frame[name("caller")] =
                given.map { keyword.remove(at: $0).value } ?? .undefined("no caller defined")
        }
        if definition.takesKeywords {
            frame[name("kwargs")] = .dict(
                try dict(keyword.map { (key: .text(Text($0.name)), value: $0.value) }))
        } else if let left = keyword.first {
            throw fail("macro '\(definition.label)' takes no argument '\(left.name)'")
        }
        let rest = Array(arguments.positional.dropFirst(definition.parameters.count))
        if definition.takesList {
            frame[name("varargs")] = .tuple(try items(rest))
        } else if !rest.isEmpty {
            throw fail(
                "macro '\(definition.label)' takes at most \(definition.parameters.count) arguments, not \(arguments.positional.count)"
            )
        }
    }
}
