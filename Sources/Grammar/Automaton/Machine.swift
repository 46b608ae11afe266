// SPDX-License-Identifier: Apache-2.0
//
// A machine's states as values: what may come next, for every way in which the text so far can be read. They are immutable and
// shared; a caller may keep one as long as it likes.

/// What lies on a thread's stack: where to go on, or what is left of a repetition.
final class Frame: Hashable, Sendable {
    /// Where to go on after a call, or the `loop` instruction.
    let address: Program.Address
    /// Turns that must and that may still follow the one under way; 0 for a call.
    let least, most: Int32
    let parent: Frame?
    let depth: Int32
    /// The largest finite count here and below.
    let largest: Int32
    private let hash: Int

    init(_ address: Program.Address, least: Int32 = 0, most: Int32 = 0, on parent: Frame?) {
        self.address = address
        self.least = least
        self.most = most
        self.parent = parent
        depth = (parent?.depth ?? 0) + 1
        largest = max(
            parent?.largest ?? 0, least, most == Program.unbounded ? 0 : most)
        var hasher = Hasher()
        hasher.combine(address)
        hasher.combine(least)
        hasher.combine(most)
        hasher.combine(parent?.hash ?? 0)
        hash = hasher.finalize()
    }

    static func == (left: Frame, right: Frame) -> Bool {
        var (a, b): (Frame?, Frame?) = (left, right)
        while let x = a, let y = b {
            if x === y { return true }
            guard x.hash == y.hash, x.address == y.address, x.least == y.least, x.most == y.most,
                x.depth == y.depth
            else { return false }
            (a, b) = (x.parent, y.parent)
        }
        return a == nil && b == nil
    }

    func hash(into hasher: inout Hasher) { hasher.combine(hash) }

    /// The same with every finite count at most `limit`.
    func clamped(to limit: Int32) -> Frame {
        guard largest > limit else { return self }
        return Frame(
            address, least: min(least, limit),
            most: most == Program.unbounded ? most : min(most, limit),
            on: parent?.clamped(to: limit))
    }
}

/// One way to read the text so far: an instruction that reads a byte, or a state inside a lexeme.
struct Thread: Hashable, Sendable {
    enum Place: Hashable, Sendable {
        case bytes(Program.Address)
        case lexeme(MachineState)
    }

    let place: Place
    let stack: Frame?
}

/// All ways to read the text so far.
final class MachineState: Hashable, Sendable {
    let threads: [Thread]
    /// Whether the text so far is complete (in a lexeme: whether it may end here).
    let accepts: Bool
    let largest: Int32
    private let hash: Int

    init(_ threads: Set<Thread>, accepts: Bool) {
        // An order that does not depend on how they were found, as far as hashes tell them apart.
        self.threads = threads.sorted { $0.hashValue < $1.hashValue }
        self.accepts = accepts
        largest = threads.reduce(0) {
            var inner: Int32 = 0
            if case .lexeme(let state) = $1.place { inner = state.largest }
            return max($0, inner, $1.stack?.largest ?? 0)
        }
        var hasher = Hasher()
        hasher.combine(accepts)
        hasher.combine(self.threads)
        hash = hasher.finalize()
    }

    static let dead = MachineState([], accepts: false)
    var isDead: Bool { threads.isEmpty && !accepts }

    static func == (left: MachineState, right: MachineState) -> Bool {
        left === right
            || left.hash == right.hash && left.accepts == right.accepts
                && left.threads == right.threads
    }

    func hash(into hasher: inout Hasher) { hasher.combine(hash) }

    /// The same with every finite count at most `limit`: for the next `limit` − 1 bytes the two allow the same.
    func clamped(to limit: Int32) -> MachineState {
        guard largest > limit else { return self }
        return MachineState(
            Set(
                threads.map {
                    var place = $0.place
                    if case .lexeme(let state) = place {
                        place = .lexeme(state.clamped(to: limit))
                    }
                    return Thread(place: place, stack: $0.stack?.clamped(to: limit))
                }), accepts: accepts)
    }
}

/// Runs a program.
struct Machine: Sendable {
    let program: Program
    /// The first state of each lexeme, by its entry.
    private var lexemes: [Program.Address: MachineState] = [:]

    /// A state has too many threads.
    struct TooManyThreads: Error {}

    init(_ program: Program) throws(TooManyThreads) {
        self.program = program
        for case .lexeme(let entry, _) in program.code where lexemes[entry] == nil {
            lexemes[entry] = try state([(entry, nil)])
        }
    }

    func start() throws(TooManyThreads) -> MachineState { try state([(program.start, nil)]) }

    /// - Parameter byte: any of its class.
    func step(_ from: MachineState, _ byte: UInt8) throws(TooManyThreads) -> MachineState {
        var search = Search(self)
        for thread in from.threads {
            switch thread.place {
            case .bytes(let address):
                guard case .bytes(let set, let next) = program.code[Int(address)],
                    set.contains(byte)
                else { continue }
                search.add(next, thread.stack)
            case .lexeme(let state):
                search.enter(try step(state, byte), thread.stack)
            }
        }
        return try search.finish()
    }

    /// What follows a lexeme that ends.
    func after(_ stack: Frame?) throws(TooManyThreads) -> MachineState {
        try state([(Program.back, stack)])
    }

    private func state(
        _ starts: [(Program.Address, Frame?)]
    ) throws(TooManyThreads) -> MachineState {
        var search = Search(self)
        for (address, stack) in starts { search.add(address, stack) }
        return try search.finish()
    }

    /// Follows instructions until they read a byte.
    private struct Search {
        private struct Point: Hashable {
            let address: Program.Address
            let stack: Frame?
        }

        private let machine: Machine
        private var waiting: [Point] = []
        private var seen: Set<Point> = []
        private var threads: Set<Thread> = []
        private var accepts = false

        init(_ machine: Machine) { self.machine = machine }

        mutating func add(_ address: Program.Address, _ stack: Frame?) {
            let depth = stack?.depth ?? 0
            guard depth + machine.program.heights[Int(address)] <= Int32(GrammarLimits.depth)
            else { return }
            waiting.append(Point(address: address, stack: stack))
        }

        mutating func enter(_ lexeme: MachineState, _ stack: Frame?) {
            if !lexeme.threads.isEmpty {
                threads.insert(Thread(place: .lexeme(lexeme), stack: stack))
            }
            if lexeme.accepts { add(Program.back, stack) }
        }

        mutating func finish() throws(TooManyThreads) -> MachineState {
            while let point = waiting.popLast() {
                // Most states have one or two.
                guard seen.insert(point).inserted else { continue }
                guard seen.count <= 4 * GrammarLimits.threads,
                    threads.count <= GrammarLimits.threads
                else { throw TooManyThreads() }
                follow(point)
            }
            return MachineState(threads, accepts: accepts)
        }

        private mutating func follow(_ point: Point) {
            let (address, stack) = (point.address, point.stack)
            switch machine.program.code[Int(address)] {
            case .bytes: threads.insert(Thread(place: .bytes(address), stack: stack))
            case .split(let targets): for target in targets { add(target, stack) }
            case .call(let entry, let next):
                add(entry, next == Program.back ? stack : Frame(next, on: stack))
            case .lexeme(let entry, let next):
                guard let first = machine.lexemes[entry] else { return }
                enter(first, next == Program.back ? stack : Frame(next, on: stack))
            case .loop(let least, let most, _, _): turn(address, least, most, stack)
            case .back:
                guard let stack else {
                    accepts = true
                    return
                }
                add(stack.address, stack.parent)
            case .again:
                guard let stack else { preconditionFailure("a loop without its count") }
                turn(stack.address, stack.least, stack.most, stack.parent)
            }
        }

        /// Takes another turn of a loop, of which at least `least` and at most `most` are left, or none.
        private mutating func turn(
            _ address: Program.Address, _ least: Int32, _ most: Int32, _ stack: Frame?
        ) {
            guard case .loop(_, _, let body, let next) = machine.program.code[Int(address)]
            else { preconditionFailure("a count that is no loop's") }
            if least == 0 { add(next, stack) }
            if most > 0 {
                add(
                    body,
                    Frame(
                        address, least: max(0, least - 1),
                        most: most == Program.unbounded ? most : most - 1, on: stack))
            }
        }
    }
}
