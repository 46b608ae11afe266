// SPDX-License-Identifier: Apache-2.0

package import ModelStore

/// How the numbers of a state lie; another order or type of them is another number.
package enum StateLayout: UInt32, Sendable, CaseIterable {
    /// [layers × inner] float32
    case recurrent = 1
    /// [tokens][layers][keys, values][key heads × width] float32; keys are rotated.
    case keysAndValues = 2

    package init(_ memory: SequenceMemory) {
        switch memory {
        case .recurrent: self = .recurrent
        case .attention: self = .keysAndValues
        }
    }
}

/// A state as a value: all that a model remembers of the tokens it has read. Immutable and shared.
package final class StateSnapshot: Sendable {
    private enum Contents: Sendable {
        case values([Float])
        case pages([KeyValuePage], AttentionMemoryShape)
    }

    /// The model's digest: the state means nothing to another.
    package let modelDigest: String
    package let layout: StateLayout
    /// The tokens that have been read.
    package let history: TokenHistory
    private let contents: Contents

    /// - Parameter values: as `layout` has them.
    package init(
        modelDigest: String, history: TokenHistory, values: [Float],
        layout: StateLayout = .recurrent
    ) {
        self.modelDigest = modelDigest
        self.history = history
        self.layout = layout
        contents = .values(values)
    }

    /// - Parameter pages: shared with whoever else has them.
    init(
        modelDigest: String, history: TokenHistory, pages: [KeyValuePage],
        _ shape: AttentionMemoryShape
    ) {
        self.modelDigest = modelDigest
        self.history = history
        layout = .keysAndValues
        contents = .pages(pages, shape)
    }

    /// The numbers, in the order of `layout`.
    package var values: [Float] {
        switch contents {
        case .values(let values): values
        case .pages(let pages, let shape): shape.values(pages, tokens: history.count)
        }
    }

    /// How many numbers there are.
    package var valueCount: Int {
        switch contents {
        case .values(let values): values.count
        case .pages(_, let shape): history.count * shape.floatsPerToken
        }
    }

    /// Gives the bytes of `values` in parts, those of attention a token's at a time, so that they are never all there once more.
    func withValues(_ body: (UnsafeRawBufferPointer) -> Void) {
        switch contents {
        case .values(let values): values.withUnsafeBytes(body)
        case .pages(let pages, let shape):
            var values: [Float] = []
            for token in 0..<history.count {
                values.removeAll(keepingCapacity: true)
                shape.append(token, of: pages, to: &values)
                values.withUnsafeBytes(body)
            }
        }
    }

    /// How many tokens have been read.
    package var tokens: Int { history.count }

    /// Bytes of memory; pages that others share count in full.
    package var byteCount: Int {
        switch contents {
        case .values(let values): values.count * 4
        case .pages(let pages, let shape): pages.count * shape.floatsPerPage * 4
        }
    }

    /// The pages that other snapshots may share, and the bytes of each; none of a state that is a block of its own.
    package var sharedPages: (ids: [ObjectIdentifier], bytes: Int) {
        switch contents {
        case .values: ([], 0)
        case .pages(let pages, let shape):
            (pages.map(ObjectIdentifier.init), shape.floatsPerPage * 4)
        }
    }

    /// The pages that hold it, or new ones.
    func pages(_ shape: AttentionMemoryShape) throws(ModelError) -> [KeyValuePage] {
        switch contents {
        case .pages(let pages, _): return pages
        case .values(let values):
            precondition(
                layout == .keysAndValues && values.count == tokens * shape.floatsPerToken,
                "a state of another layout")
            return try shape.pages(values)
        }
    }
}
