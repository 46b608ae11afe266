// SPDX-License-Identifier: Apache-2.0

/// Values as what they contain.
extension Renderer {
    func isTrue(_ value: Value) -> Bool {
        switch value {
        case .undefined, .none: false
        case .bool(let flag): flag
        case .int(let number): number != 0
        case .float(let number): number != 0
        case .text(let text), .safe(let text): !text.isEmpty
        case .list(let items), .tuple(let items): !items.values.isEmpty
        case .dict(let dict), .view(_, let dict): dict.count > 0
        case .range(let span): span.count > 0
        case .iterator, .namespace, .macro, .loop, .builtin, .method: true
        }
    }

    /// Python's `len`.
    func length(_ value: Value) throws(TemplateError) -> Int {
        switch value {
        case .undefined: return 0
        case .text(let text), .safe(let text): return text.count
        case .list(let items), .tuple(let items): return items.values.count
        case .dict(let dict), .view(_, let dict): return dict.count
        case .range(let span): return span.count
        case .loop: throw unsupported("the length of 'loop' as a value; 'loop.length' is it")
        default: throw fail("a \(value.type) has no length")
        }
    }

    /// Python's `iter`.
    func iterator(_ value: Value) throws(TemplateError) -> Iterator {
        if case .iterator(let iterator) = value { return iterator }
        if case .range(let span) = value {
            var index = 0
            return Iterator(depth: 1) { () throws(TemplateError) in
                guard index < span.count else { return nil }
                defer { index += 1 }
                return .int(span[index])
            }
        }
        if case .text(let text) = value {
            var index = 0
            return Iterator(depth: 1) { () throws(TemplateError) in
                guard index < text.count else { return nil }
                defer { index += 1 }
                return .text(Text([text.scalars[index]]))
            }
        }
        let values = try known(value)
        var index = 0
        return Iterator(depth: value.depth) { () throws(TemplateError) in
            guard index < values.count else { return nil }
            defer { index += 1 }
            return values[index]
        }
    }

    /// Elements that are there already.
    private func known(_ value: Value) throws(TemplateError) -> [Value] {
        switch value {
        case .undefined: return []
        case .list(let items), .tuple(let items): return items.values
        case .dict(let dict), .view(.keys, let dict): return dict.keys
        case .view(.values, let dict): return dict.values
        case .view(.items, let dict):
            var pairs: [Value] = []
            for (key, value) in zip(dict.keys, dict.values) {
                pairs.append(.tuple(try items([key, value])))
            }
            return pairs
        case .safe: throw unsupported("the characters of text that is marked as safe")
        case .loop: throw unsupported("a walk over 'loop'")
        default: throw fail("a \(value.type) cannot be walked over")
        }
    }

    /// All elements; an iterator has none afterwards.
    func elements(_ value: Value) throws(TemplateError) -> [Value] {
        switch value {
        case .undefined, .list, .tuple, .dict, .view: return try known(value)
        default: break
        }
        let iterator = try iterator(value)
        var elements: [Value] = []
        while let element = try iterator.next() {
            try charge(1)
            elements.append(element)
        }
        return elements
    }

    /// Python's `in`.
    func contains(_ value: Value, _ element: Value) throws(TemplateError) -> Bool {
        switch value {
        case .text(let text):
            guard case .text(let part) = element else {
                throw fail("'in' looks for text in text, not for a \(element.type)")
            }
            try charge(text: text.count)
            return text.first(part) != nil
        case .dict(let dict), .view(.keys, let dict): return dict[try hash(element)] != nil
        case .namespace, .macro, .builtin, .method, .none, .bool, .int, .float:
            throw fail("'in' cannot look into a \(value.type)")
        default:
            let iterator = try iterator(value)
            while let other = try iterator.next() {
                try charge(1)
                if try isEqual(other, element) { return true }
            }
            return false
        }
    }
}
