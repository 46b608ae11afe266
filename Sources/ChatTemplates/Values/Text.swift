// SPDX-License-Identifier: Apache-2.0

/// Text as Python has it: a sequence of Unicode scalars, compared one by one. (Swift's `String` counts grapheme clusters and calls
/// canonically equivalent texts equal.)
struct Text: Hashable, Sendable, ExpressibleByStringLiteral {
    var scalars: [Unicode.Scalar]

    init(_ scalars: [Unicode.Scalar]) { self.scalars = scalars }
    init(_ scalars: ArraySlice<Unicode.Scalar>) { self.scalars = Array(scalars) }
    init(_ string: String) { scalars = Array(string.unicodeScalars) }
    init(stringLiteral value: String) { self.init(value) }

    var count: Int { scalars.count }
    var isEmpty: Bool { scalars.isEmpty }

    var string: String {
        var string = String.UnicodeScalarView()
        string.append(contentsOf: scalars)
        return String(string)
    }

    static func < (left: Text, right: Text) -> Bool {
        left.scalars.lexicographicallyPrecedes(right.scalars)
    }

    // MARK: Finding

    func matches(_ other: Text, at offset: Int) -> Bool {
        guard offset >= 0, offset + other.count <= count else { return false }
        for i in 0..<other.count where scalars[offset + i] != other.scalars[i] { return false }
        return true
    }

    func hasPrefix(_ other: Text) -> Bool { matches(other, at: 0) }
    func hasSuffix(_ other: Text) -> Bool { matches(other, at: count - other.count) }

    /// Where `other` begins first, at `start` or behind it. Knuth, Morris and Pratt's search: linear, whatever the texts.
    func first(_ other: Text, from start: Int = 0) -> Int? {
        guard !other.isEmpty else { return start <= count ? start : nil }
        guard start + other.count <= count else { return nil }
        return Search(other).first(in: scalars, from: start)
    }

    func last(_ other: Text) -> Int? {
        guard !other.isEmpty else { return count }
        let reversed = Text(Array(scalars.reversed()))
        return reversed.first(Text(Array(other.scalars.reversed()))).map {
            count - $0 - other.count
        }
    }

    /// All places of `other` from left to right that do not overlap, at most `limit`; `other` is not empty.
    func all(_ other: Text, limit: Int) -> [Int] {
        let search = Search(other)
        var places: [Int] = []
        var start = 0
        while places.count < limit, let place = search.first(in: scalars, from: start) {
            places.append(place)
            start = place + other.count
        }
        return places
    }

    private struct Search {
        let pattern: [Unicode.Scalar]
        /// Length of the longest border of each prefix.
        let borders: [Int]

        init(_ text: Text) {
            pattern = text.scalars
            var borders = [Int](repeating: 0, count: pattern.count)
            var length = 0
            for i in pattern.indices.dropFirst() {
                while length > 0, pattern[i] != pattern[length] { length = borders[length - 1] }
                if pattern[i] == pattern[length] { length += 1 }
                borders[i] = length
            }
            self.borders = borders
        }

        func first(in scalars: [Unicode.Scalar], from start: Int) -> Int? {
            var length = 0
            for i in start..<scalars.count {
                while length > 0, scalars[i] != pattern[length] { length = borders[length - 1] }
                if scalars[i] == pattern[length] { length += 1 }
                if length == pattern.count { return i - length + 1 }
            }
            return nil
        }
    }

    // MARK: Parts

    /// - Parameter set: the scalars to drop; nil: white space.
    func stripped(_ set: Text?, left: Bool = true, right: Bool = true) -> Text {
        let members = set.map { Set($0.scalars) }
        func drops(_ scalar: Unicode.Scalar) -> Bool {
            members?.contains(scalar) ?? scalar.isPythonSpace
        }
        var (start, end) = (0, count)
        if left { while start < end, drops(scalars[start]) { start += 1 } }
        if right { while end > start, drops(scalars[end - 1]) { end -= 1 } }
        return Text(scalars[start..<end])
    }

    /// Python's `splitlines` without line ends.
    var lines: [Text] {
        var lines: [Text] = []
        var start = 0
        var i = 0
        while i < count {
            if scalars[i].isPythonLineBreak {
                lines.append(Text(scalars[start..<i]))
                if scalars[i] == "\r", i + 1 < count, scalars[i + 1] == "\n" { i += 1 }
                start = i + 1
            }
            i += 1
        }
        if start < count { lines.append(Text(scalars[start...])) }
        return lines
    }

    // MARK: Case

    var uppercased: Text {
        Text(scalars.flatMap { $0.properties.uppercaseMapping.unicodeScalars })
    }

    var lowercased: Text { lowercased(from: 0) }

    private func lowercased(from start: Int) -> Text {
        var out = Array(scalars[..<start])
        for i in start..<count { out += lowercase(i) }
        return Text(out)
    }

    /// A capital sigma that ends a word becomes "ς" (Unicode's Final_Sigma).
    private func lowercase(_ i: Int) -> [Unicode.Scalar] {
        guard scalars[i] == "\u{3A3}" else {
            return Array(scalars[i].properties.lowercaseMapping.unicodeScalars)
        }
        let before = scalars[..<i].last { !$0.properties.isCaseIgnorable }
        let after = scalars[(i + 1)...].first { !$0.properties.isCaseIgnorable }
        let isFinal = before?.properties.isCased == true && after?.properties.isCased != true
        return [isFinal ? "\u{3C2}" : "\u{3C3}"]
    }

    var capitalized: Text {
        guard let first = scalars.first else { return self }
        let rest = lowercased(from: 1).scalars.dropFirst()
        return Text(Array(first.properties.titlecaseMapping.unicodeScalars) + rest)
    }

    /// Python's `str.title`: the first cased scalar of each run of cased ones is in title case, the others are small.
    var titlecased: Text {
        var out: [Unicode.Scalar] = []
        var isInWord = false
        for i in scalars.indices {
            let properties = scalars[i].properties
            out +=
                isInWord ? lowercase(i) : Array(properties.titlecaseMapping.unicodeScalars)
            isInWord = properties.isCased
        }
        return Text(out)
    }

    /// Python's `isupper` and `islower`: at least one cased scalar, and none of another case.
    func isAll(upper: Bool) -> Bool {
        var found = false
        for scalar in scalars {
            let properties = scalar.properties
            if properties.generalCategory == .titlecaseLetter { return false }
            if upper ? properties.isLowercase : properties.isUppercase { return false }
            if upper ? properties.isUppercase : properties.isLowercase { found = true }
        }
        return found
    }
}

extension Unicode.Scalar {
    var isASCIIDigit: Bool { ("0"..."9").contains(self) }

    var isASCIIWord: Bool {
        ("a"..."z").contains(self) || ("A"..."Z").contains(self) || isASCIIDigit || self == "_"
    }

    /// `str.isspace` of one character, and `\s` of Python's regular expressions.
    var isPythonSpace: Bool {
        switch value {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F,
            0x205F, 0x3000:
            true
        default: false
        }
    }

    /// Where `str.splitlines` splits.
    var isPythonLineBreak: Bool {
        switch value {
        case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029: true
        default: false
        }
    }

    /// Whether `repr` writes it as it is.
    var isPythonPrintable: Bool {
        if self == " " { return true }
        switch properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
            .paragraphSeparator, .spaceSeparator:
            return false
        default: return true
        }
    }
}
