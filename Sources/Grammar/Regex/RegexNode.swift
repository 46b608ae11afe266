// SPDX-License-Identifier: Apache-2.0

/// A regular expression, read: over Unicode scalars, whatever they are written as.
indirect enum RegexNode: Sendable {
    case set(ScalarSet)
    case sequence([RegexNode])
    case choice([RegexNode])
    case loop(RegexNode, least: Int, most: Int?)
    /// `^` or `$`, and where it stands.
    case anchor(isStart: Bool, at: Int)

    static let any = RegexNode.set(.all)

    /// The expression without anchors that matches a whole text where this one matches: all of it, or somewhere in it.
    ///
    /// - Parameter searches: what stands before and after the match is free, as in a JSON schema's `pattern`.
    func anchored(searches: Bool) throws(GrammarError) -> RegexNode {
        switch self {
        case .choice(let parts):
            var list: [RegexNode] = []
            for part in parts { list.append(try part.anchored(searches: searches)) }
            return .choice(list)
        case .sequence(let parts) where parts.count == 1:
            return try parts[0].anchored(searches: searches)
        case .sequence(var parts):
            var (start, end) = (false, false)
            while case .anchor(true, _)? = parts.first {
                start = true
                parts.removeFirst()
            }
            while case .anchor(false, _)? = parts.last {
                end = true
                parts.removeLast()
            }
            // ^(a|b)$: what is inside has no anchors of its own.
            let inner = RegexNode.sequence(parts)
            try inner.refuseAnchors()
            guard searches else { return inner }
            let free = RegexNode.loop(.any, least: 0, most: nil)
            return .sequence((start ? [] : [free]) + [inner] + (end ? [] : [free]))
        case .anchor, .set, .loop:
            return try RegexNode.sequence([self, .sequence([])]).anchored(searches: searches)
        }
    }

    private func refuseAnchors() throws(GrammarError) {
        switch self {
        case .set: break
        case .sequence(let parts), .choice(let parts):
            for part in parts { try part.refuseAnchors() }
        case .loop(let part, _, _): try part.refuseAnchors()
        case .anchor(let isStart, let at):
            throw GrammarError(
                byte: at,
                "'\(isStart ? "^" : "$")' is supported at the \(isStart ? "beginning" : "end") of an alternative only"
            )
        }
    }

    /// How many scalars a text has that matches: at least and at most. `most`: `nil` for no bound.
    var lengths: (least: Int, most: Int?) {
        switch self {
        case .set: return (1, 1)
        case .anchor: return (0, 0)
        case .sequence(let parts):
            return parts.reduce((0, 0)) { sum, part in
                let (least, most) = part.lengths
                return (
                    Self.capped(sum.0 + least),
                    sum.1.flatMap { a in most.map { Self.capped(a + $0) } }
                )
            }
        case .choice(let parts):
            let all = parts.map(\.lengths)
            let most = all.contains { $0.most == nil } ? nil : all.compactMap(\.most).max() ?? 0
            return (all.map(\.least).min() ?? 0, most)
        case .loop(let part, let count, let limit):
            let (least, most) = part.lengths
            let longest = limit.flatMap { limit in most.map { Self.capped($0 * limit) } }
            return (Self.capped(least * count), most == 0 ? 0 : longest)
        }
    }

    /// Far above every bound, far below what overflows.
    private static func capped(_ length: Int) -> Int { min(length, 1 << 30) }

    /// As an expression over bytes.
    ///
    /// - Parameter scalar: how one scalar of a set is written.
    func lowered(
        into grammar: inout Expressions,
        _ scalar: (ScalarSet, inout Expressions) -> ExpressionID
    ) -> ExpressionID {
        switch self {
        case .set(let set): return scalar(set, &grammar)
        case .sequence(let parts):
            var list: [ExpressionID] = []
            for part in parts { list.append(part.lowered(into: &grammar, scalar)) }
            return grammar.sequence(list)
        case .choice(let parts):
            var list: [ExpressionID] = []
            for part in parts { list.append(part.lowered(into: &grammar, scalar)) }
            return grammar.choice(list)
        case .loop(let part, let least, let most):
            return grammar.loop(part.lowered(into: &grammar, scalar), least, most)
        case .anchor: preconditionFailure("an anchor that was to be taken away")
        }
    }
}
