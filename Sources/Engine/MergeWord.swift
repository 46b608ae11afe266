// SPDX-License-Identifier: Apache-2.0

/// A text on its way to tokens: symbols in a linked list, and a heap of the merges that may be made. O(n log n).
struct MergeWord {
    /// The id of a symbol no piece stands for.
    static let none = UInt32.max

    private struct Symbol {
        var id: UInt32
        /// What it was; only symbols that never merged are asked.
        var scalar: Unicode.Scalar
        var previous: Int32
        var next: Int32
    }

    /// A merge of the symbols at `left` and `right`, as they were when it was found.
    private struct Candidate {
        var rank: UInt32
        var left, right: Int32
        var leftID, rightID, result: UInt32

        static func < (a: Candidate, b: Candidate) -> Bool {
            a.rank != b.rank ? a.rank < b.rank : a.left < b.left
        }
    }

    private var symbols: [Symbol] = []
    private var heap: [Candidate] = []

    mutating func append(_ id: UInt32, _ scalar: Unicode.Scalar) {
        let index = Int32(symbols.count)
        if index > 0 { symbols[Int(index) - 1].next = index }
        symbols.append(Symbol(id: id, scalar: scalar, previous: index - 1, next: -1))
    }

    mutating func merge(with table: MergeTable) {
        guard symbols.count > 1 else { return }
        for left in 0..<symbols.count - 1 { consider(Int32(left), Int32(left + 1), table) }
        while let best = pop() {
            // A candidate whose symbols have changed since is stale.
            guard symbols[Int(best.left)].id == best.leftID,
                symbols[Int(best.left)].next == best.right,
                symbols[Int(best.right)].id == best.rightID
            else { continue }
            let after = symbols[Int(best.right)].next
            symbols[Int(best.left)].id = best.result
            symbols[Int(best.left)].next = after
            symbols[Int(best.right)].id = Self.none
            symbols[Int(best.right)].previous = -2
            if after >= 0 {
                symbols[Int(after)].previous = best.left
                consider(best.left, after, table)
            }
            let before = symbols[Int(best.left)].previous
            if before >= 0 { consider(before, best.left, table) }
        }
    }

    func forEach(_ body: (UInt32, Unicode.Scalar) -> Void) {
        var index: Int32 = symbols.isEmpty ? -1 : 0
        while index >= 0 {
            body(symbols[Int(index)].id, symbols[Int(index)].scalar)
            index = symbols[Int(index)].next
        }
    }

    private mutating func consider(_ left: Int32, _ right: Int32, _ table: MergeTable) {
        let (a, b) = (symbols[Int(left)].id, symbols[Int(right)].id)
        guard a != Self.none, b != Self.none, let found = table.find(a, b) else { return }
        push(
            Candidate(
                rank: found.rank, left: left, right: right, leftID: a, rightID: b,
                result: found.result))
    }

    // MARK: A binary heap, the lowest candidate first

    private mutating func push(_ candidate: Candidate) {
        heap.append(candidate)
        var child = heap.count - 1
        while child > 0, heap[child] < heap[(child - 1) / 2] {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func pop() -> Candidate? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        guard !heap.isEmpty else { return first }
        heap[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
            guard heap[child] < heap[parent] else { break }
            heap.swapAt(child, parent)
            parent = child
        }
        return first
    }
}
