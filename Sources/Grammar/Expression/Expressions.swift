// SPDX-License-Identifier: Apache-2.0

/// A part of a grammar: its number among `Expressions`.
typealias ExpressionID = Int

enum Expression: Hashable, Sendable {
    /// The empty text.
    case empty
    /// No text at all.
    case never
    case bytes(ByteSet)
    case sequence([ExpressionID])
    case choice([ExpressionID])
    /// `most`: `nil` for no bound. Counted, never written out.
    case loop(ExpressionID, least: Int, most: Int?)
    /// A rule, by its number.
    case call(Int)
}

/// A grammar before it is compiled: rules over shared expressions.
struct Expressions: Sendable {
    struct Rule: Sendable {
        /// For messages: where it stands.
        var name: String
        /// `never` until it is told.
        var body: ExpressionID
        /// States inside it are the same whoever calls it: a string, a number. It calls nothing.
        var isLexeme = false
    }

    private(set) var nodes: [Expression] = [.empty, .never]
    private var ids: [Expression: ExpressionID] = [.empty: 0, .never: 1]
    var rules: [Rule] = []
    /// Nodes, and the parts of each.
    private var size = 0
    /// More nodes were asked for than are allowed.
    private(set) var overflows = false

    static let empty: ExpressionID = 0
    static let never: ExpressionID = 1

    subscript(id: ExpressionID) -> Expression { nodes[id] }

    private mutating func intern(_ node: Expression) -> ExpressionID {
        if let id = ids[node] { return id }
        switch node {
        case .sequence(let parts), .choice(let parts): size += parts.count
        default: size += 1
        }
        guard size < GrammarLimits.nodes else {
            overflows = true
            return Self.never
        }
        nodes.append(node)
        ids[node] = nodes.count - 1
        return nodes.count - 1
    }

    mutating func rule(_ name: String) -> Int {
        rules.append(Rule(name: name, body: Self.never))
        return rules.count - 1
    }

    mutating func call(_ rule: Int) -> ExpressionID { intern(.call(rule)) }

    /// A rule of its own for something that calls nothing.
    mutating func lexeme(_ name: String, _ body: ExpressionID) -> ExpressionID {
        let rule = rule(name)
        rules[rule].body = body
        rules[rule].isLexeme = true
        return call(rule)
    }

    mutating func bytes(_ set: ByteSet) -> ExpressionID {
        set.isEmpty ? Self.never : intern(.bytes(set))
    }

    mutating func literal(_ bytes: some Sequence<UInt8>) -> ExpressionID {
        let parts = bytes.map { self.bytes(ByteSet($0)) }
        return sequence(parts)
    }

    mutating func literal(_ text: String) -> ExpressionID { literal(text.utf8) }

    mutating func sequence(_ parts: [ExpressionID]) -> ExpressionID {
        var flat: [ExpressionID] = []
        for part in parts {
            switch nodes[part] {
            case .empty: continue
            case .never: return Self.never
            case .sequence(let inner): flat += inner
            default: flat.append(part)
            }
        }
        return flat.isEmpty ? Self.empty : flat.count == 1 ? flat[0] : intern(.sequence(flat))
    }

    mutating func choice(_ parts: [ExpressionID]) -> ExpressionID {
        var flat: [ExpressionID] = []
        var seen: Set<ExpressionID> = []
        var set = ByteSet()
        func add(_ part: ExpressionID) { if seen.insert(part).inserted { flat.append(part) } }
        for part in parts {
            switch nodes[part] {
            case .never: continue
            case .choice(let inner):
                for part in inner {
                    if case .bytes(let more) = nodes[part] {
                        set.formUnion(more)
                    } else {
                        add(part)
                    }
                }
            case .bytes(let more): set.formUnion(more)
            default: add(part)
            }
        }
        if !set.isEmpty { flat.insert(intern(.bytes(set)), at: 0) }
        return flat.isEmpty ? Self.never : flat.count == 1 ? flat[0] : intern(.choice(flat))
    }

    mutating func optional(_ part: ExpressionID) -> ExpressionID { loop(part, 0, 1) }

    mutating func loop(_ part: ExpressionID, _ least: Int, _ most: Int?) -> ExpressionID {
        if let most, most < least { return Self.never }
        if most == 0 || part == Self.empty { return Self.empty }
        if part == Self.never { return least == 0 ? Self.empty : Self.never }
        if least == 1, most == 1 { return part }
        return intern(.loop(part, least: least, most: most))
    }

    /// One scalar of a set, as UTF-8. Common beginnings and ends are shared.
    mutating func scalar(_ set: ScalarSet) -> ExpressionID {
        let forms = set.utf8Forms
        var byRest: [[ClosedRange<UInt8>]: ByteSet] = [:]
        var order: [[ClosedRange<UInt8>]] = []
        for form in forms {
            let rest = Array(form.dropFirst())
            if byRest[rest] == nil { order.append(rest) }
            byRest[rest, default: ByteSet()].formUnion(ByteSet(form[0]))
        }
        let parts = order.map { rest in
            let tail = rest.map { bytes(ByteSet($0)) }
            return sequence([bytes(byRest[rest] ?? ByteSet())] + tail)
        }
        return choice(parts)
    }
}

extension Expressions {
    /// Adds the rules that are called.
    func calls(in id: ExpressionID, _ found: inout Set<Int>) {
        switch self[id] {
        case .empty, .never, .bytes: break
        case .sequence(let parts), .choice(let parts): for part in parts { calls(in: part, &found) }
        case .loop(let part, _, _): calls(in: part, &found)
        case .call(let rule): found.insert(rule)
        }
    }

    /// Whether any rule is called.
    func calls(_ id: ExpressionID) -> Bool {
        switch self[id] {
        case .empty, .never, .bytes: false
        case .sequence(let parts), .choice(let parts): parts.contains { calls($0) }
        case .loop(let part, _, _): calls(part)
        case .call: true
        }
    }
}
