// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore

/// The recurrent states of all slots: [slots][layers][inner] float32, zero at first.
///
/// The model is recurrent, so this block is a conversation's whole memory.
package struct StatePool: ~Copyable {
    package let slots: Int
    /// Floats in one slot's state: layers × inner.
    package let stateCount: Int
    private let modelDigest: String
    private let inner: Int
    private let allocation: UnsafeMutableRawPointer
    private let base: UnsafeMutablePointer<Float>
    /// Slots start on cache lines of their own.
    private let stride: Int

    /// - Throws: `noMemory`.
    package init(slots: Int, model: Model) throws(ModelError) {
        precondition(slots > 0)
        let shape = model.shape
        self.slots = slots
        modelDigest = model.digest
        inner = shape.inner
        stateCount = shape.stateCount
        stride = (stateCount + 15) / 16 * 16
        let count = slots * stride
        // Zeros that take no memory before they are written: of a large pool few slots may ever be used.
        guard let memory = calloc(count * 4 + 64, 1) else {
            throw .noMemory(count * 4, "\(slots) recurrent states of \(stateCount * 4) bytes")
        }
        allocation = memory
        let misalignment = Int(bitPattern: memory) % 64
        base = (memory + (64 - misalignment) % 64).bindMemory(to: Float.self, capacity: count)
    }

    deinit { free(allocation) }

    /// One layer's state of one slot: [inner].
    func layer(_ layer: Int, of slot: Int) -> UnsafeMutablePointer<Float> {
        base + slot * stride + layer * inner
    }

    private func state(_ slot: Int) -> UnsafeMutablePointer<Float> {
        precondition(slot >= 0 && slot < slots, "no such slot")
        return base + slot * stride
    }

    /// Forgets everything the slot has read.
    package func reset(_ slot: Int) {
        state(slot).update(repeating: 0, count: stateCount)
    }

    /// The slot's state as values: [layers × inner].
    package func values(_ slot: Int) -> [Float] {
        Array(UnsafeBufferPointer(start: state(slot), count: stateCount))
    }

    /// The slot's state, which the tokens of `history` have made.
    package func save(_ slot: Int, history: TokenHistory) -> StateSnapshot {
        StateSnapshot(modelDigest: modelDigest, history: history, values: values(slot))
    }

    /// Puts back what `save` gave, into this or another pool of the same model.
    package func restore(_ slot: Int, _ snapshot: StateSnapshot) {
        precondition(
            snapshot.modelDigest == modelDigest && snapshot.values.count == stateCount
                && snapshot.layoutVersion == StateSnapshot.layoutVersion,
            "a state of another model or layout")
        snapshot.values.withUnsafeBufferPointer {
            state(slot).update(from: $0.baseAddress!, count: stateCount)
        }
    }
}
