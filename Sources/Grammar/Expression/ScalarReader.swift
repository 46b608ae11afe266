// SPDX-License-Identifier: Apache-2.0

/// Text from outside, scalar by scalar, with the offsets in bytes that messages name.
struct ScalarReader {
    private let scalars: [(scalar: Unicode.Scalar, offset: Int)]
    private var position = 0
    private let byteCount: Int

    init(_ bytes: [UInt8]) throws(GrammarError) {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw GrammarError("", "it is not UTF-8")
        }
        var offset = 0
        var scalars: [(Unicode.Scalar, Int)] = []
        scalars.reserveCapacity(bytes.count)
        for scalar in text.unicodeScalars {
            scalars.append((scalar, offset))
            offset += UTF8.width(scalar)
        }
        self.scalars = scalars
        byteCount = bytes.count
    }

    var isAtEnd: Bool { position == scalars.count }
    var peek: Unicode.Scalar? { isAtEnd ? nil : scalars[position].scalar }
    /// Where the next scalar stands, bytes from the start.
    var offset: Int { isAtEnd ? byteCount : scalars[position].offset }

    func error(_ problem: String) -> GrammarError { GrammarError(byte: offset, problem) }

    mutating func next() -> Unicode.Scalar? {
        guard let scalar = peek else { return nil }
        position += 1
        return scalar
    }

    mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard peek == scalar else { return false }
        position += 1
        return true
    }

    func begins(with text: String) -> Bool {
        scalars[position...].lazy.map(\.scalar).starts(with: text.unicodeScalars)
    }

    mutating func take(_ text: String) -> Bool {
        guard begins(with: text) else { return false }
        position += text.unicodeScalars.count
        return true
    }

    // MARK: What patterns and grammars share

    /// What follows "{": "3}", "3,}" or "3,5}".
    ///
    /// - Parameter at: where the brace stands.
    mutating func bounds(_ at: Int) throws(GrammarError) -> (Int, Int?) {
        guard let least = try number() else {
            throw GrammarError(byte: at, "a count is {m}, {m,} or {m,n}")
        }
        if take("}") { return (least, least) }
        guard take(",") else { throw GrammarError(byte: at, "a count is {m}, {m,} or {m,n}") }
        if take("}") { return (least, nil) }
        guard let most = try number(), take("}") else {
            throw GrammarError(byte: at, "a count is {m}, {m,} or {m,n}")
        }
        guard least <= most else {
            throw GrammarError(byte: at, "{\(least),\(most)}: the count ends before it begins")
        }
        return (least, most)
    }

    private mutating func number() throws(GrammarError) -> Int? {
        let at = offset
        var value: Int?
        while let digit = peek, ("0"..."9").contains(digit) {
            position += 1
            value = (value ?? 0) * 10 + Int(digit.value - 0x30)
            guard let value, value <= GrammarLimits.repetitions else {
                throw GrammarError(
                    byte: at, "a count of more than \(GrammarLimits.repetitions)")
            }
        }
        return value
    }

    /// A scalar of exactly `count` hexadecimal digits.
    mutating func hex(_ count: Int, _ at: Int) throws(GrammarError) -> Unicode.Scalar {
        let value = try digits(count, at)
        guard let scalar = Unicode.Scalar(value) else {
            throw GrammarError(byte: at, "no Unicode scalar has the number \(value)")
        }
        return scalar
    }

    private mutating func digits(_ count: Int, _ at: Int) throws(GrammarError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<count {
            guard let digit = peek, digit.isASCII,
                let number = Character(digit).hexDigitValue
            else { throw GrammarError(byte: at, "\(count) hexadecimal digits are needed") }
            position += 1
            value = value << 4 | UInt32(number)
        }
        return value
    }

    /// What follows "\u": four digits, two of those for a surrogate pair, or "{…}".
    mutating func unicode(_ at: Int) throws(GrammarError) -> Unicode.Scalar {
        if take("{") {
            var value: UInt32 = 0
            var count = 0
            while let digit = peek, digit.isASCII, let number = Character(digit).hexDigitValue,
                count < 6
            {
                position += 1
                count += 1
                value = value << 4 | UInt32(number)
            }
            guard count > 0, take("}"), let scalar = Unicode.Scalar(value) else {
                throw GrammarError(byte: at, "\\u{…} names no Unicode scalar")
            }
            return scalar
        }
        let high = try digits(4, at)
        guard (0xD800...0xDBFF).contains(high), take("\\u") else {
            guard let scalar = Unicode.Scalar(high) else {
                throw GrammarError(byte: at, "half a surrogate pair")
            }
            return scalar
        }
        let low = try digits(4, at)
        guard (0xDC00...0xDFFF).contains(low),
            let scalar = Unicode.Scalar(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        else { throw GrammarError(byte: at, "half a surrogate pair") }
        return scalar
    }
}
