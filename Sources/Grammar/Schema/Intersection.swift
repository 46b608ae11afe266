// SPDX-License-Identifier: Apache-2.0

/// Texts that match several patterns, and do not match others: the product of their automata, as rules.
enum Intersection {
    /// The text of a JSON string, without its quotes, written as `JSONText.scalar` has it.
    ///
    /// - Parameter budget: steps of threads that may still be made.
    /// - Returns: `nil` if there is no such text.
    static func expression(
        of inside: [RegexNode], outside: [RegexNode] = [], in grammar: inout Expressions,
        _ budget: inout Int, _ place: String
    ) throws(GrammarError) -> ExpressionID? {
        // Whatever is not to match is still text.
        let inside = inside.isEmpty ? [.loop(.any, least: 0, most: nil)] : inside
        var machines: [Machine] = []
        var starts: [MachineState] = []
        for node in inside + outside {
            var part = Expressions()
            let root = part.rule(place)
            part.rules[root].body = node.lowered(into: &part, JSONText.scalar)
            guard ExpressionFacts(part).isProductive[root] else {
                if machines.count < inside.count { return nil }
                continue
            }
            let program = try Program(part, root: root, place: place)
            do {
                let machine = try Machine(program)
                starts.append(try machine.start())
                machines.append(machine)
            } catch { throw tooLarge(place) }
        }
        do {
            let product = try Product(machines, inside: inside.count, starts, &budget)
            return product.isEmpty ? nil : product.rules(in: &grammar, place)
        } catch { throw tooLarge(place) }
    }

    private static func tooLarge(_ place: String) -> GrammarError {
        GrammarError(
            place,
            "its patterns, formats and lengths together take more than \(GrammarLimits.intersection) steps to intersect"
        )
    }
}

private struct Product {
    private struct State: Hashable {
        let parts: [MachineState]
    }

    private var states: [State] = []
    private var numbers: [State: Int] = [:]
    /// Of each state: bytes, and the states they lead to.
    private var edges: [[Int: ByteSet]] = []
    private var accepts: [Bool] = []

    /// - Parameter inside: so many of the machines are to accept, the others are not to.
    init(
        _ machines: [Machine], inside: Int, _ starts: [MachineState],
        _ budget: inout Int
    ) throws(MachineLimit) {
        let classes = ByteClasses(
            machines.flatMap { machine in
                machine.program.code.compactMap {
                    if case .bytes(let set, _) = $0 { set } else { nil }
                }
            })
        var members = [ByteSet](repeating: ByteSet(), count: classes.count)
        for byte in UInt8.min...UInt8.max { members[Int(classes.classes[Int(byte)])].insert(byte) }
        _ = number(of: starts, inside)
        var next = 0
        while next < states.count {
            let from = states[next].parts
            budget -= classes.count * from.reduce(4) { $0 + $1.threads.count }
            guard budget > 0 else { throw .alternatives }
            for (index, byte) in classes.members.enumerated() {
                var parts: [MachineState] = []
                for (machine, state) in zip(machines, from) {
                    parts.append(try machine.step(state, byte))
                }
                guard !parts[..<inside].contains(where: \.isDead) else { continue }
                let to = number(of: parts, inside)
                edges[next][to, default: ByteSet()].formUnion(members[index])
            }
            next += 1
        }
    }

    private mutating func number(of parts: [MachineState], _ inside: Int) -> Int {
        let state = State(parts: parts)
        if let known = numbers[state] { return known }
        numbers[state] = states.count
        states.append(state)
        edges.append([:])
        accepts.append(
            parts[..<inside].allSatisfy(\.accepts) && !parts[inside...].contains(where: \.accepts))
        return states.count - 1
    }

    var isEmpty: Bool { !accepts.contains(true) }

    /// A rule for each state.
    func rules(in grammar: inout Expressions, _ place: String) -> ExpressionID {
        var rules: [Int] = []
        for _ in states { rules.append(grammar.rule(place)) }
        for (index, edges) in edges.enumerated() {
            var choices = accepts[index] ? [Expressions.empty] : []
            for (to, bytes) in edges.sorted(by: { $0.key < $1.key }) {
                let set = grammar.bytes(bytes)
                let next = grammar.call(rules[to])
                choices.append(grammar.sequence([set, next]))
            }
            grammar.rules[rules[index]].body = grammar.choice(choices)
        }
        return grammar.call(rules[0])
    }
}

extension RegexNode {
    /// A given text.
    static func literal(_ text: String) -> RegexNode {
        .sequence(text.unicodeScalars.map { .set(ScalarSet($0)) })
    }
}
