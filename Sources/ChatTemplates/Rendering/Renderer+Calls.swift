// SPDX-License-Identifier: Apache-2.0

struct EvaluatedArguments {
    var positional: [Value] = []
    var keyword: [(name: String, value: Value)] = []
}

extension Renderer {
    func evaluate(
        _ arguments: Expression.Arguments, in frame: Frame
    ) throws(TemplateError) -> EvaluatedArguments {
        var evaluated = EvaluatedArguments()
        for argument in arguments.positional {
            evaluated.positional.append(try evaluate(argument, in: frame))
        }
        for (name, argument) in arguments.keyword {
            evaluated.keyword.append((name, try evaluate(argument, in: frame)))
        }
        if let list = arguments.list {
            evaluated.positional += try elements(try evaluate(list, in: frame))
        }
        if let mapping = arguments.mapping {
            guard case .dict(let dict) = try evaluate(mapping, in: frame) else {
                throw fail("what stands behind '**' must be a mapping")
            }
            for (key, value) in zip(dict.keys, dict.values) {
                guard case .text(let name) = key else {
                    throw fail("what stands behind '**' must have names as keys")
                }
                guard !evaluated.keyword.contains(where: { Text($0.name) == name }) else {
                    throw fail("the argument '\(name.string)' twice")
                }
                evaluated.keyword.append((name.string, value))
            }
            try charge(dict.count * (1 + evaluated.keyword.count / 8))
        }
        return evaluated
    }

    /// - Parameter caller: the block of `{% call %}`.
    func evaluate(
        call: Expression, caller: Value?, in frame: Frame
    ) throws(TemplateError) -> Value {
        switch call.kind {
        case .call(let function, let arguments):
            let function = try evaluate(function, in: frame)
            let arguments = try evaluate(arguments, in: frame)
            position = call.position
            switch function {
            case .macro(let macro): return try self.call(macro, arguments, caller: caller)
            case .builtin(let builtin):
                guard caller == nil else { throw fail("'call' of a function that is no macro") }
                return try self.call(builtin, arguments)
            case .undefined(let why): throw fail(why)
            case .loop: throw unsupported("a recursive loop")
            case .method(let name): throw unsupported("the method '\(name)' called by another name")
            default: throw fail("a \(function.type) cannot be called")
            }
        case .method(let value, let method, let arguments):
            let value = try evaluate(value, in: frame)
            let arguments = try evaluate(arguments, in: frame)
            position = call.position
            guard caller == nil else { throw fail("'call' of a method") }
            return try self.call(method, of: value, arguments)
        default: preconditionFailure("a call of no kind")
        }
    }

    /// Arguments by the names of parameters; nil where one is not given.
    func bind(
        _ arguments: EvaluatedArguments, _ names: String..., required: Int = 0
    ) throws(TemplateError) -> [Value?] {
        guard arguments.positional.count <= names.count else {
            throw fail(
                "\(arguments.positional.count) arguments where at most \(names.count) are taken")
        }
        var bound: [Value?] = arguments.positional
        bound += [Value?](repeating: nil, count: names.count - bound.count)
        for (name, value) in arguments.keyword {
            guard let place = names.firstIndex(of: name) else {
                throw fail("there is no argument '\(name)'")
            }
            guard bound[place] == nil else { throw fail("the argument '\(name)' twice") }
            bound[place] = value
        }
        for place in 0..<required where bound[place] == nil {
            throw fail("the argument '\(names[place])' is missing")
        }
        return bound
    }

    func integer(_ value: Value?, _ what: String, else standard: Int) throws(TemplateError) -> Int {
        guard let value else { return standard }
        guard let number = value.integer else {
            throw fail("\(what) must be an integer, not a \(value.type)")
        }
        return number
    }

    // MARK: Functions

    private func call(
        _ builtin: Builtin, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        switch builtin {
        case .range: return .range(try range(arguments))
        case .dict:
            return .dict(try dict(try pairs(arguments)))
        case .namespace:
            let namespace = Namespace()
            let pairs = try pairs(arguments)
            _ = try depth(containing: pairs.lazy.map(\.value))
            for (key, value) in pairs {
                guard case .text(let name) = key else {
                    throw fail("a namespace's attributes have names")
                }
                namespace.attributes[name] = value
            }
            return .namespace(namespace)
        case .raiseException:
            let message = try bind(arguments, "message", required: 1)[0] ?? .none
            throw TemplateError(.raised, try text(message).string, at: position)
        case .strftimeNow:
            guard case .text(let format) = try bind(arguments, "format", required: 1)[0] else {
                throw fail("strftime_now takes a format")
            }
            guard let formatted = time.formatted(format.string) else {
                throw unsupported("a directive in the time format '\(format.string)'")
            }
            return .text(Text(formatted))
        }
    }

    /// What Python's `dict()` makes a mapping of.
    private func pairs(
        _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> [(key: Value, value: Value)] {
        guard arguments.positional.count <= 1 else { throw fail("more than one mapping") }
        var pairs: [(key: Value, value: Value)] = []
        switch arguments.positional.first {
        case nil: break
        case .dict(let dict):
            pairs = zip(dict.keys, dict.values).map { (key: $0, value: $1) }
        case let value?:
            for element in try elements(value) {
                let pair = try elements(element)
                guard pair.count == 2 else { throw fail("a pair of \(pair.count)") }
                pairs.append((pair[0], pair[1]))
            }
        }
        return pairs + arguments.keyword.map { (key: .text(Text($0.name)), value: $0.value) }
    }

    private func range(_ arguments: EvaluatedArguments) throws(TemplateError) -> Span {
        var numbers: [Int] = []
        for value in arguments.positional {
            numbers.append(try integer(value, "a range's bound", else: 0))
        }
        guard (1...3).contains(numbers.count), arguments.keyword.isEmpty else {
            throw fail("'range' takes one to three integers")
        }
        guard numbers.allSatisfy({ $0.magnitude < 1 << 60 }) else {
            throw unsupported("a range with bounds above 2^60")
        }
        let step = numbers.count == 3 ? numbers[2] : 1
        guard step != 0 else { throw fail("a range with step 0") }
        let span = Span(
            start: numbers.count == 1 ? 0 : numbers[0],
            stop: numbers.count == 1 ? numbers[0] : numbers[1], step: step)
        guard span.count <= TemplateLimits.range else {
            throw TemplateError(
                .limit, "a range of more than \(TemplateLimits.range) numbers", at: position)
        }
        return span
    }
}
