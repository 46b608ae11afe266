// SPDX-License-Identifier: Apache-2.0

extension Renderer {
    func evaluate(_ expression: Expression, in frame: Frame) throws(TemplateError) -> Value {
        try charge(1)
        switch expression.kind {
        case .none: return .none
        case .bool(let flag): return .bool(flag)
        case .integer(let value): return .int(value)
        case .float(let value): return .float(value)
        case .text(let text): return .text(text)
        case .name(let name): return value(name, in: frame)
        case .captured: return captured.last ?? .none
        default:
            return try nested { () throws(TemplateError) in
                try evaluate(composed: expression, in: frame)
            }
        }
    }

    private func evaluate(
        composed expression: Expression, in frame: Frame
    ) throws(TemplateError) -> Value {
        switch expression.kind {
        case .list(let parts): return .list(try items(try evaluate(parts, in: frame)))
        case .tuple(let parts): return .tuple(try items(try evaluate(parts, in: frame)))
        case .dictionary(let pairs): return try dictionary(pairs, expression, in: frame)
        case .not(let value): return .bool(!isTrue(try evaluate(value, in: frame)))
        case .and(let left, let right):
            let value = try evaluate(left, in: frame)
            return isTrue(value) ? try evaluate(right, in: frame) : value
        case .or(let left, let right):
            let value = try evaluate(left, in: frame)
            return isTrue(value) ? value : try evaluate(right, in: frame)
        case .conditional(let value, let test, let otherwise):
            if isTrue(try evaluate(test, in: frame)) { return try evaluate(value, in: frame) }
            guard let otherwise else {
                return .undefined("an 'if' without 'else' that did not hold")
            }
            return try evaluate(otherwise, in: frame)
        case .call, .method: return try evaluate(call: expression, caller: nil, in: frame)
        case .filter(let value, let filter, let arguments):
            return try evaluate(value, filter, arguments, expression, in: frame)
        case .test(let value, let test, let arguments):
            return try evaluate(value, test, arguments, expression, in: frame)
        default: return try evaluate(operation: expression, in: frame)
        }
    }

    private func evaluate(
        operation expression: Expression, in frame: Frame
    ) throws(TemplateError) -> Value {
        switch expression.kind {
        case .attribute(let value, let name):
            let value = try evaluate(value, in: frame)
            position = expression.position
            return try attribute(name, of: value)
        case .item(let value, let key):
            let value = try evaluate(value, in: frame)
            let key = try evaluate(key, in: frame)
            position = expression.position
            return try item(key, of: value)
        case .slice(let value, let from, let to, let step):
            return try slice(value, [from, to, step], expression, in: frame)
        case .arithmetic(let operation, let left, let right):
            let left = try evaluate(left, in: frame)
            let right = try evaluate(right, in: frame)
            position = expression.position
            return try compute(operation, left, right)
        case .negative(let value):
            let value = try evaluate(value, in: frame)
            position = expression.position
            return try negative(value)
        case .positive(let value):
            let value = try evaluate(value, in: frame)
            position = expression.position
            return try compute(.add, .int(0), value)
        case .concatenation(let parts):
            var joined = Text([])
            for part in parts {
                let value = try evaluate(part, in: frame)
                position = expression.position
                joined.scalars += try text(value).scalars
                try charge(text: joined.count)
            }
            return .text(joined)
        case .comparison(let first, let others):
            return .bool(try compare(first, others, expression, in: frame))
        default: preconditionFailure("an expression of no kind")
        }
    }

    private func evaluate(
        _ parts: [Expression], in frame: Frame
    ) throws(TemplateError) -> [Value] {
        var values: [Value] = []
        values.reserveCapacity(parts.count)
        for part in parts { values.append(try evaluate(part, in: frame)) }
        return values
    }

    private func dictionary(
        _ pairs: [(key: Expression, value: Expression)], _ expression: Expression, in frame: Frame
    ) throws(TemplateError) -> Value {
        var values: [(key: Value, value: Value)] = []
        for (key, value) in pairs {
            values.append((try evaluate(key, in: frame), try evaluate(value, in: frame)))
        }
        position = expression.position
        return .dict(try dict(values))
    }

    private func compare(
        _ first: Expression, _ others: [(Expression.Comparison, Expression)],
        _ expression: Expression, in frame: Frame
    ) throws(TemplateError) -> Bool {
        var left = try evaluate(first, in: frame)
        for (comparison, other) in others {
            let right = try evaluate(other, in: frame)
            position = expression.position
            guard try holds(comparison, left, right) else { return false }
            left = right
        }
        return true
    }

    func holds(
        _ comparison: Expression.Comparison, _ left: Value, _ right: Value
    ) throws(TemplateError) -> Bool {
        switch comparison {
        case .equal: try isEqual(left, right)
        case .notEqual: try !isEqual(left, right)
        case .less: try isLess(left, right)
        case .lessOrEqual: try isLess(left, right, orEqual: true)
        case .greater: try isLess(right, left)
        case .greaterOrEqual: try isLess(right, left, orEqual: true)
        case .isIn: try contains(right, left)
        case .isNotIn: try !contains(right, left)
        }
    }

    // MARK: Parts

    private func slice(
        _ value: Expression, _ bounds: [Expression?], _ expression: Expression, in frame: Frame
    ) throws(TemplateError) -> Value {
        let value = try evaluate(value, in: frame)
        var numbers: [Int?] = []
        for bound in bounds {
            guard let bound else {
                numbers.append(nil)
                continue
            }
            let number = try evaluate(bound, in: frame)
            position = expression.position
            if case .none = number {
                numbers.append(nil)
            } else if let number = number.integer {
                numbers.append(number)
            } else {
                throw fail("a slice by a \(number.type)")
            }
        }
        position = expression.position
        return try slice(value, from: numbers[0], to: numbers[1], step: numbers[2])
    }

    private func slice(
        _ value: Value, from: Int?, to: Int?, step: Int?
    ) throws(TemplateError) -> Value {
        guard step != 0 else { throw fail("a slice with step 0") }
        func part<T>(_ whole: [T]) -> [T] {
            Slice.indices(count: whole.count, from: from, to: to, step: step ?? 1)
                .map { whole[$0] }
        }
        switch value {
        case .text(let text):
            let part = Text(part(text.scalars))
            try charge(text: part.count)
            return .text(part)
        case .list(let items): return .list(try self.items(part(items.values)))
        case .tuple(let items): return .tuple(try self.items(part(items.values)))
        case .range(let span):
            throw unsupported("a slice of a range (\(span.count) numbers); make a list of it")
        case .undefined(let why): throw fail(why)
        default: throw fail("a slice of a \(value.type)")
        }
    }

    /// What stands behind a dot: an attribute, or an item of that name.
    func attribute(_ name: Text, of value: Value) throws(TemplateError) -> Value {
        if let method = try method(name.string, of: value) { return method }
        if case .dict(let dict) = value, let item = dict[.text(name)] { return item }
        return .undefined("a \(value.type) has no attribute '\(name.string)'")
    }

    /// What stands in brackets: an item, or an attribute of that name.
    func item(_ key: Value, of value: Value) throws(TemplateError) -> Value {
        switch value {
        case .undefined(let why): throw fail(why)
        case .dict(let dict):
            if let hash = key.key, let item = dict[hash] { return item }
        case .list(let items), .tuple(let items):
            if let index = key.integer {
                let place = index < 0 ? index + items.values.count : index
                if items.values.indices.contains(place) { return items.values[place] }
            }
        case .text(let text):
            if let index = key.integer {
                let place = index < 0 ? index + text.count : index
                if text.scalars.indices.contains(place) {
                    return .text(Text([text.scalars[place]]))
                }
            }
        case .range(let span):
            if let index = key.integer {
                let place = index < 0 ? index + span.count : index
                if place >= 0, place < span.count { return .int(span[place]) }
            }
        case .safe: throw unsupported("a character of text that is marked as safe")
        default: break
        }
        if case .text(let name) = key {
            guard !name.hasPrefix("_") else {
                throw unsupported(
                    "the attribute '\(name.string)': those that begin with '_' are closed")
            }
            if let method = try method(name.string, of: value) { return method }
        }
        return .undefined("a \(value.type) has no such item")
    }

    /// What Python has as an attribute of values like this one.
    private func method(_ name: String, of value: Value) throws(TemplateError) -> Value? {
        switch value {
        case .undefined(let why): throw fail(why)
        case .text, .safe: return Method.ofText.contains(name) ? .method(name) : nil
        case .dict: return Method.ofMappings.contains(name) ? .method(name) : nil
        case .list: return Method.ofLists.contains(name) ? .method(name) : nil
        case .tuple: return Method.ofTuples.contains(name) ? .method(name) : nil
        case .namespace(let namespace): return namespace.attributes[Text(name)]
        case .loop(let loop):
            return try loop.attribute(name) { (count) throws(TemplateError) in try charge(count) }
        case .bool, .int, .float:
            guard !Method.ofNumbers.contains(name) else {
                throw unsupported("the attribute '\(name)' of a number")
            }
            return nil
        case .none: return nil
        case .view, .range, .iterator, .macro, .builtin, .method:
            throw unsupported("the attribute '\(name)' of a \(value.type)")
        }
    }
}

/// Python's slices.
enum Slice {
    static func indices(count: Int, from: Int?, to: Int?, step: Int) -> [Int] {
        func clamped(_ bound: Int, low: Int, high: Int) -> Int {
            let place = bound < 0 ? max(bound, -count - 1) + count : min(bound, count)
            return min(max(place, low), high)
        }
        if step > 0 {
            let start = from.map { clamped($0, low: 0, high: count) } ?? 0
            let end = to.map { clamped($0, low: 0, high: count) } ?? count
            return start < end ? Array(stride(from: start, to: end, by: min(step, count))) : []
        }
        let start = from.map { clamped($0, low: -1, high: count - 1) } ?? count - 1
        let end = to.map { clamped($0, low: -1, high: count - 1) } ?? -1
        return start > end
            ? Array(stride(from: start, to: end, by: max(step, -count))) : []
    }
}
