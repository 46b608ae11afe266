// SPDX-License-Identifier: Apache-2.0

internal import Glibc

extension Renderer {
    // MARK: Order

    func isEqual(_ left: Value, _ right: Value) throws(TemplateError) -> Bool {
        try charge(1)
        switch (left, right) {
        case (.undefined, .undefined), (.none, .none): return true
        case (.text(let left), .text(let right)), (.safe(let left), .text(let right)),
            (.text(let left), .safe(let right)), (.safe(let left), .safe(let right)):
            guard left.count == right.count else { return false }
            try charge(text: left.count)
            return left == right
        case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
            return try isEqual(left, right)
        case (.dict(let left), .dict(let right)):
            guard left.count == right.count else { return false }
            for (key, value) in zip(left.keys, left.values) {
                guard let other = right[try hash(key)], try isEqual(value, other) else {
                    return false
                }
            }
            return true
        case (.range(let left), .range(let right)):
            return left.count == right.count
                && (left.count == 0 || left.start == right.start)
                && (left.count < 2 || left.step == right.step)
        case (.view, .view), (.method, _), (_, .method), (.iterator, .iterator), (.loop, .loop),
            (.namespace, .namespace), (.macro, .macro), (.builtin, .builtin):
            throw unsupported("a comparison of a \(left.type) with a \(right.type)")
        default:
            return Number(left).flatMap { left in
                Number(right).map { left.isEqual($0) }
            } ?? false
        }
    }

    func isEqual(_ left: Items, _ right: Items) throws(TemplateError) -> Bool {
        guard left.values.count == right.values.count else { return false }
        return try nested { () throws(TemplateError) in
            for (left, right) in zip(left.values, right.values) {
                guard try isEqual(left, right) else { return false }
            }
            return true
        }
    }

    func isLess(
        _ left: Value, _ right: Value, orEqual: Bool = false
    ) throws(TemplateError) -> Bool {
        try charge(1)
        if let left = Number(left), let right = Number(right) {
            return left.isLess(right) || orEqual && left.isEqual(right)
        }
        switch (left, right) {
        case (.text(let left), .text(let right)):
            try charge(text: min(left.count, right.count))
            return left < right || orEqual && left == right
        case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
            return try nested { () throws(TemplateError) in
                for (left, right) in zip(left.values, right.values)
                where try !isEqual(left, right) {
                    return try isLess(left, right, orEqual: orEqual)
                }
                return orEqual
                    ? left.values.count <= right.values.count
                    : left.values.count < right.values.count
            }
        case (.undefined(let why), _), (_, .undefined(let why)): throw fail(why)
        case (.safe, _), (_, .safe):
            throw unsupported("the order of text that is marked as safe")
        default:
            throw fail("a \(left.type) and a \(right.type) have no order")
        }
    }

    // MARK: Arithmetic

    func compute(
        _ operation: Expression.Arithmetic, _ left: Value, _ right: Value
    ) throws(TemplateError) -> Value {
        switch (left, right) {
        case (.undefined(let why), _), (_, .undefined(let why)): throw fail(why)
        case (.safe, _), (_, .safe):
            throw unsupported("an operation on text that is marked as safe")
        case (.text, _) where operation == .modulo:
            throw unsupported("formatting by '%'; '~' joins texts")
        default: break
        }
        if let left = Number(left), let right = Number(right) {
            return try compute(operation, left, right)
        }
        switch (operation, left, right) {
        case (.add, .text(let left), .text(let right)):
            try charge(text: left.count + right.count)
            return .text(Text(left.scalars + right.scalars))
        case (.add, .list(let left), .list(let right)):
            return .list(try items(left.values + right.values))
        case (.add, .tuple(let left), .tuple(let right)):
            return .tuple(try items(left.values + right.values))
        case (.multiply, _, _):
            if let count = right.integer { return try repeated(left, count) }
            if let count = left.integer { return try repeated(right, count) }
        default: break
        }
        throw fail("no arithmetic between a \(left.type) and a \(right.type)")
    }

    private func repeated(_ value: Value, _ count: Int) throws(TemplateError) -> Value {
        let count = Swift.max(0, count)
        func times(_ length: Int) throws(TemplateError) -> Int {
            let (product, isTooMany) = length.multipliedReportingOverflow(by: count)
            try charge(isTooMany ? Int.max / 2 : product / 8)
            return product
        }
        switch value {
        case .text(let text):
            try charge(text: try times(text.count))
            var out: [Unicode.Scalar] = []
            out.reserveCapacity(text.count * count)
            for _ in 0..<count { out += text.scalars }
            return .text(Text(out))
        case .list(let items):
            _ = try times(items.values.count &* 8)
            return .list(try self.items((0..<count).flatMap { _ in items.values }))
        case .tuple(let items):
            _ = try times(items.values.count &* 8)
            return .tuple(try self.items((0..<count).flatMap { _ in items.values }))
        default: throw fail("a \(value.type) cannot be repeated")
        }
    }

    func negative(_ value: Value) throws(TemplateError) -> Value {
        if case .undefined(let why) = value { throw fail(why) }
        switch Number(value) {
        case .int(let number):
            let (negated, overflows) = 0.subtractingReportingOverflow(number)
            guard !overflows else { throw tooLarge() }
            return .int(negated)
        case .float(let number): return .float(-number)
        case nil: throw fail("no negative of a \(value.type)")
        }
    }

    private func tooLarge() -> TemplateError {
        unsupported("an integer of more than 64 bits")
    }

    private func compute(
        _ operation: Expression.Arithmetic, _ left: Number, _ right: Number
    ) throws(TemplateError) -> Value {
        guard case .int(let left) = left, case .int(let right) = right else {
            return .float(try compute(operation, left.double, right.double))
        }
        func checked(_ result: (partialValue: Int, overflow: Bool)) throws(TemplateError) -> Value {
            guard !result.overflow else { throw tooLarge() }
            return .int(result.partialValue)
        }
        switch operation {
        case .add: return try checked(left.addingReportingOverflow(right))
        case .subtract: return try checked(left.subtractingReportingOverflow(right))
        case .multiply: return try checked(left.multipliedReportingOverflow(by: right))
        case .divide:
            guard right != 0 else { throw fail("a division by zero") }
            guard let left = Double(exactly: left), let right = Double(exactly: right) else {
                throw unsupported("a division of integers that no float holds exactly")
            }
            return .float(left / right)
        case .floorDivide, .modulo:
            guard right != 0 else { throw fail("a division by zero") }
            guard right != -1 else {
                return operation == .modulo
                    ? .int(0) : try checked(0.subtractingReportingOverflow(left))
            }
            let (quotient, remainder) = left.quotientAndRemainder(dividingBy: right)
            let isOff = remainder != 0 && (remainder < 0) != (right < 0)
            return .int(
                operation == .modulo
                    ? (isOff ? remainder + right : remainder) : (isOff ? quotient - 1 : quotient))
        case .power: return try power(left, right)
        }
    }

    private func power(_ base: Int, _ exponent: Int) throws(TemplateError) -> Value {
        guard exponent >= 0 else {
            guard base != 0 else { throw fail("a negative power of zero") }
            return .float(pow(Double(base), Double(exponent)))
        }
        if base == 0 || base == 1 { return .int(exponent == 0 ? 1 : base) }
        if base == -1 { return .int(exponent % 2 == 0 ? 1 : -1) }
        guard exponent < 64 else { throw tooLarge() }
        var result = 1
        for _ in 0..<exponent {
            let (product, overflows) = result.multipliedReportingOverflow(by: base)
            guard !overflows else { throw tooLarge() }
            result = product
        }
        return .int(result)
    }

    private func compute(
        _ operation: Expression.Arithmetic, _ left: Double, _ right: Double
    ) throws(TemplateError) -> Double {
        switch operation {
        case .add: return left + right
        case .subtract: return left - right
        case .multiply: return left * right
        case .divide, .floorDivide, .modulo:
            guard right != 0 else { throw fail("a division by zero") }
            if operation == .divide { return left / right }
            let (quotient, remainder) = Self.floorDivision(left, right)
            return operation == .modulo ? remainder : quotient
        case .power:
            if left == 0, right < 0 { throw fail("a negative power of zero") }
            let result = pow(left, right)
            guard !result.isNaN || left.isNaN || right.isNaN else {
                throw unsupported("a power that is a complex number")
            }
            guard result.isFinite || !left.isFinite || !right.isFinite else {
                throw fail("a power that is too large")
            }
            return result
        }
    }

    /// As CPython's `float_divmod`.
    private static func floorDivision(
        _ left: Double, _ right: Double
    ) -> (quotient: Double, remainder: Double) {
        var remainder = fmod(left, right)
        var quotient = (left - remainder) / right
        if remainder != 0 {
            if (right < 0) != (remainder < 0) {
                remainder += right
                quotient -= 1
            }
        } else {
            remainder = copysign(0, right)
        }
        guard quotient != 0 else { return (copysign(0, left / right), remainder) }
        var floored = floor(quotient)
        if quotient - floored > 0.5 { floored += 1 }
        return (floored, remainder)
    }
}

/// A value that is a number to Python: booleans are.
enum Number {
    case int(Int)
    case float(Double)

    init?(_ value: Value) {
        switch value {
        case .int(let number): self = .int(number)
        case .bool(let flag): self = .int(flag ? 1 : 0)
        case .float(let number): self = .float(number)
        default: return nil
        }
    }

    var double: Double {
        switch self {
        case .int(let number): Double(number)
        case .float(let number): number
        }
    }

    func isEqual(_ other: Number) -> Bool {
        switch (self, other) {
        case (.int(let left), .int(let right)): left == right
        case (.float(let left), .float(let right)): left == right
        case (.int(let left), .float(let right)), (.float(let right), .int(let left)):
            Int(exactly: right) == left
        }
    }

    /// Exact, also between integers and floats.
    func isLess(_ other: Number) -> Bool {
        switch (self, other) {
        case (.int(let left), .int(let right)): left < right
        case (.float(let left), .float(let right)): left < right
        case (.int(let left), .float(let right)):
            if let whole = Int(exactly: right.rounded(.up)) { left < whole } else { right > 0 }
        case (.float(let left), .int(let right)):
            if let whole = Int(exactly: left.rounded(.down)) { whole < right } else { left < 0 }
        }
    }
}
