// SPDX-License-Identifier: Apache-2.0

/// Cuts a text into the pieces that byte-level merges stay within, as the pre-tokenizers of Llama 3 and Qwen2 do:
///
///     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
///
/// with `\p{N}` for `\p{N}{1,3}` in Qwen2. Without a regular expression: the first alternative that matches counts, and none
/// looks at a character more than twice. The text is well-formed UTF-8.
struct PieceSplitter {
    private enum Class { case letter, number, space, other }

    /// Numbers in a piece, at most: 3 or 1.
    private let digits: Int
    private let text: UnsafeBufferPointer<UInt8>
    private var at = 0

    init(_ text: UnsafeBufferPointer<UInt8>, digits: Int) {
        self.text = text
        self.digits = digits
    }

    /// The next piece; nil at the end.
    mutating func next() -> Range<Int>? {
        guard at < text.count else { return nil }
        let begin = at
        at =
            contraction(begin) ?? letters(begin) ?? numbers(begin) ?? others(begin) ?? spaces(begin)
        return begin..<at
    }

    // MARK: - The alternatives: where a match that begins at `begin` ends

    private func contraction(_ begin: Int) -> Int? {
        guard text[begin] == UInt8(ascii: "'") else { return nil }
        var end = begin + 1
        guard let first = folded(&end) else { return nil }
        switch first {
        case "s", "t", "m", "d": return end
        case "r", "v": return folded(&end) == "e" ? end : nil
        case "l": return folded(&end) == "l" ? end : nil
        default: return nil
        }
    }

    /// The letter at `at` in lower case. Of the characters beyond ASCII only "ſ" folds to one that matters.
    private func folded(_ at: inout Int) -> Unicode.Scalar? {
        guard at < text.count else { return nil }
        let scalar = UTF8Scalars.next(text, &at)
        if scalar == 0x17F { return "s" }
        return Unicode.Scalar((65...90).contains(scalar) ? scalar + 32 : scalar)
    }

    private func letters(_ begin: Int) -> Int? {
        var end = begin
        switch step(&end) {
        case .letter: break
        case .number: return nil
        case .space, .other:
            guard text[begin] != 0x0D, text[begin] != 0x0A, end < text.count, step(&end) == .letter
            else { return nil }
        }
        return run(.letter, from: end)
    }

    private func numbers(_ begin: Int) -> Int? {
        var (end, count) = (begin, 0)
        while end < text.count, count < digits {
            var next = end
            guard step(&next) == .number else { break }
            end = next
            count += 1
        }
        return count > 0 ? end : nil
    }

    private func others(_ begin: Int) -> Int? {
        let start = text[begin] == 0x20 ? begin + 1 : begin
        var end = run(.other, from: start)
        guard end > start else { return nil }
        while end < text.count, text[end] == 0x0D || text[end] == 0x0A { end += 1 }
        return end
    }

    /// A run of white space: up to its last line end; else all of it at the end of the text, all but the last character before
    /// something else, or the one there is.
    private func spaces(_ begin: Int) -> Int {
        var (end, last, afterLine) = (begin, begin, begin)
        while end < text.count {
            var next = end
            guard step(&next) == .space else { break }
            last = end
            if text[end] == 0x0D || text[end] == 0x0A { afterLine = next }
            end = next
        }
        if afterLine > begin { return afterLine }
        return end == text.count || last == begin ? end : last
    }

    // MARK: - Characters

    private func run(_ wanted: Class, from begin: Int) -> Int {
        var end = begin
        while end < text.count {
            var next = end
            guard step(&next) == wanted else { break }
            end = next
        }
        return end
    }

    /// The class of the character at `at`, which moves behind it.
    private func step(_ at: inout Int) -> Class {
        let scalar = UTF8Scalars.next(text, &at)
        if scalar < 0x80 {
            switch UInt8(scalar) {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"):
                return .letter
            case UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
            case 9...13, 32: return .space
            default: return .other
            }
        }
        if UnicodeRanges.letters.contains(scalar) { return .letter }
        if UnicodeRanges.numbers.contains(scalar) { return .number }
        return UnicodeRanges.spaces.contains(scalar) ? .space : .other
    }
}
