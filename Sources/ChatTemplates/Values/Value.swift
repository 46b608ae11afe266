// SPDX-License-Identifier: Apache-2.0

/// A value while a template is rendered. Values do not change, as Jinja's sandbox allows no change either; only a namespace's
/// attributes do.
enum Value {
    /// Nothing, and why: what Jinja calls undefined. It prints as nothing and refuses most else.
    case undefined(String)
    case none
    case bool(Bool)
    case int(Int)
    case float(Double)
    case text(Text)
    /// Text that `|safe` has marked. Jinja escapes what is added to it, so nothing is.
    case safe(Text)
    case list(Items)
    case tuple(Items)
    case dict(Dict)
    /// What `keys`, `values` and `items` of a mapping give.
    case view(View, Dict)
    case range(Span)
    /// What can be walked once.
    case iterator(Iterator)
    case namespace(Namespace)
    case macro(Macro)
    case loop(Loop)
    case builtin(Builtin)
    /// A method that is not called: it is there, and good for nothing else.
    case method(String)

    enum View: String {
        case keys, values, items
    }

    /// What Python calls its type.
    var type: String {
        switch self {
        case .undefined: "Undefined"
        case .none: "NoneType"
        case .bool: "bool"
        case .int: "int"
        case .float: "float"
        case .text: "str"
        case .safe: "Markup"
        case .list: "list"
        case .tuple: "tuple"
        case .dict: "dict"
        case .view(let view, _): "dict_\(view.rawValue)"
        case .range: "range"
        case .iterator: "iterator"
        case .namespace: "Namespace"
        case .macro: "Macro"
        case .loop: "LoopContext"
        case .builtin: "function"
        case .method: "method"
        }
    }

    /// Levels of values in this one.
    var depth: Int {
        switch self {
        case .list(let items), .tuple(let items): items.depth
        case .dict(let dict), .view(_, let dict): dict.depth
        case .iterator(let iterator): iterator.depth
        default: 0
        }
    }

    /// The number that this is, if it is an integer to Python: booleans are.
    var integer: Int? {
        switch self {
        case .int(let value): value
        case .bool(let flag): flag ? 1 : 0
        default: nil
        }
    }

    /// As the key of a mapping; nil where Python says "unhashable".
    var key: Key? {
        switch self {
        case .none: return Key.none
        case .bool(let flag): return .int(flag ? 1 : 0)
        case .int(let value): return .int(value)
        case .float(let value): return Int(exactly: value).map { .int($0) } ?? .float(value)
        case .text(let text), .safe(let text): return .text(text)
        case .tuple(let items):
            var keys: [Key] = []
            for value in items.values {
                guard let key = value.key else { return nil }
                keys.append(key)
            }
            return .tuple(keys)
        default: return nil
        }
    }

    indirect enum Key: Hashable {
        case none
        case int(Int)
        case float(Double)
        case text(Text)
        case tuple([Key])
    }
}

/// The elements of a list or tuple.
final class Items {
    let values: [Value]
    let depth: Int

    init(_ values: [Value], depth: Int) {
        self.values = values
        self.depth = depth
    }
}

/// A mapping that keeps the order of its keys.
final class Dict {
    let keys: [Value]
    let values: [Value]
    let depth: Int
    private let places: [Value.Key: Int]

    /// - Parameter pairs: of two with equal keys the first one's place and the last one's value count.
    init(_ pairs: [(key: Value, hash: Value.Key, value: Value)], depth: Int) {
        var keys: [Value] = []
        var values: [Value] = []
        var places: [Value.Key: Int] = [:]
        for (key, hash, value) in pairs {
            if let place = places[hash] {
                values[place] = value
            } else {
                places[hash] = keys.count
                keys.append(key)
                values.append(value)
            }
        }
        self.keys = keys
        self.values = values
        self.places = places
        self.depth = depth
    }

    subscript(key: Value.Key) -> Value? { places[key].map { values[$0] } }
    var count: Int { keys.count }
}

/// Python's `range`.
final class Span {
    let start, stop, step: Int

    init(start: Int, stop: Int, step: Int) {
        self.start = start
        self.stop = stop
        self.step = step
    }

    var count: Int {
        step > 0
            ? Swift.max(0, (stop - start + step - 1) / step)
            : Swift.max(0, (start - stop - step - 1) / -step)
    }

    subscript(index: Int) -> Int { start + index * step }
}

/// What can be walked once. Each element is computed when it is asked for.
final class Iterator {
    let depth: Int
    private let pull: () throws(TemplateError) -> Value?

    init(depth: Int, _ pull: @escaping () throws(TemplateError) -> Value?) {
        self.depth = depth
        self.pull = pull
    }

    func next() throws(TemplateError) -> Value? { try pull() }
}

final class Namespace {
    var attributes: [Text: Value] = [:]
}

/// A macro and where it was defined, which it sees. It does not leave that scope: macros cannot be elements or attributes.
final class Macro {
    let definition: Statement.Macro
    let frame: Frame

    init(_ definition: Statement.Macro, in frame: Frame) {
        self.definition = definition
        self.frame = frame
    }
}

/// Variables of one scope.
final class Frame {
    let parent: Frame?
    private var variables: [Name: Value] = [:]

    init(in parent: Frame?, masked: [Name] = []) {
        self.parent = parent
        for name in masked { variables[name] = .undefined("a variable that is not set yet") }
    }

    subscript(name: Name) -> Value? {
        get {
            var frame: Frame? = self
            while let present = frame {
                if let value = present.variables[name] { return value }
                frame = present.parent
            }
            return nil
        }
        set { variables[name] = newValue }
    }

    /// Ends the scope: macros in it and it hold each other.
    func clear() { variables = [:] }
}
