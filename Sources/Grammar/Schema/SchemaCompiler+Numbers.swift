// SPDX-License-Identifier: Apache-2.0
//
// Numbers are kept to what every reader takes for the same value: integers of at most 18 digits; other numbers of at most 16 before and
// after the point, of 15 together where a bound is excluded; exponents up to 290, so that a double holds them. A reader with doubles rounds: a number at
// or above a bound stays so, one above it may become it, unless both have at most 15 digits, which doubles tell apart.

extension SchemaCompiler {
    mutating func number(_ shape: SchemaShape) throws(GrammarError) -> ExpressionID {
        let range = shape.range
        if range.isEmpty { return never(shape.place, "its schemas have no number in common") }
        let isWhole = range.isWhole || !shape.types.contains(.fraction)
        let body: ExpressionID
        if isWhole {
            body = try integers(range, shape)
        } else if range.isFree {
            body = freeNumber()
        } else {
            body = try decimals(range, shape)
        }
        return body == Expressions.never ? body : grammar.lexeme(shape.place, body)
    }

    // MARK: Parts

    private mutating func digits(_ low: UInt8, _ high: UInt8) -> ExpressionID {
        low > high ? Expressions.never : grammar.bytes(ByteSet(0x30 + low...0x30 + high))
    }

    private mutating func digits(_ count: Int) -> ExpressionID {
        let digit = digits(0, 9)
        return grammar.loop(digit, count, count)
    }

    private mutating func freeNumber() -> ExpressionID {
        let digit = digits(0, 9)
        let whole = grammar.choice([
            digits(0, 0), grammar.sequence([digits(1, 9), grammar.loop(digit, 0, 15)]),
        ])
        let fraction = grammar.sequence([grammar.literal("."), grammar.loop(digit, 1, 16)])
        var letter = ByteSet(UInt8(ascii: "e"))
        letter.insert(UInt8(ascii: "E"))
        var sign = ByteSet(UInt8(ascii: "+"))
        sign.insert(UInt8(ascii: "-"))
        let power = grammar.choice([
            grammar.loop(digit, 1, 2), grammar.sequence([digits(0, 1), digit, digit]),
            grammar.sequence([digits(2, 2), digits(0, 8), digit]), grammar.literal("290"),
        ])
        let e = grammar.sequence([grammar.bytes(letter), grammar.optional(grammar.bytes(sign))])
        let exponent = grammar.sequence([e, power])
        // 0 is 0 with any exponent.
        let zero = grammar.sequence([
            digits(0, 0),
            grammar.optional(
                grammar.sequence([grammar.literal("."), grammar.loop(digits(0, 0), 1, 16)])),
            e, grammar.loop(digit, 3, 9),
        ])
        let number = grammar.sequence([
            whole, grammar.optional(fraction), grammar.optional(exponent),
        ])
        return grammar.sequence([
            grammar.optional(grammar.literal("-")), grammar.choice([number, zero]),
        ])
    }

    // MARK: Integers

    private static let largest = 999_999_999_999_999_999

    private mutating func integers(
        _ range: NumberRange, _ shape: SchemaShape
    ) throws(GrammarError) -> ExpressionID {
        // Bounds beyond 18 digits leave all that is written, or nothing.
        let low = range.lower.map { Self.ceiling($0) } ?? -Self.largest
        let high = range.upper.map { -Self.ceiling($0.negated) } ?? Self.largest
        guard low <= high, low <= Self.largest, high >= -Self.largest else {
            return never(shape.place, "no integer of at most 18 digits lies between its bounds")
        }
        var choices: [ExpressionID] = []
        if low < 0 {
            let below = positive(max(1, -high), min(-low, Self.largest))
            choices.append(grammar.sequence([grammar.literal("-"), below]))
        }
        if low <= 0, high >= 0 { choices.append(digits(0, 0)) }
        if high > 0 { choices.append(positive(max(1, low), min(high, Self.largest))) }
        return grammar.choice(choices)
    }

    /// The least integer at or above a lower bound.
    private static func ceiling(_ bound: NumberRange.Bound) -> Int {
        let value = bound.value
        guard let whole = value.wholeValue else {
            return value.isNegative ? -largest : largest + 1
        }
        if value.isNegative {
            return -whole + (value.fraction.isEmpty && !bound.isIncluded ? 1 : 0)
        }
        return whole + (value.fraction.isEmpty && bound.isIncluded ? 0 : 1)
    }

    /// The integers low...high, 1 and more, as they are written.
    private mutating func positive(_ low: Int, _ high: Int) -> ExpressionID {
        guard low <= high else { return Expressions.never }
        var choices: [ExpressionID] = []
        var start = low
        while start <= high {
            let count = String(start).count
            let end = min(high, Int(String(repeating: "9", count: count)) ?? high)
            choices.append(between(Self.digits(of: start)[...], Self.digits(of: end)[...]))
            start = end + 1
        }
        return grammar.choice(choices)
    }

    private static func digits(of value: Int) -> [UInt8] { String(value).utf8.map { $0 - 0x30 } }

    /// Texts of as many digits as both have, from `low` to `high`.
    private mutating func between(
        _ low: ArraySlice<UInt8>, _ high: ArraySlice<UInt8>
    ) -> ExpressionID {
        guard let first = low.first, let last = high.first else { return Expressions.empty }
        let (lows, highs) = (low.dropFirst(), high.dropFirst())
        if lows.allSatisfy({ $0 == 0 }), highs.allSatisfy({ $0 == 9 }) {
            return grammar.sequence([digits(first, last), digits(lows.count)])
        }
        if first == last { return grammar.sequence([digits(first, first), between(lows, highs)]) }
        let nines = lows.map { _ in UInt8(9) }[...]
        let zeros = lows.map { _ in UInt8(0) }[...]
        var choices = [
            grammar.sequence([digits(first, first), between(lows, nines)]),
            grammar.sequence([digits(last, last), between(zeros, highs)]),
        ]
        if first + 1 < last {
            choices.append(grammar.sequence([digits(first + 1, last - 1), digits(lows.count)]))
        }
        return grammar.choice(choices)
    }

    // MARK: Fractions

    private mutating func decimals(
        _ range: NumberRange, _ shape: SchemaShape
    ) throws(GrammarError) -> ExpressionID {
        for bound in [range.lower, range.upper].compactMap({ $0?.value })
        where bound.whole.count + bound.fraction.count > 15 {
            throw GrammarError(
                shape.place,
                "a bound of more than 15 significant digits is supported for integers only")
        }
        let zero = NumberRange.Bound(value: .zero, isIncluded: true)
        let aboveZero = NumberRange.Bound(value: .zero, isIncluded: false)
        var choices: [ExpressionID] = []
        if range.upper.map({ !$0.value.isNegative }) ?? true {
            let low = range.lower.flatMap { $0.value.isNegative ? nil : $0 } ?? zero
            choices.append(try magnitudes(low, range.upper, shape))
        }
        if range.lower.map({ $0.value.isNegative }) ?? true {
            var low = aboveZero
            if let upper = range.upper, upper.value.isNegative { low = upper.negated }
            choices.append(
                grammar.sequence([
                    grammar.literal("-"), try magnitudes(low, range.lower?.negated, shape),
                ]))
        }
        return grammar.choice(choices)
    }

    /// Numbers without a sign, from `low` to `high`.
    private mutating func magnitudes(
        _ low: NumberRange.Bound, _ high: NumberRange.Bound?, _ shape: SchemaShape
    ) throws(GrammarError) -> ExpressionID {
        let range = NumberRange(lower: low, upper: high)
        if range.isEmpty { return Expressions.never }
        // 0 is told from all others.
        let isExact = [low, high].allSatisfy { $0?.isIncluded != false || $0?.value.isZero == true }
        let count =
            high?.value.whole.count
            ?? (isExact ? 16 : min(15, max(9, low.value.whole.count + 1)))
        let places = isExact ? 16 : 15 - count
        let needed = max(low.value.fraction.count, high?.value.fraction.count ?? 0)
        guard needed <= places, let first = low.value.wholeValue else {
            throw GrammarError(
                shape.place,
                "its bounds take more than 15 digits together, which doubles do not tell apart")
        }
        let last = high?.value.wholeValue ?? Int(String(repeating: "9", count: count)) ?? 0
        let free = fraction(nil, nil, places)
        var choices: [ExpressionID] = []
        func add(_ from: Int, _ to: Int, _ fraction: ExpressionID, _ compiler: inout SchemaCompiler)
        {
            guard from <= to else { return }
            var wholes = from == 0 ? [compiler.digits(0, 0)] : []
            wholes.append(compiler.positive(max(1, from), to))
            let whole = compiler.grammar.choice(wholes)
            choices.append(compiler.grammar.sequence([whole, fraction]))
        }
        if let high, first == last {
            add(first, first, fraction(low, high, places), &self)
        } else {
            add(first, first, fraction(low, nil, places), &self)
            if let high {
                add(last, last, fraction(nil, high, places), &self)
                add(first + 1, last - 1, free, &self)
            } else {
                add(first + 1, last, free, &self)
            }
        }
        return grammar.choice(choices)
    }

    /// What follows a whole part: nothing, or a point and at most `places` digits, so that the fraction is at least that of `low`
    /// and at most that of `high`.
    private mutating func fraction(
        _ low: NumberRange.Bound?, _ high: NumberRange.Bound?, _ places: Int
    ) -> ExpressionID {
        let none = ends(low, high, 0) ? Expressions.empty : Expressions.never
        let some = places > 0 ? more(low, high, 0, places) : Expressions.never
        return grammar.choice([none, grammar.sequence([grammar.literal("."), some])])
    }

    /// Whether the fraction may end after `index` digits that equal those of the bounds that are still given.
    private func ends(_ low: NumberRange.Bound?, _ high: NumberRange.Bound?, _ index: Int) -> Bool {
        if let low, index < low.value.fraction.count || !low.isIncluded { return false }
        if let high, index >= high.value.fraction.count, !high.isIncluded { return false }
        return true
    }

    /// One digit or more from place `index` on.
    private mutating func more(
        _ low: NumberRange.Bound?, _ high: NumberRange.Bound?, _ index: Int, _ places: Int
    ) -> ExpressionID {
        if low == nil, high == nil {
            let digit = digits(0, 9)
            return grammar.loop(digit, 1, places - index)
        }
        func digit(_ bound: NumberRange.Bound) -> UInt8 {
            index < bound.value.fraction.count ? bound.value.fraction[index] : 0
        }
        let from = low.map(digit) ?? 0
        let to = high.map(digit) ?? 9
        guard from <= to else { return Expressions.never }
        var choices: [ExpressionID] = []
        for value in from...to {
            // A bound counts as long as the digits are its own.
            let nextLow = value == from ? low : nil
            let nextHigh = value == to ? high : nil
            var rest: [ExpressionID] = []
            if ends(nextLow, nextHigh, index + 1) { rest.append(Expressions.empty) }
            if index + 1 < places { rest.append(more(nextLow, nextHigh, index + 1, places)) }
            choices.append(
                grammar.sequence([digits(value, value), grammar.choice(rest)]))
        }
        return grammar.choice(choices)
    }
}

extension NumberRange.Bound {
    /// The same bound of the number without its sign.
    fileprivate var negated: NumberRange.Bound {
        NumberRange.Bound(value: value.negated, isIncluded: isIncluded)
    }
}
