// SPDX-License-Identifier: Apache-2.0

/// A loop under way, which its body sees as `loop`. Elements are taken one at a time, so that a filter of the loop sees what its
/// body has changed, as in Jinja.
final class Loop {
    private let source: Iterator
    private let knownLength: Int?
    private var ahead: [Value] = []
    private var hasEnded = false
    private(set) var index0 = -1
    private var previous: Value?
    private var current: Value?
    private var length: Int?
    private var changed: Items?

    /// - Parameter length: nil where it is known only at the end.
    init(_ source: Iterator, length: Int?) {
        self.source = source
        knownLength = length
    }

    func next() throws(TemplateError) -> Value? {
        guard let value = try peek() else { return nil }
        ahead.removeFirst()
        index0 += 1
        previous = current
        current = value
        return value
    }

    private func peek() throws(TemplateError) -> Value? {
        if ahead.isEmpty, !hasEnded {
            if let value = try source.next() { ahead.append(value) } else { hasEnded = true }
        }
        return ahead.first
    }

    /// - Parameter charge: pays for elements that are taken before their turn.
    private func total(_ charge: (Int) throws(TemplateError) -> Void) throws(TemplateError) -> Int {
        if let known = knownLength ?? length { return known }
        var rest: [Value] = []
        while let value = try peek() {
            try charge(1)
            ahead.removeFirst()
            rest.append(value)
        }
        ahead = rest
        let total = index0 + 1 + rest.count
        length = total
        return total
    }

    /// - Returns: nil where a loop has no such attribute.
    func attribute(
        _ name: String, _ charge: (Int) throws(TemplateError) -> Void
    ) throws(TemplateError) -> Value? {
        switch name {
        case "index": .int(index0 + 1)
        case "index0": .int(index0)
        case "revindex": .int(try total(charge) - index0)
        case "revindex0": .int(try total(charge) - index0 - 1)
        case "first": .bool(index0 == 0)
        case "last": .bool(try peek() == nil)
        case "length": .int(try total(charge))
        case "depth": .int(1)
        case "depth0": .int(0)
        case "previtem":
            index0 == 0 ? .undefined("there is no previous item") : previous
        case "nextitem": try peek() ?? .undefined("there is no next item")
        case "cycle", "changed": .method(name)
        default: nil
        }
    }

    /// Whether `values` differ from those of the last call.
    func hasChanged(
        _ values: Items, isEqual: (Items, Items) throws(TemplateError) -> Bool
    ) throws(TemplateError) -> Bool {
        if let changed, try isEqual(changed, values) { return false }
        changed = values
        return true
    }
}
