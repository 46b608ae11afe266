// SPDX-License-Identifier: Apache-2.0

/// A name of the template, as its number.
typealias Name = Int

struct Expression: Sendable {
    indirect enum Kind: Sendable {
        case none
        case bool(Bool)
        case integer(Int)
        case float(Double)
        case text(Text)
        case name(Name)
        case list([Expression])
        case tuple([Expression])
        case dictionary([(key: Expression, value: Expression)])
        case attribute(Expression, Text)
        case item(Expression, Expression)
        case slice(Expression, from: Expression?, to: Expression?, step: Expression?)
        case call(Expression, Arguments)
        case method(Expression, Method, Arguments)
        case filter(Expression, Filter, Arguments)
        case test(Expression, ValueTest, Arguments)
        case not(Expression)
        case negative(Expression)
        case positive(Expression)
        case and(Expression, Expression)
        case or(Expression, Expression)
        case arithmetic(Arithmetic, Expression, Expression)
        case concatenation([Expression])
        case comparison(Expression, [(Comparison, Expression)])
        case conditional(Expression, test: Expression, otherwise: Expression?)
        /// What a `{% filter %}` or a `{% set %}` block has written.
        case captured
    }

    enum Arithmetic: Sendable {
        case add, subtract, multiply, divide, floorDivide, modulo, power
    }

    enum Comparison: Sendable {
        case equal, notEqual, less, lessOrEqual, greater, greaterOrEqual, isIn, isNotIn
    }

    struct Arguments: Sendable {
        var positional: [Expression] = []
        var keyword: [(name: String, value: Expression)] = []
        /// `*list` and `**mapping`.
        var list: Expression?
        var mapping: Expression?

        var depth: Int {
            (positional + keyword.map(\.value) + [list, mapping].compactMap { $0 })
                .map(\.depth).max() ?? 0
        }
    }

    let kind: Kind
    let position: TemplatePosition
    /// Levels of expressions in this one.
    let depth: Int
}

/// What an assignment, a loop or a parameter gives a value to.
indirect enum AssignmentTarget: Sendable {
    case name(Name)
    case attribute(Name, Text, TemplatePosition)
    case tuple([AssignmentTarget], TemplatePosition)
}
