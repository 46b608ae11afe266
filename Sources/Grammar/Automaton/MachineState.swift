// SPDX-License-Identifier: Apache-2.0
//
// A machine's states as values: what may come next, for every way in which the text so far can be read. They are immutable and
// shared; a caller may keep one as long as it likes.

/// What lies on a thread's stack: where to go on, or what is left of a repetition.
final class Frame: Equatable, Sendable {
    /// Where to go on after a call, or the `loop` instruction.
    let address: Program.Address
    /// Turns that must and that may still follow the one under way; 0 for a call.
    let least, most: Int32
    let parent: Frame?
    let depth: Int32
    /// The largest finite count here and below.
    let largest: Int32
    let hash: UInt64

    init(_ address: Program.Address, least: Int32 = 0, most: Int32 = 0, on parent: Frame?) {
        self.address = address
        self.least = least
        self.most = most
        self.parent = parent
        depth = (parent?.depth ?? 0) + 1
        largest = max(parent?.largest ?? 0, Self.finite(least), Self.finite(most))
        hash = Mix.hash(
            Mix.hash(parent?.hash ?? Mix.seed, UInt64(UInt32(bitPattern: address))),
            UInt64(UInt32(bitPattern: least)) << 32 | UInt64(UInt32(bitPattern: most)))
    }

    private static func finite(_ count: Int32) -> Int32 {
        count == Program.unbounded ? 0 : count
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

    /// The same with every count of at least `limit` without a bound.
    func saturated(at limit: Int32) -> Frame {
        guard largest >= limit else { return self }
        return Frame(
            address, least: least >= limit ? Program.unbounded : least,
            most: most >= limit ? Program.unbounded : most, on: parent?.saturated(at: limit))
    }
}

/// One way to read the text so far: an instruction that reads a byte, or a state inside a lexeme.
struct Thread: Mixed {
    enum Place: Equatable, Sendable {
        case bytes(Program.Address)
        case lexeme(MachineState)
    }

    let place: Place
    let stack: Frame?
    let hash: UInt64

    init(_ place: Place, _ stack: Frame?) {
        self.place = place
        self.stack = stack
        let word: UInt64 =
            switch place {
            case .bytes(let address): UInt64(UInt32(bitPattern: address))
            case .lexeme(let state): state.hash
            }
        hash = Mix.hash(stack?.hash ?? Mix.seed, word)
    }
}

/// All ways to read the text so far.
final class MachineState: Hashable, Sendable {
    /// Distinct.
    let threads: [Thread]
    /// Whether the text so far is complete (in a lexeme: whether it may end here).
    let accepts: Bool
    /// The largest finite count of its threads.
    let largest: Int32
    let hash: UInt64

    /// - Parameter threads: distinct.
    init(_ threads: [Thread], accepts: Bool) {
        // An order that does not depend on how they were found, as far as hashes tell them apart.
        self.threads = threads.count < 2 ? threads : threads.sorted { $0.hash < $1.hash }
        self.accepts = accepts
        var largest: Int32 = 0
        var hash = Mix.hash(Mix.seed, accepts ? 1 : 0)
        for thread in self.threads {
            if case .lexeme(let state) = thread.place { largest = max(largest, state.largest) }
            largest = max(largest, thread.stack?.largest ?? 0)
            hash = Mix.hash(hash, thread.hash)
        }
        self.largest = largest
        self.hash = hash
    }

    static let dead = MachineState([], accepts: false)
    var isDead: Bool { threads.isEmpty && !accepts }

    static func == (left: MachineState, right: MachineState) -> Bool {
        left === right
            || left.hash == right.hash && left.accepts == right.accepts
                && left.threads == right.threads
    }

    func hash(into hasher: inout Hasher) { hasher.combine(hash) }

    /// The same with every count of at least `limit` without a bound: for the next `limit` − 1 bytes the two allow the same, since
    /// each turn of a loop reads one.
    func saturated(at limit: Int32) -> MachineState {
        guard largest >= limit else { return self }
        var saturated = Distinct<Thread>()
        for thread in threads {
            var place = thread.place
            if case .lexeme(let state) = place { place = .lexeme(state.saturated(at: limit)) }
            _ = saturated.insert(Thread(place, thread.stack?.saturated(at: limit)))
        }
        return MachineState(saturated.elements, accepts: accepts)
    }
}
