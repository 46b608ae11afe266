// SPDX-License-Identifier: Apache-2.0

extension Renderer {
    func evaluate(
        _ value: Expression, _ test: ValueTest, _ arguments: Expression.Arguments,
        _ expression: Expression, in frame: Frame
    ) throws(TemplateError) -> Value {
        let value = try evaluate(value, in: frame)
        let arguments = try evaluate(arguments, in: frame)
        position = expression.position
        return .bool(try apply(test, to: value, arguments))
    }

    func apply(
        _ test: ValueTest, to value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Bool {
        switch test {
        case .divisibleby, .in, .sameas, .eq, .equalto, .ne, .lt, .lessthan, .le, .gt, .greaterthan,
            .ge, .equalSign, .notEqualSign, .lessSign, .lessOrEqualSign, .greaterSign,
            .greaterOrEqualSign:
            guard arguments.positional.count == 1, arguments.keyword.isEmpty else {
                throw fail("the test '\(test.rawValue)' takes one value")
            }
            return try apply(test, to: value, arguments.positional[0])
        default:
            guard arguments.positional.isEmpty, arguments.keyword.isEmpty else {
                throw fail("the test '\(test.rawValue)' takes no value")
            }
            return try apply(test, to: value)
        }
    }

    private func apply(_ test: ValueTest, to value: Value) throws(TemplateError) -> Bool {
        switch test {
        case .defined: if case .undefined = value { false } else { true }
        case .undefined: if case .undefined = value { true } else { false }
        case .none: if case .none = value { true } else { false }
        case .boolean: if case .bool = value { true } else { false }
        case .true: if case .bool(true) = value { true } else { false }
        case .false: if case .bool(false) = value { true } else { false }
        case .integer: if case .int = value { true } else { false }
        case .float: if case .float = value { true } else { false }
        case .number: Number(value) != nil
        case .string:
            switch value {
            case .text, .safe: true
            default: false
            }
        case .mapping: if case .dict = value { true } else { false }
        case .sequence:
            switch value {
            case .undefined, .text, .safe, .list, .tuple, .dict, .range: true
            case .loop, .method: throw unsupported("the test 'sequence' of a \(value.type)")
            default: false
            }
        case .iterable:
            switch value {
            case .undefined, .text, .safe, .list, .tuple, .dict, .range, .view, .iterator, .loop:
                true
            default: false
            }
        case .callable:
            switch value {
            case .macro, .builtin, .method, .loop, .undefined: true
            default: false
            }
        case .odd, .even:
            try isEqual(try compute(.modulo, value, .int(2)), .int(test == .odd ? 1 : 0))
        case .upper: try text(value).isAll(upper: true)
        case .lower: try text(value).isAll(upper: false)
        default: preconditionFailure("a test that takes a value")
        }
    }

    private func apply(
        _ test: ValueTest, to value: Value, _ other: Value
    ) throws(TemplateError) -> Bool {
        switch test {
        case .eq, .equalto, .equalSign: try isEqual(value, other)
        case .ne, .notEqualSign: try !isEqual(value, other)
        case .lt, .lessthan, .lessSign: try isLess(value, other)
        case .le, .lessOrEqualSign: try isLess(value, other, orEqual: true)
        case .gt, .greaterthan, .greaterSign: try isLess(other, value)
        case .ge, .greaterOrEqualSign: try isLess(other, value, orEqual: true)
        case .in: try contains(other, value)
        case .divisibleby: try isEqual(try compute(.modulo, value, other), .int(0))
        case .sameas:
            switch (value, other) {
            case (.none, .none): true
            case (.bool(let left), .bool(let right)): left == right
            case (.none, _), (_, .none), (.bool, _), (_, .bool): false
            default:
                throw unsupported(
                    "the test 'sameas' for values other than none, true and false")
            }
        default: preconditionFailure("a test that takes no value")
        }
    }
}
