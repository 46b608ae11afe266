// SPDX-License-Identifier: Apache-2.0

/// Text on its way to tokens: symbols in a linked list, and a heap of the merges that may be made. O(n log n) for n symbols,
/// and 36 bytes of memory for each; used again for the next word.
struct MergeWord {
    /// The id of a symbol no token stands for. It never merges.
    static let none = UInt32.max

    private struct Symbol {
        var id: UInt32
        var previous: Int32
        /// −1 after the last symbol; −2 once merged into its left neighbour.
        var next: Int32
    }

    /// A merge of the symbols at `left` and `right`, as they were when it was found.
    private struct Candidate {
        /// Rank, then place: the lowest goes first, leftmost on ties.
        var order: UInt64
        var right: Int32
        var rightID: UInt32
        var result: UInt32

        var left: Int { Int(truncatingIfNeeded: order & 0xFFFF_FFFF) }
    }

    private var symbols: [Symbol] = []
    private var heap: [Candidate] = []

    var count: Int { symbols.count }

    /// Takes back what was appended after the first `count` symbols.
    mutating func cut(to count: Int) {
        symbols.removeLast(symbols.count - count)
        if count > 0 { symbols[count - 1].next = -1 }
    }

    mutating func append(_ id: UInt32) {
        let index = Int32(symbols.count)
        if index > 0 { symbols[Int(index) - 1].next = index }
        symbols.append(Symbol(id: id, previous: index - 1, next: -1))
    }

    /// Makes the merges, gives out the tokens that are left, and begins a new word.
    mutating func finish(_ table: MergeTable, _ body: (UInt32) -> Void) {
        if symbols.count > 1 { merge(table) }
        var index: Int32 = symbols.isEmpty ? -1 : 0
        while index >= 0 {
            body(symbols[Int(index)].id)
            index = symbols[Int(index)].next
        }
        symbols.removeAll(keepingCapacity: true)
    }

    private mutating func merge(_ table: MergeTable) {
        for right in 1..<Int32(symbols.count) { consider(right - 1, right, table) }
        while let best = pop() {
            let (left, right) = (best.left, Int(best.right))
            // A candidate is stale once either of its symbols has merged with another. The left one cannot have grown
            // without losing its right neighbour.
            guard symbols[left].next == best.right, symbols[right].id == best.rightID else {
                continue
            }
            let after = symbols[right].next
            symbols[left].id = best.result
            symbols[left].next = after
            symbols[right].next = -2
            if after >= 0 {
                symbols[Int(after)].previous = Int32(left)
                consider(Int32(left), after, table)
            }
            let before = symbols[left].previous
            if before >= 0 { consider(before, Int32(left), table) }
        }
    }

    private mutating func consider(_ left: Int32, _ right: Int32, _ table: MergeTable) {
        let rightID = symbols[Int(right)].id
        guard let found = table.find(symbols[Int(left)].id, rightID) else { return }
        push(
            Candidate(
                order: UInt64(found.rank) << 32 | UInt64(UInt32(left)), right: right,
                rightID: rightID, result: found.result))
    }

    // MARK: A binary heap, the lowest candidate first

    private mutating func push(_ candidate: Candidate) {
        heap.append(candidate)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard candidate.order < heap[parent].order else { break }
            heap[child] = heap[parent]
            child = parent
        }
        heap[child] = candidate
    }

    private mutating func pop() -> Candidate? {
        guard let first = heap.first, let last = heap.popLast() else { return nil }
        let count = heap.count
        guard count > 0 else { return first }
        var hole = 0
        while true {
            var child = 2 * hole + 1
            guard child < count else { break }
            if child + 1 < count, heap[child + 1].order < heap[child].order { child += 1 }
            guard heap[child].order < last.order else { break }
            heap[hole] = heap[child]
            hole = child
        }
        heap[hole] = last
        return first
    }
}
