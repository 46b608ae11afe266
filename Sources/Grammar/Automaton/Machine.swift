// SPDX-License-Identifier: Apache-2.0

/// What ends the following of a constraint.
enum MachineLimit: Error {
    /// A state has more than `GrammarLimits.threads` threads.
    case alternatives
    /// A mask takes more than four times `GrammarLimits.cacheBytes`.
    case memory
}

/// Runs a program.
struct Machine: Sendable {
    let program: Program
    /// The first state of each lexeme, by its entry.
    private var lexemes: [Program.Address: MachineState] = [:]

    init(_ program: Program) throws(MachineLimit) {
        self.program = program
        for case .lexeme(let entry, _) in program.code where lexemes[entry] == nil {
            lexemes[entry] = try state([(entry, nil)])
        }
    }

    func start() throws(MachineLimit) -> MachineState { try state([(program.start, nil)]) }

    /// - Parameters:
    ///   - byte: any of its class.
    ///   - lexemes: what the states inside lexemes become, in the order of their threads, if that is known.
    func step(
        _ from: MachineState, _ byte: UInt8, lexemes: [MachineState]? = nil
    ) throws(MachineLimit) -> MachineState {
        var search = Search(self)
        var place = 0
        for thread in from.threads {
            switch thread.place {
            case .bytes(let address):
                guard case .bytes(let set, let next) = program.code[Int(address)],
                    set.contains(byte)
                else { continue }
                search.add(next, thread.stack)
            case .lexeme(let state):
                let next = if let lexemes { lexemes[place] } else { try step(state, byte) }
                search.enter(next, thread.stack)
                place += 1
            }
        }
        return try search.finish()
    }

    /// What follows a lexeme that ends.
    func after(_ stack: Frame?) throws(MachineLimit) -> MachineState {
        try state([(Program.back, stack)])
    }

    private func state(
        _ starts: [(Program.Address, Frame?)]
    ) throws(MachineLimit) -> MachineState {
        var search = Search(self)
        for (address, stack) in starts { search.add(address, stack) }
        return try search.finish()
    }

    /// Follows instructions until they read a byte.
    private struct Search {
        private struct Point: Mixed {
            let address: Program.Address
            let stack: Frame?
            let hash: UInt64

            init(_ address: Program.Address, _ stack: Frame?) {
                self.address = address
                self.stack = stack
                hash = Mix.hash(stack?.hash ?? Mix.seed, UInt64(UInt32(bitPattern: address)))
            }
        }

        private let machine: Machine
        private var waiting: [Point] = []
        private var seen = Distinct<Point>()
        private var threads = Distinct<Thread>()
        private var accepts = false

        init(_ machine: Machine) { self.machine = machine }

        mutating func add(_ address: Program.Address, _ stack: Frame?) {
            let depth = stack?.depth ?? 0
            guard depth + machine.program.heights[Int(address)] <= Int32(GrammarLimits.depth)
            else { return }
            waiting.append(Point(address, stack))
        }

        mutating func enter(_ lexeme: MachineState, _ stack: Frame?) {
            if !lexeme.threads.isEmpty { _ = threads.insert(Thread(.lexeme(lexeme), stack)) }
            if lexeme.accepts { add(Program.back, stack) }
        }

        mutating func finish() throws(MachineLimit) -> MachineState {
            while let point = waiting.popLast() {
                guard seen.insert(point) else { continue }
                guard seen.count <= 4 * GrammarLimits.threads,
                    threads.count <= GrammarLimits.threads
                else { throw .alternatives }
                follow(point)
            }
            guard accepts || threads.count > 0 else { return .dead }
            return MachineState(threads.elements, accepts: accepts)
        }

        private mutating func follow(_ point: Point) {
            let (address, stack) = (point.address, point.stack)
            switch machine.program.code[Int(address)] {
            case .bytes: _ = threads.insert(Thread(.bytes(address), stack))
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

        /// Takes another turn of a loop, of which at least `least` and at most `most` are left, or none. A count without a bound
        /// stays so: `most` of a program, both of a saturated state.
        private mutating func turn(
            _ address: Program.Address, _ least: Int32, _ most: Int32, _ stack: Frame?
        ) {
            guard case .loop(_, _, let body, let next) = machine.program.code[Int(address)]
            else { preconditionFailure("a count that is no loop's") }
            if least == 0 { add(next, stack) }
            if most > 0 {
                add(body, Frame(address, least: Self.less(least), most: Self.less(most), on: stack))
            }
        }

        private static func less(_ count: Int32) -> Int32 {
            count == Program.unbounded ? count : max(0, count - 1)
        }
    }
}
