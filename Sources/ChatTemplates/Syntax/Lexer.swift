// SPDX-License-Identifier: Apache-2.0

/// A template's text as tokens, by the rules of Jinja's lexer with `trim_blocks` and `lstrip_blocks`: the first line break after a
/// block is dropped, and so is white space between a line's beginning and a block; `-` drops all white space on its side, `+` none.
struct Lexer {
    private let source: [Unicode.Scalar]
    private var at = 0
    private var tokens: [Token] = []
    /// Whether what was read last ended in a line break.
    private var isLineStart = true
    /// Offsets at which lines begin, for positions.
    private let lines: [Int]

    private init(_ text: String) {
        // Line breaks are "\n", and the last one of the file is none.
        var scalars: [Unicode.Scalar] = []
        var previous: Unicode.Scalar = " "
        for scalar in text.unicodeScalars {
            switch (previous, scalar) {
            case ("\r", "\n"): break
            case (_, "\r"): scalars.append("\n")
            default: scalars.append(scalar)
            }
            previous = scalar
        }
        if scalars.last == "\n" { scalars.removeLast() }
        source = scalars
        lines = [0] + scalars.indices.filter { scalars[$0] == "\n" }.map { $0 + 1 }
    }

    static func tokens(_ text: String) throws(TemplateError) -> [Token] {
        var lexer = Lexer(text)
        try lexer.run()
        return lexer.tokens
    }

    // MARK: Reading

    private func scalar(_ offset: Int) -> Unicode.Scalar? {
        offset >= 0 && offset < source.count ? source[offset] : nil
    }

    private func starts(with text: StaticString, at offset: Int) -> Bool {
        let bytes = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        guard offset >= 0, offset + bytes.count <= source.count else { return false }
        return bytes.indices.allSatisfy { source[offset + $0].value == UInt32(bytes[$0]) }
    }

    private func afterSpace(_ offset: Int) -> Int {
        var offset = offset
        while let scalar = scalar(offset), scalar.isPythonSpace { offset += 1 }
        return offset
    }

    private func position(_ offset: Int) -> TemplatePosition {
        var (low, high) = (0, lines.count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if lines[middle] <= offset { low = middle } else { high = middle }
        }
        return TemplatePosition(line: low + 1, column: offset - lines[low] + 1)
    }

    private func error(_ what: String, at offset: Int) -> TemplateError {
        TemplateError(.syntax, what, at: position(offset))
    }

    private mutating func add(_ kind: Token.Kind, at offset: Int) {
        tokens.append(Token(kind: kind, position: position(offset)))
    }

    private mutating func moved(to offset: Int) {
        at = offset
        isLineStart = scalar(offset - 1) == "\n"
    }

    // MARK: States

    private mutating func run() throws(TemplateError) {
        while at < source.count {
            var tag = at
            while tag < source.count,
                !(source[tag] == "{"
                    && (scalar(tag + 1) == "%" || scalar(tag + 1) == "{" || scalar(tag + 1) == "#"))
            { tag += 1 }
            guard tag < source.count else {
                addData(at..<tag)
                break
            }
            var inner = tag + 2
            let sign = scalar(inner).flatMap { $0 == "-" || $0 == "+" ? $0 : nil }
            if sign != nil { inner += 1 }
            addData(at..<tag, sign: sign, isVariable: source[tag + 1] == "{")
            switch source[tag + 1] {
            case "#": try skipComment(from: inner, begin: tag)
            case "{":
                add(.variableBegin, at: tag)
                at = inner
                try inside(isBlock: false, begin: tag)
            default:
                if let body = afterRaw(inner) {
                    moved(to: body)
                    try readRaw(begin: tag)
                } else {
                    add(.blockBegin, at: tag)
                    at = inner
                    try inside(isBlock: true, begin: tag)
                }
            }
        }
        add(.end, at: source.count)
    }

    /// Text between tags; `sign` stands in the tag behind it, if there is one.
    private mutating func addData(
        _ range: Range<Int>, sign: Unicode.Scalar? = "+", isVariable: Bool = false
    ) {
        var end = range.upperBound
        if sign == "-" {
            while end > range.lowerBound, source[end - 1].isPythonSpace { end -= 1 }
        } else if sign == nil, !isVariable {
            var line = end
            while line > range.lowerBound, source[line - 1] != "\n" { line -= 1 }
            if line > range.lowerBound || isLineStart,
                source[line..<end].allSatisfy(\.isPythonSpace)
            {
                end = line
            }
        }
        if end > range.lowerBound {
            add(.data(Text(Array(source[range.lowerBound..<end]))), at: range.lowerBound)
        }
    }

    private mutating func skipComment(from inner: Int, begin: Int) throws(TemplateError) {
        var end = inner
        while end < source.count, !starts(with: "#}", at: end) { end += 1 }
        guard end < source.count else {
            throw error("'{#' without its '#}'", at: begin)
        }
        let sign = end > inner ? source[end - 1] : " "
        moved(to: afterTag(end + 2, sign: sign))
    }

    /// What follows a tag's end: white space is dropped after `-`, one line break after neither sign.
    private func afterTag(_ offset: Int, sign: Unicode.Scalar) -> Int {
        switch sign {
        case "-": afterSpace(offset)
        case "+": offset
        default: scalar(offset) == "\n" ? offset + 1 : offset
        }
    }

    /// - Returns: where the text of a raw block begins, if `inner` is inside its tag.
    private func afterRaw(_ inner: Int) -> Int? {
        let word = afterSpace(inner)
        guard starts(with: "raw", at: word) else { return nil }
        let end = afterSpace(word + 3)
        if starts(with: "-%}", at: end) { return afterSpace(end + 3) }
        return starts(with: "%}", at: end) ? end + 2 : nil
    }

    private mutating func readRaw(begin: Int) throws(TemplateError) {
        var tag = at
        while tag < source.count {
            defer { tag += 1 }
            guard starts(with: "{%", at: tag) else { continue }
            var inner = tag + 2
            let sign = scalar(inner).flatMap { $0 == "-" || $0 == "+" ? $0 : nil }
            if sign != nil { inner += 1 }
            inner = afterSpace(inner)
            guard starts(with: "endraw", at: inner) else { continue }
            var end = afterSpace(inner + 6)
            var closing: Unicode.Scalar = " "
            if let scalar = scalar(end), scalar == "-" || scalar == "+" {
                closing = scalar
                end += 1
            }
            guard starts(with: "%}", at: end) else { continue }
            addData(at..<tag, sign: sign)
            moved(to: afterTag(end + 2, sign: closing))
            return
        }
        throw error("'{% raw %}' without its '{% endraw %}'", at: begin)
    }

    /// Tokens up to a tag's end.
    private mutating func inside(isBlock: Bool, begin: Int) throws(TemplateError) {
        var brackets: [Token.Symbol] = []
        while at < source.count {
            if brackets.isEmpty, let (end, next) = tagEnd(isBlock: isBlock) {
                add(isBlock ? .blockEnd : .variableEnd, at: end)
                moved(to: next)
                return
            }
            if source[at].isPythonSpace {
                at = afterSpace(at)
                continue
            }
            let start = at
            if let kind = try token() {
                add(kind, at: start)
                continue
            }
            guard let symbol = Token.Symbol.allCases.first(where: { matches($0) }) else {
                throw error("unexpected character '\(source[at])'", at: at)
            }
            if let closing = symbol.closing { brackets.append(closing) }
            if symbol.isClosing {
                guard let expected = brackets.popLast() else {
                    throw error("unexpected '\(symbol.rawValue)'", at: at)
                }
                guard expected == symbol else {
                    throw error(
                        "unexpected '\(symbol.rawValue)', expected '\(expected.rawValue)'", at: at)
                }
            }
            at += symbol.rawValue.unicodeScalars.count
            add(.symbol(symbol), at: start)
        }
        throw error("a tag without its end", at: begin)
    }

    private mutating func token() throws(TemplateError) -> Token.Kind? {
        if let number = try number() { return number }
        if let name = try name() { return name }
        return try string()
    }

    private func tagEnd(isBlock: Bool) -> (at: Int, next: Int)? {
        guard isBlock else {
            if starts(with: "-}}", at: at) { return (at, afterSpace(at + 3)) }
            return starts(with: "}}", at: at) ? (at, at + 2) : nil
        }
        if starts(with: "+%}", at: at) { return (at, at + 3) }
        if starts(with: "-%}", at: at) { return (at, afterSpace(at + 3)) }
        return starts(with: "%}", at: at) ? (at, afterTag(at + 2, sign: " ")) : nil
    }

    private func matches(_ symbol: Token.Symbol) -> Bool {
        let scalars = symbol.rawValue.unicodeScalars
        return at + scalars.count <= source.count
            && source[at..<(at + scalars.count)].elementsEqual(scalars)
    }

    // MARK: Tokens

    private mutating func name() throws(TemplateError) -> Token.Kind? {
        guard source[at].isASCIIWord else {
            guard source[at].isASCII || !source[at].properties.isAlphabetic else {
                throw TemplateError(
                    .unsupported, "a name with '\(source[at])'; names are ASCII here",
                    at: position(at))
            }
            return nil
        }
        let start = at
        while let scalar = scalar(at), scalar.isASCIIWord { at += 1 }
        var name = ""
        name.unicodeScalars.append(contentsOf: source[start..<at])
        return .name(name)
    }

    /// End of digits from `offset`, with single underscores between them.
    private func digits(_ offset: Int, _ isDigit: (Unicode.Scalar) -> Bool) -> Int {
        var end = offset
        while let next = scalar(end) {
            if isDigit(next) {
                end += 1
            } else if next == "_", end > offset, let after = scalar(end + 1), isDigit(after) {
                end += 2
            } else {
                break
            }
        }
        return end
    }

    private mutating func number() throws(TemplateError) -> Token.Kind? {
        guard source[at].isASCIIDigit else { return nil }
        let start = at
        func text(_ range: Range<Int>) -> String {
            var text = ""
            text.unicodeScalars.append(contentsOf: source[range].filter { $0 != "_" })
            return text
        }
        let whole = digits(at, \.isASCIIDigit)
        if scalar(at - 1) != ".", whole > at {
            var end = whole
            var isFloat = false
            if scalar(end) == ".", scalar(end + 1)?.isASCIIDigit == true {
                end = digits(end + 1, \.isASCIIDigit)
                isFloat = true
            }
            if scalar(end) == "e" || scalar(end) == "E" {
                var digit = end + 1
                if scalar(digit) == "+" || scalar(digit) == "-" { digit += 1 }
                if scalar(digit)?.isASCIIDigit == true {
                    end = digits(digit, \.isASCIIDigit)
                    isFloat = true
                }
            }
            if isFloat {
                at = end
                guard let value = Double(text(start..<end)) else {
                    throw error("a number that is none", at: start)
                }
                return .float(value)
            }
        }
        var (radix, first) = (10, at)
        if source[at] == "0", let letter = scalar(at + 1) {
            switch letter {
            case "b", "B": radix = 2
            case "o", "O": radix = 8
            case "x", "X": radix = 16
            default: break
            }
        }
        if radix != 10 {
            func isDigit(_ scalar: Unicode.Scalar) -> Bool {
                scalar.isASCII && Int(String(scalar), radix: radix) != nil && scalar != "+"
                    && scalar != "-"
            }
            // An underscore may stand before the first digit.
            first = at + 2
            if scalar(first) == "_" { first += 1 }
            let end = digits(first, isDigit)
            if end > first { at = end } else { radix = 10 }
        }
        if radix == 10 {
            first = start
            // Zeros alone are a number, other digits do not follow a zero.
            at = source[start] == "0" ? digits(start) { $0 == "0" } : whole
        }
        guard let value = Int(text(first..<at), radix: radix) else {
            throw TemplateError(
                .unsupported, "an integer of more than 64 bits", at: position(start))
        }
        return .integer(value)
    }

    private mutating func string() throws(TemplateError) -> Token.Kind? {
        let quote = source[at]
        guard quote == "'" || quote == "\"" else { return nil }
        var end = at + 1
        while let scalar = scalar(end), scalar != quote { end += scalar == "\\" ? 2 : 1 }
        guard end < source.count else { throw error("a string without its end", at: at) }
        defer { at = end + 1 }
        do {
            return .string(Text(try StringLiteral.unescaped(source[(at + 1)..<end])))
        } catch let wrong {
            throw TemplateError(wrong.kind, wrong.message, at: position(at))
        }
    }
}
