// SPDX-License-Identifier: Apache-2.0

/// Filters of what has elements.
extension Renderer {
    func apply(
        sequence filter: Filter, to value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        switch filter {
        case .first:
            _ = try bind(arguments)
            return try iterator(value).next() ?? .undefined("the first item of nothing")
        case .last:
            _ = try bind(arguments)
            if case .iterator = value { throw fail("'last' of an iterator; make a list of it") }
            return try elements(value).last ?? .undefined("the last item of nothing")
        case .list:
            _ = try bind(arguments)
            return .list(try items(try elements(value)))
        case .items:
            _ = try bind(arguments)
            switch value {
            case .undefined:
                return .iterator(Iterator(depth: 0) { () throws(TemplateError) in nil })
            case .dict(let dict): return .iterator(try iterator(.view(.items, dict)))
            default: throw fail("'items' of a \(value.type)")
            }
        case .reverse:
            _ = try bind(arguments)
            return try reversed(value)
        case .join: return .text(try joined(value, arguments))
        case .map: return .iterator(try mapped(value, arguments))
        case .select, .reject, .selectattr, .rejectattr:
            return .iterator(try selected(filter, value, arguments))
        case .unique: return .iterator(try unique(value, arguments))
        case .sort:
            let bound = try bind(arguments, "reverse", "case_sensitive", "attribute")
            return .list(
                try items(
                    try sorted(
                        try elements(value), by: bound[2],
                        ignoresCase: !isTrue(bound[1] ?? .bool(false)),
                        descending: isTrue(bound[0] ?? .bool(false)))))
        case .dictsort: return .list(try items(try sortedPairs(value, arguments)))
        case .sum:
            let bound = try bind(arguments, "attribute", "start")
            var sum = bound[1] ?? .int(0)
            if case .text = sum { throw fail("'sum' of texts; 'join' joins them") }
            let getter = try getter(bound[0])
            for element in try elements(value) {
                sum = try compute(.add, sum, try getter(element))
            }
            return sum
        case .min, .max: return try extreme(filter, value, arguments)
        default: preconditionFailure("a filter that is not of sequences")
        }
    }

    // MARK: Attributes of elements

    /// What `attribute='a.b.0'` takes of an element.
    private func getter(
        _ attribute: Value?, default standard: Value? = nil
    ) throws(TemplateError) -> (Value) throws(TemplateError) -> Value {
        var keys: [Value] = []
        switch attribute {
        case nil, .some(.none): break
        case .text(let path):
            for part in path.scalars.split(separator: ".", omittingEmptySubsequences: false) {
                let text = Text(part)
                if !text.isEmpty, text.scalars.allSatisfy(\.isASCIIDigit),
                    let index = Int(text.string)
                {
                    keys.append(.int(index))
                } else {
                    keys.append(.text(text))
                }
            }
        case .int(let index): keys.append(.int(index))
        case let other?: throw fail("an attribute's name must be text, not a \(other.type)")
        }
        return { [unowned self] (value) throws(TemplateError) in
            var value = value
            for key in keys {
                value = try item(key, of: value)
                if let standard, case .undefined = value { value = standard }
            }
            return value
        }
    }

    private func foldedCase(_ value: Value) throws(TemplateError) -> Value {
        guard case .text(let text) = value else { return value }
        try charge(text: text.count)
        return .text(text.lowercased)
    }

    // MARK: One at a time

    /// An iterator over what `transform` makes of each element; nil drops it. Nothing is asked of the value before an element is.
    ///
    /// - Parameter asksEmpty: whether a value that is false is asked for its elements too.
    private func lazily(
        _ value: Value, asksEmpty: Bool = false,
        _ transform: @escaping (Value) throws(TemplateError) -> Value?
    ) throws(TemplateError) -> Iterator {
        let depth = value.depth + 1
        guard depth <= TemplateLimits.nesting else {
            throw TemplateError(
                .limit, "more than \(TemplateLimits.nesting) filters on each other", at: position)
        }
        var source: Iterator?
        return Iterator(depth: depth) { [unowned self] () throws(TemplateError) in
            guard asksEmpty || isTrue(value) else { return nil }
            return try nested { () throws(TemplateError) in
                if source == nil { source = try iterator(value) }
                while let element = try source?.next() {
                    try charge(1)
                    if let result = try transform(element) { return result }
                }
                return nil
            }
        }
    }

    private func mapped(
        _ value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Iterator {
        if arguments.positional.isEmpty,
            arguments.keyword.contains(where: { $0.name == "attribute" })
        {
            let bound = try bind(arguments, "attribute", "default")
            // A default of none is no default to Jinja.
            var standard = bound[1]
            if case .some(.none) = standard { standard = nil }
            return try lazily(value, try getter(bound[0], default: standard))
        }
        guard case .text(let name) = arguments.positional.first else {
            throw fail("'map' needs a filter's name, or attribute=")
        }
        guard let filter = Filter(rawValue: name.string) else {
            throw unsupported("the filter '\(name.string)'")
        }
        var rest = arguments
        rest.positional.removeFirst()
        return try lazily(value) { [unowned self] (element) throws(TemplateError) in
            try apply(filter, to: element, rest)
        }
    }

    private func selected(
        _ filter: Filter, _ value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Iterator {
        let wanted = filter == .select || filter == .selectattr
        var rest = arguments
        var attribute: Value?
        if filter == .selectattr || filter == .rejectattr {
            guard let first = rest.positional.first else {
                throw fail("'\(filter.rawValue)' needs an attribute's name")
            }
            attribute = first
            rest.positional.removeFirst()
        }
        let getter = try getter(attribute)
        guard let name = rest.positional.first else {
            return try lazily(value) { [unowned self] (element) throws(TemplateError) in
                isTrue(try getter(element)) == wanted ? element : nil
            }
        }
        guard case .text(let name) = name, let test = ValueTest(rawValue: name.string) else {
            throw unsupported("the test '\(try text(name).string)'")
        }
        rest.positional.removeFirst()
        return try lazily(value) { [unowned self] (element) throws(TemplateError) in
            try apply(test, to: try getter(element), rest) == wanted ? element : nil
        }
    }

    private func unique(
        _ value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Iterator {
        let bound = try bind(arguments, "case_sensitive", "attribute")
        let keepsCase = isTrue(bound[0] ?? .bool(false))
        let getter = try getter(bound[1])
        var seen: Set<Value.Key> = []
        return try lazily(value, asksEmpty: true) {
            [unowned self] (element) throws(TemplateError) in
            let key = try getter(element)
            let hash = try hash(keepsCase ? key : try foldedCase(key))
            return seen.insert(hash).inserted ? element : nil
        }
    }

    // MARK: All at once

    private func reversed(_ value: Value) throws(TemplateError) -> Value {
        switch value {
        case .text(let text):
            try charge(text: text.count)
            return .text(Text(Array(text.scalars.reversed())))
        case .iterator, .undefined:
            return .list(try items(try elements(value).reversed()))
        default:
            let values = Array(try elements(value).reversed())
            return .iterator(try iterator(.list(try items(values))))
        }
    }

    private func joined(
        _ value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Text {
        let bound = try bind(arguments, "d", "attribute")
        let separator = try text(bound[0] ?? .text(""))
        let getter = try getter(bound[1])
        var out = Text([])
        var isFirst = true
        let iterator = try iterator(value)
        while let element = try iterator.next() {
            let part = try text(try getter(element))
            try charge(text: part.count + separator.count)
            if !isFirst { out.scalars += separator.scalars }
            isFirst = false
            out.scalars += part.scalars
            guard out.count <= TemplateLimits.output else {
                try charge(text: out.count)
                return out
            }
        }
        return out
    }

    private func extreme(
        _ filter: Filter, _ value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> Value {
        let bound = try bind(arguments, "case_sensitive", "attribute")
        let keepsCase = isTrue(bound[0] ?? .bool(false))
        let getter = try getter(bound[1])
        var best: (element: Value, key: Value)?
        for element in try elements(value) {
            let attribute = try getter(element)
            let key = keepsCase ? attribute : try foldedCase(attribute)
            guard let present = best else {
                best = (element, key)
                continue
            }
            let isBetter =
                filter == .min ? try isLess(key, present.key) : try isLess(present.key, key)
            if isBetter { best = (element, key) }
        }
        return best?.element ?? .undefined("the \(filter.rawValue) of nothing")
    }

    private func sorted(
        _ values: [Value], by attribute: Value?, ignoresCase: Bool, descending: Bool
    ) throws(TemplateError) -> [Value] {
        var getters: [(Value) throws(TemplateError) -> Value] = []
        if case .text(let names) = attribute {
            for part in names.scalars.split(separator: ",", omittingEmptySubsequences: false) {
                getters.append(try getter(.text(Text(part))))
            }
        } else {
            getters.append(try getter(attribute))
        }
        var keyed: [(element: Value, key: Items)] = []
        for value in values {
            var keys: [Value] = []
            for getter in getters {
                let key = try getter(value)
                keys.append(ignoresCase ? try foldedCase(key) : key)
            }
            keyed.append((value, Items(keys, depth: 1)))
        }
        return try sorted(keyed) { (left, right) throws(TemplateError) in
            descending
                ? try isLess(.list(right.key), .list(left.key))
                : try isLess(.list(left.key), .list(right.key))
        }.map(\.element)
    }

    private func sortedPairs(
        _ value: Value, _ arguments: EvaluatedArguments
    ) throws(TemplateError) -> [Value] {
        let bound = try bind(arguments, "case_sensitive", "by", "reverse")
        guard case .dict(let dict) = value else {
            if case .undefined(let why) = value { throw fail(why) }
            throw fail("'dictsort' of a \(value.type)")
        }
        let by = try optionalText(bound[1], "by")?.string ?? "key"
        guard by == "key" || by == "value" else { throw fail("'dictsort' sorts by key or value") }
        return try sorted(
            try elements(.view(.items, dict)), by: .int(by == "key" ? 0 : 1),
            ignoresCase: !isTrue(bound[0] ?? .bool(false)),
            descending: isTrue(bound[2] ?? .bool(false)))
    }

    /// A stable sort by merging.
    func sorted<Element>(
        _ elements: [Element],
        _ isLess: (Element, Element) throws(TemplateError) -> Bool
    ) throws(TemplateError) -> [Element] {
        var source = elements
        var width = 1
        while width < source.count {
            var merged: [Element] = []
            merged.reserveCapacity(source.count)
            for start in stride(from: 0, to: source.count, by: 2 * width) {
                let middle = Swift.min(start + width, source.count)
                let end = Swift.min(start + 2 * width, source.count)
                var (left, right) = (start, middle)
                while left < middle, right < end {
                    if try isLess(source[right], source[left]) {
                        merged.append(source[right])
                        right += 1
                    } else {
                        merged.append(source[left])
                        left += 1
                    }
                }
                merged += source[left..<middle]
                merged += source[right..<end]
            }
            source = merged
            width *= 2
        }
        return source
    }
}
