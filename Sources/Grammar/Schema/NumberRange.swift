// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// A decimal number, exactly.
struct Decimal: Sendable, Equatable {
    var isNegative: Bool
    /// Without leading zeros: none for 0. Values, not characters.
    var whole: [UInt8]
    /// Without trailing zeros.
    var fraction: [UInt8]

    static let zero = Decimal(isNegative: false, whole: [], fraction: [])
    var isZero: Bool { whole.isEmpty && fraction.isEmpty }
    var negated: Decimal {
        Decimal(isNegative: !isZero && !isNegative, whole: whole, fraction: fraction)
    }

    init(isNegative: Bool, whole: [UInt8], fraction: [UInt8]) {
        self.isNegative = isNegative
        self.whole = whole
        self.fraction = fraction
    }

    /// `nil` for what is not finite.
    init?(_ json: JSON) {
        let text: String
        switch json {
        case .integer(let value): text = String(value)
        case .number(let value):
            guard value.isFinite else { return nil }
            // Above 2⁵³ the shortest text of a double is not its value.
            text = Int(exactly: value).map(String.init) ?? value.description
        default: return nil
        }
        var digits: [UInt8] = []
        var point: Int?
        var exponent = 0
        isNegative = text.hasPrefix("-")
        for (offset, byte) in text.utf8.enumerated() {
            switch byte {
            case 0x30...0x39: digits.append(byte - 0x30)
            case UInt8(ascii: "."): point = digits.count
            case UInt8(ascii: "e"), UInt8(ascii: "E"):
                exponent =
                    Int(
                        text.utf8.dropFirst(offset + 1).reduce(into: "") {
                            $0.unicodeScalars.append(Unicode.Scalar($1))
                        }) ?? 0
            default: break
            }
            if byte | 0x20 == UInt8(ascii: "e") { break }
        }
        let split = (point ?? digits.count) + exponent
        if split < 0 { digits.insert(contentsOf: repeatElement(0, count: -split), at: 0) }
        let at = max(0, split)
        if at > digits.count { digits += repeatElement(0, count: at - digits.count) }
        whole = Array(digits[..<at].drop { $0 == 0 })
        var fraction = Array(digits[at...])
        while fraction.last == 0 { fraction.removeLast() }
        self.fraction = fraction
        if isZero { isNegative = false }
    }

    static func < (left: Decimal, right: Decimal) -> Bool {
        if left.isNegative != right.isNegative { return left.isNegative }
        if left.isNegative { return right.negated < left.negated }
        if left.whole.count != right.whole.count { return left.whole.count < right.whole.count }
        if left.whole != right.whole { return left.whole.lexicographicallyPrecedes(right.whole) }
        return left.fraction.lexicographicallyPrecedes(right.fraction)
    }

    /// The whole part, if it has at most 18 digits.
    var wholeValue: Int? { whole.count > 18 ? nil : whole.reduce(0) { $0 * 10 + Int($1) } }
}

/// Bounds of a number.
struct NumberRange: Sendable {
    struct Bound: Sendable {
        let value: Decimal
        let isIncluded: Bool
    }

    var lower: Bound?
    var upper: Bound?
    /// `multipleOf` 1.
    var isWhole = false

    var isFree: Bool { lower == nil && upper == nil }

    mutating func add(_ located: LocatedSchema) throws(GrammarError) {
        var own = NumberRange()
        try own.addLower(located, "minimum", isIncluded: true)
        try own.addLower(located, "exclusiveMinimum", isIncluded: false)
        try own.addUpper(located, "maximum", isIncluded: true)
        try own.addUpper(located, "exclusiveMaximum", isIncluded: false)
        guard !own.isEmpty else {
            throw located.error("", "its minimum is above its maximum: no number obeys both")
        }
        if let bound = own.lower { raise(bound) }
        if let bound = own.upper { cap(bound) }
        guard let multiple = located.schema["multipleOf"] else { return }
        guard multiple.number == 1 else {
            throw located.error("multipleOf", "\(multiple.brief): only 1 is supported")
        }
        isWhole = true
    }

    private static func value(
        _ located: LocatedSchema, _ keyword: String
    ) throws(GrammarError) -> Decimal? {
        guard let json = located.schema[keyword] else { return nil }
        guard let value = Decimal(json) else {
            throw located.error(keyword, "it must be a finite number, not \(json.kind)")
        }
        return value
    }

    private mutating func addLower(
        _ located: LocatedSchema, _ keyword: String, isIncluded: Bool
    ) throws(GrammarError) {
        if let value = try Self.value(located, keyword) {
            raise(Bound(value: value, isIncluded: isIncluded))
        }
    }

    private mutating func addUpper(
        _ located: LocatedSchema, _ keyword: String, isIncluded: Bool
    ) throws(GrammarError) {
        if let value = try Self.value(located, keyword) {
            cap(Bound(value: value, isIncluded: isIncluded))
        }
    }

    private mutating func raise(_ bound: Bound) {
        guard let old = lower else {
            lower = bound
            return
        }
        if old.value < bound.value || old.value == bound.value && !bound.isIncluded {
            lower = bound
        }
    }

    private mutating func cap(_ bound: Bound) {
        guard let old = upper else {
            upper = bound
            return
        }
        if bound.value < old.value || old.value == bound.value && !bound.isIncluded {
            upper = bound
        }
    }

    /// No number lies in it.
    var isEmpty: Bool {
        guard let lower, let upper else { return false }
        if lower.value == upper.value { return !(lower.isIncluded && upper.isIncluded) }
        return upper.value < lower.value
    }

    func contains(_ value: Decimal) -> Bool {
        if let lower, value < lower.value || value == lower.value && !lower.isIncluded {
            return false
        }
        if let upper, upper.value < value || value == upper.value && !upper.isIncluded {
            return false
        }
        return true
    }

    /// No number lies in both.
    func isDisjoint(from other: NumberRange) -> Bool {
        var both = self
        if let bound = other.lower { both.raise(bound) }
        if let bound = other.upper { both.cap(bound) }
        return both.isEmpty
    }
}
