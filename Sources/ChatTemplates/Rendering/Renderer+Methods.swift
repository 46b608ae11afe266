// SPDX-License-Identifier: Apache-2.0

extension Renderer {
    func call(
        _ method: Method, of value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        switch (value, method) {
        case (.undefined(let why), _): throw fail(why)
        case (.text(let text), _): return try call(method, of: text, arguments)
        case (.safe, _): throw unsupported("a method of text that is marked as safe")
        case (.dict(let dict), .get):
            try refuseKeywords(arguments)
            let bound = try bind(arguments, "key", "default", required: 1)
            return dict[try hash(bound[0] ?? .none)] ?? bound[1] ?? .none
        case (.dict(let dict), .items), (.dict(let dict), .keys), (.dict(let dict), .values):
            _ = try bind(arguments)
            return .view(Value.View(rawValue: method.rawValue) ?? .keys, dict)
        case (.list(let items), .count), (.tuple(let items), .count):
            try refuseKeywords(arguments)
            let wanted = try bind(arguments, "value", required: 1)[0] ?? .none
            var count = 0
            for element in items.values where try isEqual(element, wanted) { count += 1 }
            return .int(count)
        case (.list(let items), .index), (.tuple(let items), .index):
            try refuseKeywords(arguments)
            let wanted = try bind(arguments, "value", required: 1)[0] ?? .none
            for (index, element) in items.values.enumerated()
            where try isEqual(element, wanted) { return .int(index) }
            throw fail("'index' of what is not in the list")
        case (.loop(let loop), .cycle):
            try refuseKeywords(arguments)
            guard !arguments.positional.isEmpty else { throw fail("'cycle' of nothing") }
            return arguments.positional[loop.index0 % arguments.positional.count]
        case (.loop(let loop), .changed):
            try refuseKeywords(arguments)
            return .bool(
                try loop.hasChanged(try items(arguments.positional)) {
                    (left, right) throws(TemplateError) in try isEqual(left, right)
                })
        default: throw fail("a \(value.type) has no method '\(method.rawValue)'")
        }
    }

    private func refuseKeywords(_ arguments: EvaluatedArguments) throws(TemplateError) {
        if let (name, _) = arguments.keyword.first { throw fail("there is no argument '\(name)'") }
    }

    // MARK: Text

    private func call(
        _ method: Method, of text: Text, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        try charge(text: text.count)
        switch method {
        case .upper, .lower, .capitalize, .title, .isupper, .islower, .isdigit, .isalpha, .isalnum,
            .isspace:
            _ = try bind(arguments)
            return plain(method, of: text)
        case .split, .rsplit: return try split(text, arguments, fromRight: method == .rsplit)
        case .splitlines: return try splitLines(text, arguments)
        default: break
        }
        // The others take their arguments by place only.
        try refuseKeywords(arguments)
        switch method {
        case .strip, .lstrip, .rstrip:
            let set = try optionalText(try bind(arguments, "chars")[0], "the characters")
            return .text(
                text.stripped(set, left: method != .rstrip, right: method != .lstrip))
        case .startswith, .endswith: return .bool(try begins(method, text, arguments))
        case .replace:
            let bound = try bind(arguments, "old", "new", "count", required: 2)
            return .text(
                try replaced(
                    text, try self.argument(bound[0]), try self.argument(bound[1]),
                    try integer(bound[2], "the count", else: -1)))
        case .find, .rfind, .index, .count: return try find(method, text, arguments)
        case .join:
            let parts = try elements(try bind(arguments, "parts", required: 1)[0] ?? .none)
            var out = Text([])
            for (index, part) in parts.enumerated() {
                let part = try argument(part)
                try charge(text: part.count + text.count)
                if index > 0 { out.scalars += text.scalars }
                out.scalars += part.scalars
                guard out.count <= TemplateLimits.output else {
                    try charge(text: out.count)
                    break
                }
            }
            return .text(out)
        case .removeprefix, .removesuffix:
            let part = try argument(try bind(arguments, "part", required: 1)[0])
            if method == .removeprefix {
                return .text(text.hasPrefix(part) ? Text(text.scalars.dropFirst(part.count)) : text)
            }
            return .text(text.hasSuffix(part) ? Text(text.scalars.dropLast(part.count)) : text)
        case .partition, .rpartition: return try partition(method, text, arguments)
        case .zfill:
            let width = try integer(
                try bind(arguments, "width", required: 1)[0], "the width", else: 0)
            try charge(text: width)
            let zeros = [Unicode.Scalar](
                repeating: "0", count: Swift.max(0, width - text.count))
            let hasSign = text.scalars.first == "-" || text.scalars.first == "+"
            return .text(
                Text(
                    text.scalars.prefix(hasSign ? 1 : 0) + zeros
                        + text.scalars.dropFirst(hasSign ? 1 : 0)))
        default: throw fail("text has no method '\(method.rawValue)'")
        }
    }

    private func argument(_ value: Value?) throws(TemplateError) -> Text {
        guard case .text(let text) = value else {
            throw fail("text was expected, not a \(value?.type ?? "nothing")")
        }
        return text
    }

    private func plain(_ method: Method, of text: Text) -> Value {
        func all(_ holds: (Unicode.Scalar.Properties) -> Bool) -> Value {
            .bool(!text.isEmpty && text.scalars.allSatisfy { holds($0.properties) })
        }
        func isLetter(_ properties: Unicode.Scalar.Properties) -> Bool {
            switch properties.generalCategory {
            case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter,
                .otherLetter:
                true
            default: false
            }
        }
        switch method {
        case .upper: return .text(text.uppercased)
        case .lower: return .text(text.lowercased)
        case .capitalize: return .text(text.capitalized)
        case .title: return .text(text.titlecased)
        case .isupper: return .bool(text.isAll(upper: true))
        case .islower: return .bool(text.isAll(upper: false))
        case .isdigit:
            return all { $0.numericType == .decimal || $0.numericType == .digit }
        case .isalpha: return all(isLetter)
        case .isalnum: return all { isLetter($0) || $0.numericType != nil }
        default:
            return .bool(!text.isEmpty && text.scalars.allSatisfy(\.isPythonSpace))
        }
    }

    private func begins(
        _ method: Method, _ text: Text, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Bool {
        let wanted = try bind(arguments, "part", required: 1)[0] ?? .none
        var parts = [wanted]
        if case .tuple(let items) = wanted { parts = items.values }
        for part in parts {
            let part = try argument(part)
            if method == .startswith ? text.hasPrefix(part) : text.hasSuffix(part) { return true }
        }
        return false
    }

    private func find(
        _ method: Method, _ text: Text, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        let bound = try bind(arguments, "part", "start", required: 1)
        let part = try argument(bound[0])
        if method == .count {
            guard bound[1] == nil else { throw unsupported("'count' with a start") }
            return .int(part.isEmpty ? text.count + 1 : text.all(part, limit: .max).count)
        }
        var start = try integer(bound[1], "the start", else: 0)
        if start < 0 { start = Swift.max(0, start + text.count) }
        let place: Int?
        if method == .rfind {
            guard start == 0 else { throw unsupported("'rfind' with a start") }
            place = text.last(part)
        } else {
            place = text.first(part, from: start)
        }
        if place == nil, method == .index { throw fail("'index' of text that is not there") }
        return .int(place ?? -1)
    }

    private func partition(
        _ method: Method, _ text: Text, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        let separator = try argument(try bind(arguments, "separator", required: 1)[0])
        guard !separator.isEmpty else { throw fail("an empty separator") }
        let place = method == .partition ? text.first(separator) : text.last(separator)
        let parts: [Text]
        if let place {
            parts = [
                Text(text.scalars[..<place]), separator,
                Text(text.scalars[(place + separator.count)...]),
            ]
        } else {
            parts = method == .partition ? [text, "", ""] : ["", "", text]
        }
        return .tuple(try items(parts.map { .text($0) }))
    }

    private func splitLines(
        _ text: Text, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        guard !isTrue(try bind(arguments, "keepends")[0] ?? .bool(false)) else {
            throw unsupported("'splitlines' that keeps the line ends")
        }
        return .list(try items(text.lines.map { .text($0) }))
    }

    private func split(
        _ text: Text, _ arguments: EvaluatedArguments, fromRight: Bool
    ) throws(TemplateError) -> Value {
        let bound = try bind(arguments, "sep", "maxsplit")
        let separator = try optionalText(bound[0], "a separator")
        var limit = try integer(bound[1], "maxsplit", else: -1)
        if limit < 0 { limit = .max }
        guard separator?.isEmpty != true else { throw fail("an empty separator") }
        var parts: [Text]
        if fromRight {
            let mirrored = Text(Array(text.scalars.reversed()))
            let mirroredSeparator = separator.map { Text(Array($0.scalars.reversed())) }
            parts = Self.parts(mirrored, mirroredSeparator, limit)
                .reversed().map { Text(Array($0.scalars.reversed())) }
        } else {
            parts = Self.parts(text, separator, limit)
        }
        return .list(try items(parts.map { .text($0) }))
    }

    private static func parts(_ text: Text, _ separator: Text?, _ limit: Int) -> [Text] {
        if let separator {
            var parts: [Text] = []
            var start = 0
            for place in text.all(separator, limit: limit) {
                parts.append(Text(text.scalars[start..<place]))
                start = place + separator.count
            }
            return parts + [Text(text.scalars[start...])]
        }
        // White space separates, and stands nowhere in the parts but in a last one that is not split.
        var parts: [Text] = []
        var start = 0
        while true {
            while start < text.count, text.scalars[start].isPythonSpace { start += 1 }
            guard start < text.count else { return parts }
            if parts.count == limit {
                let rest = Text(text.scalars[start...])
                return parts + [rest.stripped(nil, left: false)]
            }
            var end = start
            while end < text.count, !text.scalars[end].isPythonSpace { end += 1 }
            parts.append(Text(text.scalars[start..<end]))
            start = end
        }
    }
}
