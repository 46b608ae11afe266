// SPDX-License-Identifier: Apache-2.0

/// Makes a state of its numbers' bytes, which come in any parts. Keys and values go to pages as they come, a token at a time, so that
/// they are there once: who restores the state has those pages.
package struct StateBuilder {
    private enum Target {
        /// A block: `numbers` is all of it.
        case block
        case pages([KeyValuePage], AttentionMemoryShape)
    }

    package let header: SavedStateHeader
    private var target: Target
    /// Of the token whose bytes come, or of the whole block.
    private var numbers: [Float]
    /// Bytes of `numbers` that have come.
    private var filled = 0
    /// Tokens that are in pages.
    private var written = 0

    /// Of a state that nobody goes on with here: its numbers are kept as they come.
    package init(_ header: SavedStateHeader) {
        self.init(header, .block, numbers: header.values)
    }

    private init(_ header: SavedStateHeader, _ target: Target, numbers: Int) {
        self.header = header
        self.target = target
        self.numbers = [Float](repeating: 0, count: numbers)
    }

    /// Of a state that a slot of `model` goes on with.
    ///
    /// - Throws: `SavedStateError` if it is none of that model.
    package init(_ header: SavedStateHeader, for model: Model) throws(SavedStateError) {
        try header.check(for: model)
        if let shape = model.program.attention, header.values > 0 {
            self.init(header, .pages([], shape), numbers: shape.numbersPerToken)
        } else {
            self.init(header)
        }
    }

    /// Takes the next bytes of the numbers.
    ///
    /// - Throws: `noMemory`.
    /// - Precondition: no more come than the header tells.
    package mutating func take(_ bytes: UnsafeRawBufferPointer) throws(ModelError) {
        let most = numbers.count * header.layout.byteCount
        var rest = bytes
        while !rest.isEmpty {
            let some = UnsafeRawBufferPointer(rebasing: rest.prefix(most - filled))
            precondition(!some.isEmpty, "more numbers than \(header.values)")
            header.layout.put(some, at: filled, in: &numbers)
            filled += some.count
            rest = UnsafeRawBufferPointer(rebasing: rest[some.count...])
            if filled == most { try keep() }
        }
    }

    /// All numbers of a token have come, or of the block.
    private mutating func keep() throws(ModelError) {
        header.layout.widen(&numbers)
        guard case .pages(var pages, let shape) = target else { return }
        // The pages are this variable's alone while it grows.
        target = .block
        defer { target = .pages(pages, shape) }
        try shape.append(numbers[...], to: &pages, of: header.history.count, after: written)
        written += 1
        filled = 0
    }

    /// - Precondition: all numbers have come, and a `SavedStateReader` has found them right.
    package consuming func state() -> SessionState {
        let snapshot: StateSnapshot?
        switch target {
        case .block:
            precondition(filled == header.numberBytes)
            snapshot =
                header.values == 0
                ? nil
                : StateSnapshot(
                    modelDigest: header.modelDigest, history: header.history, values: numbers,
                    layout: header.layout)
        case .pages(let pages, let shape):
            precondition(written == header.history.count)
            snapshot = StateSnapshot(
                modelDigest: header.modelDigest, history: header.history, pages: pages, shape)
        }
        return SessionState(snapshot: snapshot, unread: header.unread)
    }
}
