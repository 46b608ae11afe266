// SPDX-License-Identifier: Apache-2.0

import CKernels
package import ModelStore

/// How the numbers of a state lie; another order or type of them is another number.
package enum StateLayout: UInt32, Sendable, CaseIterable {
    /// [layers × inner] float32
    case recurrent = 1
    /// [tokens][layers][keys, values][key heads × width] float32; keys are rotated.
    case keysAndValues = 2
    /// The same in bfloat16.
    case halfKeysAndValues = 3

    package init(_ memory: SequenceMemory) {
        self = memory.keyValueType.map { Self($0) } ?? .recurrent
    }

    init(_ type: KeyValueType) {
        switch type {
        case .f32: self = .keysAndValues
        case .bf16: self = .halfKeysAndValues
        }
    }

    /// nil of a state without keys and values.
    package var keyValueType: KeyValueType? {
        switch self {
        case .recurrent: nil
        case .keysAndValues: .f32
        case .halfKeysAndValues: .bf16
        }
    }

    /// Of one number.
    package var byteCount: Int { (keyValueType ?? .f32).byteCount }

    /// Gives the bytes of numbers, in parts of at most 32 Ki where they are stored narrower than they are held.
    fileprivate func withBytes(
        _ values: ArraySlice<Float>, _ body: (UnsafeRawBufferPointer) -> Void
    ) {
        guard byteCount == 2 else { return values.withUnsafeBytes(body) }
        for start in stride(from: values.startIndex, to: values.endIndex, by: 1 << 14) {
            values[start..<min(start + 1 << 14, values.endIndex)].map { ck_bf16($0).littleEndian }
                .withUnsafeBytes(body)
        }
    }

    /// Puts bytes of the numbers where `widen` finds them: those that are narrower, at the end.
    ///
    /// - Parameters:
    ///   - place: bytes of the numbers before these.
    ///   - values: as many as there are numbers.
    package func put(_ bytes: UnsafeRawBufferPointer, at place: Int, in values: inout [Float]) {
        guard !bytes.isEmpty else { return }
        let start = values.count * (4 - byteCount) + place
        values.withUnsafeMutableBytes { values in
            UnsafeMutableRawBufferPointer(rebasing: values[start..<start + bytes.count])
                .copyMemory(from: bytes)
        }
    }

    /// Makes numbers of all bytes that were put.
    package func widen(_ values: inout [Float]) {
        guard byteCount == 2 else { return }
        // From the first on: what is written ends before what is still to be read.
        values.withUnsafeMutableBytes { bytes in
            for index in 0..<bytes.count / 4 {
                let bits = bytes.loadUnaligned(
                    fromByteOffset: bytes.count / 2 + index * 2, as: UInt16.self)
                bytes.storeBytes(
                    of: Float(bfloat16: UInt16(littleEndian: bits)), toByteOffset: index * 4,
                    as: Float.self)
            }
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

    /// - Parameter values: as `layout` has them; bfloat16 ones are such already, widened.
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
        layout = StateLayout(shape.type)
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
        case .pages(_, let shape): history.count * shape.numbersPerToken
        }
    }

    /// Gives the bytes of all numbers, those of pages a token's at a time, so that they are never all there once more.
    func withNumbers(_ body: (UnsafeRawBufferPointer) -> Void) {
        switch contents {
        case .values(let values): layout.withBytes(values[...], body)
        case .pages(let pages, let shape):
            var values: [Float] = []
            for token in 0..<history.count {
                values.removeAll(keepingCapacity: true)
                shape.append(token, of: pages, to: &values)
                layout.withBytes(values[...], body)
            }
        }
    }

    /// How many tokens have been read.
    package var tokens: Int { history.count }

    /// Bytes of memory; pages that others share count in full.
    package var byteCount: Int {
        switch contents {
        case .values(let values): values.count * 4
        case .pages(let pages, let shape): pages.count * shape.pageBytes
        }
    }

    /// The pages that other snapshots may share, and the bytes of each; none of a state that is a block of its own.
    package var sharedPages: (ids: [ObjectIdentifier], bytes: Int) {
        switch contents {
        case .values: ([], 0)
        case .pages(let pages, let shape):
            (pages.map(ObjectIdentifier.init), shape.pageBytes)
        }
    }

    /// The pages that hold it, or new ones.
    func pages(_ shape: AttentionMemoryShape) throws(ModelError) -> [KeyValuePage] {
        precondition(layout == StateLayout(shape.type), "a state of another layout")
        switch contents {
        case .pages(let pages, _): return pages
        case .values(let values):
            precondition(
                values.count == tokens * shape.numbersPerToken, "a state of another shape")
            return try shape.pages(values)
        }
    }
}
