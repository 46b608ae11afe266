// SPDX-License-Identifier: Apache-2.0

/// What one row of a batch sees of the tokens before it, and where its own keys and values go.
struct AttentionView {
    /// The pages of positions 0...position.
    let pages: UnsafePointer<UnsafeRawPointer>
    let position: Int
    let target: UnsafeMutableRawPointer
}

/// A row's keys and values that go to another page as well: one that was copied from its own within the batch.
struct AttentionCopy {
    let row: Int
    let lane: Int
    let target: UnsafeMutableRawPointer
}

/// The pages of a sequence, in order. It grows at its end only, so a row may look at its beginning while it does.
private final class PageList {
    private(set) var pages: [KeyValuePage]
    let pointers: UnsafeMutablePointer<UnsafeRawPointer>

    /// - Parameter capacity: pages at most.
    init(_ pages: ArraySlice<KeyValuePage>, capacity: Int) {
        self.pages = Array(pages)
        pointers = .allocate(capacity: capacity)
        for (index, page) in self.pages.enumerated() {
            (pointers + index).initialize(to: UnsafeRawPointer(page.base))
        }
    }

    deinit { pointers.deallocate() }

    func append(_ page: KeyValuePage) {
        (pointers + pages.count).initialize(to: UnsafeRawPointer(page.base))
        pages.append(page)
    }
}

/// Keys and values of all slots. Owned by one thread.
final class AttentionStates {
    private struct Slot {
        var list: PageList
        var tokens = 0
    }

    let shape: AttentionMemoryShape
    private var slots: [Slot]
    /// What the rows of the batch under way look at, though their slots may have gone on with others.
    private var held: [PageList] = []

    init(slots: Int, _ shape: AttentionMemoryShape) {
        self.shape = shape
        self.slots = (0..<slots).map { _ in
            Slot(list: PageList([], capacity: AttentionMemoryShape.pages(shape.context)))
        }
    }

    private func list(_ pages: ArraySlice<KeyValuePage>) -> PageList {
        PageList(pages, capacity: AttentionMemoryShape.pages(shape.context))
    }

    /// Gives every row of a batch its position and its place in a page, in order.
    ///
    /// - Returns: what goes to other pages as well.
    /// - Throws: `noMemory`; then no slot has changed.
    /// - Precondition: no row is beyond the context.
    func assign(
        _ rows: [BatchRow], _ views: UnsafeMutablePointer<AttentionView>
    ) throws(ModelError) -> [AttentionCopy] {
        let before = slots
        do {
            return try place(rows, views)
        } catch {
            slots = before.map { slot in
                let pages = slot.list.pages.prefix(AttentionMemoryShape.pages(slot.tokens))
                return Slot(list: list(pages), tokens: slot.tokens)
            }
            throw error
        }
    }

    private func place(
        _ rows: [BatchRow], _ views: UnsafeMutablePointer<AttentionView>
    ) throws(ModelError) -> [AttentionCopy] {
        held = []
        var written: [(row: Int, page: KeyValuePage, lane: Int)] = []
        var copies: [AttentionCopy] = []
        for (number, row) in rows.enumerated() {
            var slot = slots[row.from]
            let position = slot.tokens
            precondition(
                position < shape.context, "token \(position) of a context of \(shape.context)")
            let lane = position % AttentionMemoryShape.pageTokens
            if row.from != row.to { slot.list = list(slot.list.pages[...]) }
            let page: KeyValuePage
            if lane == 0 {
                page = try KeyValuePage(shape)
                _ = page.claim(0)
                slot.list.append(page)
            } else if let last = slot.list.pages.last, last.claim(lane) {
                page = last
            } else {
                let last = slot.list.pages[slot.list.pages.count - 1]
                page = try last.copy(lane, shape)
                _ = page.claim(lane)
                slot.list = list(slot.list.pages.dropLast())
                slot.list.append(page)
                // Tokens of this batch are not there to be copied yet.
                for earlier in written where earlier.page === last && earlier.lane < lane {
                    copies.append(
                        AttentionCopy(row: earlier.row, lane: earlier.lane, target: page.base))
                    written.append((earlier.row, page, earlier.lane))
                }
            }
            written.append((number, page, lane))
            slot.tokens += 1
            slots[row.to] = slot
            if held.last !== slot.list { held.append(slot.list) }
            (views + number).initialize(
                to: AttentionView(
                    pages: UnsafePointer(slot.list.pointers), position: position,
                    target: page.base))
        }
        return copies
    }

    /// The batch is over.
    func endBatch() { held = [] }

    func reset(_ slot: Int) { slots[slot] = Slot(list: list([])) }

    /// The slot's pages and how many tokens they hold.
    func pages(_ slot: Int) -> (pages: [KeyValuePage], tokens: Int) {
        (slots[slot].list.pages, slots[slot].tokens)
    }

    /// Goes on with pages that others may share.
    func restore(_ slot: Int, _ pages: [KeyValuePage], tokens: Int) {
        slots[slot] = Slot(list: list(pages[...]), tokens: tokens)
    }
}

extension AttentionMemoryShape {
    /// Keys and values of tokens in their order: [tokens][layers][keys, values][keyHeads · headSize].
    func values(_ pages: [KeyValuePage], tokens: Int) -> [Float] {
        var values: [Float] = []
        values.reserveCapacity(tokens * numbersPerToken)
        for token in 0..<tokens { append(token, of: pages, to: &values) }
        return values
    }

    /// Appends one token's keys and values.
    func append(_ token: Int, of pages: [KeyValuePage], to values: inout [Float]) {
        read(pages[token / Self.pageTokens], lane: token % Self.pageTokens, into: &values)
    }

    /// Pages of what `values` has given.
    ///
    /// - Throws: `noMemory`.
    func pages(_ values: [Float]) throws(ModelError) -> [KeyValuePage] {
        let tokens = values.count / numbersPerToken
        var pages: [KeyValuePage] = []
        for token in 0..<tokens {
            try append(
                values[token * numbersPerToken..<(token + 1) * numbersPerToken], to: &pages,
                of: tokens, after: token)
        }
        return pages
    }

    /// Appends one token's keys and values, in the order of `values`.
    ///
    /// - Parameters:
    ///   - tokens: those that all pages will hold.
    ///   - token: how many they hold.
    /// - Throws: `noMemory`.
    func append(
        _ numbers: ArraySlice<Float>, to pages: inout [KeyValuePage], of tokens: Int,
        after token: Int
    ) throws(ModelError) {
        let lane = token % Self.pageTokens
        if lane == 0 {
            pages.append(try KeyValuePage(self, claimed: min(Self.pageTokens, tokens - token)))
        }
        write(pages[pages.count - 1], lane: lane, numbers)
    }
}
