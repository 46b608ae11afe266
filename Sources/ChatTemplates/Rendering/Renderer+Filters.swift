// SPDX-License-Identifier: Apache-2.0

extension Renderer {
    func evaluate(
        _ value: Expression, _ filter: Filter, _ arguments: Expression.Arguments,
        _ expression: Expression, in frame: Frame
    ) throws(TemplateError) -> Value {
        let value = try evaluate(value, in: frame)
        let arguments = try evaluate(arguments, in: frame)
        position = expression.position
        return try apply(filter, to: value, arguments)
    }

    func apply(
        _ filter: Filter, to value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        if case .safe = value {
            switch filter {
            case .safe, .string, .length, .count, .tojson, .default, .d: break
            default:
                throw unsupported(
                    "the filter '\(filter.rawValue)' on text that is marked as safe")
            }
        }
        switch filter {
        case .default, .d:
            let bound = try bind(arguments, "default_value", "boolean")
            let isMissing = if case .undefined = value { true } else { false }
            let replaces = isMissing || isTrue(bound[1] ?? .bool(false)) && !isTrue(value)
            return replaces ? bound[0] ?? .text("") : value
        case .length, .count:
            _ = try bind(arguments)
            return .int(try length(value))
        case .first, .last, .list, .items, .reverse, .unique, .sort, .dictsort, .map, .select,
            .reject, .selectattr, .rejectattr, .join, .sum, .min, .max:
            return try apply(sequence: filter, to: value, arguments)
        case .abs, .int, .float, .round: return try apply(number: filter, to: value, arguments)
        case .tojson: return .text(try json(value, arguments))
        case .safe:
            _ = try bind(arguments)
            return .safe(try text(value))
        case .string:
            _ = try bind(arguments)
            if case .safe = value { return value }
            return .text(try text(value))
        default: return .text(try apply(text: filter, to: value, arguments))
        }
    }

    // MARK: Text

    private func apply(
        text filter: Filter, to value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Text {
        if filter == .indent { return try indented(value, arguments) }
        let text = try text(value)
        try charge(text: text.count)
        switch filter {
        case .upper, .lower, .capitalize, .title:
            _ = try bind(arguments)
            switch filter {
            case .upper: return text.uppercased
            case .lower: return text.lowercased
            case .capitalize: return text.capitalized
            default: return Self.titled(text)
            }
        case .trim:
            let characters = try bind(arguments, "chars")[0]
            return text.stripped(try optionalText(characters, "chars"))
        case .replace:
            let bound = try bind(arguments, "old", "new", "count", required: 2)
            var limit = -1
            if let count = bound[2] {
                if case .none = count {} else { limit = try integer(count, "count", else: -1) }
            }
            return try replaced(
                text, try self.text(bound[0] ?? .none), try self.text(bound[1] ?? .none), limit)
        default: preconditionFailure("a filter that is not of text")
        }
    }

    func optionalText(_ value: Value?, _ what: String) throws(TemplateError) -> Text? {
        switch value {
        case nil, .some(.none): return nil
        case .text(let text): return text
        case let value?: throw fail("\(what) must be text, not a \(value.type)")
        }
    }

    func replaced(
        _ text: Text, _ old: Text, _ new: Text, _ limit: Int
    ) throws(TemplateError) -> Text {
        let limit = limit < 0 ? Int.max : limit
        guard !old.isEmpty else {
            // Before every scalar and at the end.
            let count = Swift.min(limit, text.count + 1)
            try charge(text: text.count + (try product(count, new.count)))
            var out: [Unicode.Scalar] = []
            for (index, scalar) in text.scalars.enumerated() {
                if index < count { out += new.scalars }
                out.append(scalar)
            }
            if count > text.count { out += new.scalars }
            return Text(out)
        }
        let places = text.all(old, limit: limit)
        try charge(text: text.count + (try product(places.count, new.count)))
        var out: [Unicode.Scalar] = []
        var start = 0
        for place in places {
            out += text.scalars[start..<place]
            out += new.scalars
            start = place + old.count
        }
        return Text(out + text.scalars[start...])
    }

    private func product(_ left: Int, _ right: Int) throws(TemplateError) -> Int {
        let (product, overflows) = left.multipliedReportingOverflow(by: right)
        try charge(text: overflows ? Int.max : product)
        return product
    }

    /// Jinja's `title`: a word begins after white space and `-({[<`.
    private static func titled(_ text: Text) -> Text {
        func separates(_ scalar: Unicode.Scalar) -> Bool {
            scalar.isPythonSpace || ["-", "(", "{", "[", "<"].contains(scalar)
        }
        var out: [Unicode.Scalar] = []
        var start = 0
        while start < text.count {
            let isSeparator = separates(text.scalars[start])
            var end = start + 1
            while end < text.count, separates(text.scalars[end]) == isSeparator { end += 1 }
            out += Text([text.scalars[start]]).uppercased.scalars
            out += Text(text.scalars[(start + 1)..<end]).lowercased.scalars
            start = end
        }
        return Text(out)
    }

    private func indented(
        _ value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Text {
        guard case .text(let text) = value else { throw fail("'indent' of a \(value.type)") }
        let bound = try bind(arguments, "width", "first", "blank")
        let indent: Text
        if case .text(let text) = bound[0] {
            indent = text
        } else {
            let width = try integer(bound[0], "width", else: 4)
            try charge(text: width)
            indent = Text([Unicode.Scalar](repeating: " ", count: Swift.max(0, width)))
        }
        let indentsBlank = isTrue(bound[2] ?? .bool(false))
        let lines = Text(text.scalars + ["\n"]).lines
        try charge(text: text.count + (try product(lines.count, indent.count)))
        var out: [Unicode.Scalar] = []
        for (index, line) in lines.enumerated() {
            if index > 0 {
                out.append("\n")
                if indentsBlank || !line.isEmpty { out += indent.scalars }
            }
            out += line.scalars
        }
        return Text(isTrue(bound[1] ?? .bool(false)) ? indent.scalars + out : out)
    }

    // MARK: Numbers

    private func apply(
        number filter: Filter, to value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        switch filter {
        case .abs:
            _ = try bind(arguments)
            if case .undefined(let why) = value { throw fail(why) }
            guard let number = Number(value) else { throw fail("'abs' of a \(value.type)") }
            return number.isLess(.int(0))
                ? try negative(value) : try compute(.add, value, .int(0))
        case .int:
            let bound = try bind(arguments, "default", "base")
            if case .undefined(let why) = value { throw fail(why) }
            let base = try integer(bound[1], "base", else: 10)
            return try asInteger(value, base: base) ?? bound[0] ?? .int(0)
        case .float:
            let bound = try bind(arguments, "default")
            if case .undefined(let why) = value { throw fail(why) }
            return asFloat(value).map { .float($0) } ?? bound[0] ?? .float(0)
        case .round: return try rounded(value, arguments)
        default: preconditionFailure("a filter that is not of numbers")
        }
    }

    private func asInteger(_ value: Value, base: Int) throws(TemplateError) -> Value? {
        if let number = value.integer { return .int(number) }
        if case .text(let text) = value {
            guard base == 10 else { throw unsupported("the filter 'int' with a base") }
            if let digits = try Self.digits(text) {
                guard let number = Int(digits) else {
                    throw unsupported("an integer of more than 64 bits")
                }
                return .int(number)
            }
        }
        guard let number = asFloat(value), number.isFinite else { return nil }
        guard let whole = Int(exactly: number.rounded(.towardZero)) else {
            throw unsupported("an integer of more than 64 bits")
        }
        return .int(whole)
    }

    /// The sign and digits of what Python's `int` reads, if it is an integer.
    private static func digits(_ text: Text) throws(TemplateError) -> String? {
        var rest = text.stripped(nil).scalars[...]
        var out = ""
        if let sign = rest.first, sign == "-" || sign == "+" {
            if sign == "-" { out = "-" }
            rest.removeFirst()
        }
        guard rest.first != "_", rest.last != "_", !rest.isEmpty else { return nil }
        var previous: Unicode.Scalar = "0"
        for scalar in rest {
            if scalar == "_" {
                guard previous != "_" else { return nil }
            } else if scalar.isASCIIDigit {
                out.unicodeScalars.append(scalar)
            } else {
                guard scalar.properties.generalCategory != .decimalNumber else {
                    throw TemplateError(.unsupported, "digits other than 0 to 9 as a number")
                }
                return nil
            }
            previous = scalar
        }
        return out
    }

    private func asFloat(_ value: Value) -> Double? {
        if let number = Number(value) { return number.double }
        guard case .text(let text) = value else { return nil }
        let scalars = text.stripped(nil).scalars
        // Underscores between digits, and words; Swift reads hexadecimal too, which Python does not.
        for (index, scalar) in scalars.enumerated() where scalar == "_" {
            guard index > 0, scalars[index - 1].isASCIIDigit, index + 1 < scalars.count,
                scalars[index + 1].isASCIIDigit
            else { return nil }
        }
        let word = Text(scalars.filter { $0 != "_" }).lowercased.string
        let unsigned = word.drop { $0 == "+" || $0 == "-" }
        if ["inf", "infinity", "nan"].contains(String(unsigned)), word.count - unsigned.count < 2 {
            return unsigned == "nan" ? .nan : word.hasPrefix("-") ? -.infinity : .infinity
        }
        guard word.allSatisfy({ "0123456789.+-e".contains($0) }) else { return nil }
        return Double(word)
    }

    private func rounded(
        _ value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        let bound = try bind(arguments, "precision", "method")
        guard let number = Number(value) else {
            if case .undefined(let why) = value { throw fail(why) }
            throw fail("'round' of a \(value.type)")
        }
        guard try integer(bound[0], "precision", else: 0) == 0 else {
            throw unsupported("the filter 'round' with a precision")
        }
        let method = try optionalText(bound[1], "method")?.string ?? "common"
        let rule: FloatingPointRoundingRule
        switch method {
        case "common": rule = .toNearestOrEven
        case "ceil": rule = .up
        case "floor": rule = .down
        default: throw fail("'round' rounds by 'common', 'ceil' or 'floor'")
        }
        switch number {
        case .int(let whole):
            guard method == "common" else {
                guard let exact = Double(exactly: whole) else {
                    throw unsupported("an integer that no float holds exactly")
                }
                return .float(exact)
            }
            return .int(whole)
        case .float(let number): return .float(number.rounded(rule))
        }
    }

    // MARK: JSON

    private func json(_ value: Value, _ arguments: EvaluatedArguments) throws(TemplateError) -> Text
    {
        let bound = try bind(
            arguments, "ensure_ascii", "indent", "separators", "sort_keys")
        var style = JSONStyle()
        style.isASCII = isTrue(bound[0] ?? .bool(false))
        style.sortsKeys = isTrue(bound[3] ?? .bool(false))
        switch bound[1] {
        case nil, .some(.none): break
        case .text(let text): style.indent = text.scalars
        case let width?:
            let count = try integer(width, "indent", else: 0)
            guard count <= 1000 else { throw unsupported("an indent of more than 1000") }
            style.indent = [Unicode.Scalar](repeating: " ", count: Swift.max(0, count))
        }
        style.itemSeparator = style.indent == nil ? [",", " "] : [","]
        style.keySeparator = [":", " "]
        switch bound[2] {
        case nil, .some(.none): break
        case let separators?:
            let parts = try elements(separators)
            guard parts.count == 2, case .text(let item) = parts[0], case .text(let key) = parts[1]
            else { throw fail("'separators' must be two texts") }
            style.itemSeparator = item.scalars
            style.keySeparator = key.scalars
        }
        var out: [Unicode.Scalar] = []
        try json(value, style, in: &out)
        try charge(text: out.count)
        return Text(out)
    }
}
