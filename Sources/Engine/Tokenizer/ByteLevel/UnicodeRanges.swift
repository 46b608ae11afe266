// SPDX-License-Identifier: Apache-2.0

/// A set of Unicode scalars as rising ranges, each with a value. From `UnicodeTables`: this project's own, since token ids would
/// else depend on the platform's version of Unicode.
struct UnicodeRanges: Sendable {
    private var firsts: [UInt32] = []
    private var lasts: [UInt32] = []
    private var values: [UInt8] = []

    static let letters = UnicodeRanges(UnicodeTables.letters)
    static let numbers = UnicodeRanges(UnicodeTables.numbers)
    static let spaces = UnicodeRanges(UnicodeTables.spaces)
    static let combining = UnicodeRanges(UnicodeTables.combining)

    /// Words of hexadecimal: "41", "41-5A" or "300-314:E6"; the value is 1 where none is given.
    init(_ table: StaticString) {
        for var word in UnicodeWords(table) {
            let first = word.number()
            firsts.append(first)
            lasts.append(word.skip("-") ? word.number() : first)
            values.append(word.skip(":") ? UInt8(truncatingIfNeeded: word.number()) : 1)
        }
    }

    /// The scalar's value, 0 outside all ranges.
    func value(_ scalar: UInt32) -> UInt8 {
        var (low, high) = (0, firsts.count)
        while low < high {
            let middle = (low + high) / 2
            if firsts[middle] <= scalar { low = middle + 1 } else { high = middle }
        }
        return low > 0 && scalar <= lasts[low - 1] ? values[low - 1] : 0
    }

    func contains(_ scalar: UInt32) -> Bool { value(scalar) != 0 }
}

/// The words of a table, parted by spaces.
struct UnicodeWords: Sequence, IteratorProtocol {
    /// A word read from its front.
    struct Word {
        fileprivate var rest: Slice<UnsafeBufferPointer<UInt8>>

        /// The hexadecimal number that stands here.
        mutating func number() -> UInt32 {
            var value: UInt32 = 0
            while let digit = rest.first,
                let number = Character(Unicode.Scalar(digit)).hexDigitValue
            {
                value = value << 4 | UInt32(number)
                rest.removeFirst()
            }
            return value
        }

        mutating func skip(_ mark: Unicode.Scalar) -> Bool {
            guard rest.first == UInt8(ascii: mark) else { return false }
            rest.removeFirst()
            return true
        }
    }

    private let bytes: UnsafeBufferPointer<UInt8>
    private var at = 0

    init(_ table: StaticString) {
        bytes = UnsafeBufferPointer(start: table.utf8Start, count: table.utf8CodeUnitCount)
    }

    mutating func next() -> Word? {
        while at < bytes.count, bytes[at] == 0x20 { at += 1 }
        let begin = at
        while at < bytes.count, bytes[at] != 0x20 { at += 1 }
        return begin == at ? nil : Word(rest: bytes[begin..<at])
    }
}
