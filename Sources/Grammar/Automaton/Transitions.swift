// SPDX-License-Identifier: Apache-2.0
//
// A machine's states by number, and where each byte leads from them: filled as it is needed, a state's whole row at a time, because
// most bytes do the same to a state.

struct Transitions {
    /// A state's number; 0 is the state that allows nothing.
    typealias Number = Int32

    private let machine: Machine
    /// The class of each byte: [256].
    private let classes: [UInt8]
    /// A byte of each class, and all of them.
    private let members: [UInt8]
    private let sets: [ByteSet]
    /// How often a byte stands in the vocabulary, by class.
    private let weights: [Int]
    /// Bytes of the longest token.
    private let longest: Int
    private var numbers: [MachineState: Number] = [:]
    private(set) var states: [MachineState] = []
    /// Whether each accepts.
    private(set) var accepts: [Bool] = []
    /// [states][classes]; `unknown` where a row has not been computed yet.
    private var rows: [Number] = []
    private static let unknown: Number = -1
    /// Leads to a state of too many threads.
    private static let overfull: Number = -2
    /// Of each state; `nil` where it is not known yet.
    private var runs: [Run?] = []
    /// About what they take in memory.
    private(set) var bytes = 0

    /// What surely is allowed after a state.
    struct Run {
        /// Of element d: bytes of which every text of at most d + 1 bytes is allowed.
        fileprivate var kinds: [ByteKinds] = []
        /// After so many bytes of the last kinds,
        fileprivate var end = End.unknown
        /// So many bytes lead to no state that accepts.
        fileprivate var silent = 0

        enum End {
            case unknown
            /// none of them may follow.
            case refused
            /// every number of them may.
            case never
        }

        /// How many bytes of some kinds are surely allowed.
        enum Reach {
            case all
            /// No more than so many.
            case upTo(Int)
            case unknown
        }

        /// - Parameters:
        ///   - length: of texts, at most; 1 and up.
        ///   - silently: whether no state that accepts may be met.
        func reach(_ bytes: ByteKinds, _ length: UInt8, silently: Bool) -> Reach {
            let length = Int(length)
            if length <= kinds.count || end == .never {
                guard !silently || length <= silent,
                    let known = length <= kinds.count ? kinds[length - 1] : kinds.last
                else { return .unknown }
                return bytes.isSubset(of: known) ? .all : .unknown
            }
            guard end == .refused, !silently || kinds.count <= silent, let last = kinds.last,
                bytes.isSubset(of: last)
            else { return .unknown }
            return .upTo(kinds.count)
        }
    }

    init(_ machine: Machine, _ trie: TokenTrie) {
        self.machine = machine
        classes = machine.program.classes.classes
        members = machine.program.classes.members
        var sets = [ByteSet](repeating: ByteSet(), count: members.count)
        var weights = [Int](repeating: 0, count: members.count)
        for byte in UInt8.min...UInt8.max {
            sets[Int(classes[Int(byte)])].insert(byte)
            weights[Int(classes[Int(byte)])] += trie.frequencies[Int(byte)]
        }
        self.sets = sets
        self.weights = weights
        longest = trie.longest
        removeAll()
    }

    mutating func removeAll() {
        numbers.removeAll()
        states.removeAll()
        accepts.removeAll()
        rows.removeAll()
        runs.removeAll()
        bytes = 0
        _ = number(of: .dead)
        for at in members.indices { rows[at] = 0 }
    }

    mutating func number(of state: MachineState) -> Number {
        if let known = numbers[state] { return known }
        let number = Number(states.count)
        numbers[state] = number
        states.append(state)
        accepts.append(state.accepts)
        rows.append(contentsOf: repeatElement(Self.unknown, count: members.count))
        runs.append(nil)
        bytes += 260 + 4 * members.count + 100 * state.threads.count
        return number
    }

    mutating func next(_ from: Number, _ byte: UInt8) throws(MachineLimit) -> Number {
        let row = Int(from) * members.count
        if rows[row] == Self.unknown { try fill(from) }
        let next = rows[row + Int(classes[Int(byte)])]
        guard next >= 0 else { throw .alternatives }
        return next
    }

    /// The state that a byte leads to, from its row if that is known: a text takes one way, not a row of them.
    func step(_ from: MachineState, _ byte: UInt8) throws(MachineLimit) -> MachineState {
        guard let number = numbers[from], rows[Int(number) * members.count] != Self.unknown
        else { return try machine.step(from, byte) }
        let next = rows[Int(number) * members.count + Int(classes[Int(byte)])]
        guard next >= 0 else { throw .alternatives }
        return states[Int(next)]
    }

    /// Computes a state's row: one step for all classes that do the same to each thread.
    private mutating func fill(_ number: Number) throws(MachineLimit) {
        let state = states[Int(number)]
        var lexemes: [Number] = []
        for thread in state.threads {
            guard case .lexeme(let inner) = thread.place else { continue }
            let lexeme = self.number(of: inner)
            if rows[Int(lexeme) * members.count] == Self.unknown { try fill(lexeme) }
            lexemes.append(lexeme)
        }
        // Of each class: a bit for each thread that reads it, then the state of each lexeme.
        let words = (state.threads.count + 63) / 64
        let width = words + lexemes.count
        var keys = [UInt64](repeating: 0, count: members.count * width)
        for (index, thread) in state.threads.enumerated() {
            guard case .bytes(let address) = thread.place,
                case .bytes(let set, _) = machine.program.code[Int(address)]
            else { continue }
            let bit = UInt64(1) << UInt64(index & 63)
            if let byte = set.only {
                keys[Int(classes[Int(byte)]) * width + index >> 6] |= bit
            } else {
                for (number, member) in members.enumerated() where set.contains(member) {
                    keys[number * width + index >> 6] |= bit
                }
            }
        }
        for (index, inner) in lexemes.enumerated() {
            for at in members.indices {
                keys[at * width + words + index] = UInt64(
                    bitPattern: Int64(rows[Int(inner) * members.count + at]))
            }
        }
        var row = [Number](repeating: 0, count: members.count)
        var known: [Int] = []
        classes: for at in members.indices {
            let key = keys[(at * width)..<((at + 1) * width)]
            if key.allSatisfy({ $0 == 0 }) { continue }
            for other in known where keys[(other * width)..<((other + 1) * width)] == key {
                row[at] = row[other]
                continue classes
            }
            known.append(at)
            // One walk may not fill the memory either.
            guard bytes < 4 * GrammarLimits.cacheBytes else { throw .memory }
            let inside = key.suffix(lexemes.count).map { Int(Int64(bitPattern: $0)) }
            do throws(MachineLimit) {
                guard inside.allSatisfy({ $0 >= 0 }) else { throw .alternatives }
                let next = try machine.step(
                    state, members[at], lexemes: inside.map { states[$0] })
                row[at] = self.number(of: next)
            } catch { row[at] = Self.overfull }
        }
        rows.replaceSubrange(
            Int(number) * members.count..<Int(number + 1) * members.count, with: row)
    }

    /// Follows, from each state, whatever most of the vocabulary's bytes lead to.
    mutating func run(_ number: Number) -> Run {
        if let known = runs[Int(number)] { return known }
        var run = Run()
        var set = ByteSet(0...255)
        var at = number
        while run.kinds.count < longest {
            if rows[Int(at) * members.count] == Self.unknown {
                // What is not sure needs not be known.
                do throws(MachineLimit) { try fill(at) } catch { break }
            }
            let row = rows[(Int(at) * members.count)..<(Int(at + 1) * members.count)]
            let to = mostly(row)
            var bytes = ByteSet()
            var dead = ByteSet()
            for (index, next) in row.enumerated() {
                if next == to { bytes.formUnion(sets[index]) }
                if next == 0 { dead.formUnion(sets[index]) }
            }
            if set.isSubset(of: dead) { run.end = .refused }
            set.formIntersection(bytes)
            guard to != 0, !set.isEmpty else { break }
            let isSilent = run.silent == run.kinds.count && !accepts[Int(to)]
            run.kinds.append(ByteKinds(within: set))
            if isSilent { run.silent = run.kinds.count }
            if to == at {
                run.end = .never
                if isSilent { run.silent = .max }
                break
            }
            at = to
        }
        runs[Int(number)] = run
        bytes += 8 * run.kinds.count
        return run
    }

    /// Where most of the vocabulary's bytes lead to that lead on; 0 if none does.
    private func mostly(_ row: ArraySlice<Number>) -> Number {
        var best: (to: Number, weight: Int) = (0, 0)
        var counted: [(to: Number, weight: Int)] = []
        for (number, to) in row.enumerated() where to > 0 {
            let weight = weights[number] + 1
            let at = counted.firstIndex { $0.to == to } ?? counted.count
            if at == counted.count { counted.append((to, 0)) }
            counted[at].weight += weight
            if counted[at].weight > best.weight { best = counted[at] }
        }
        return best.to
    }
}
