// SPDX-License-Identifier: Apache-2.0

import Glibc

/// The recurrent states of all slots: [slots][layers][inner] float32, zero at first. Such a block is a conversation's whole memory.
final class RecurrentStates {
    /// Floats in one slot's state: layers × inner.
    let stateCount: Int
    private let inner: Int
    private let allocation: UnsafeMutableRawPointer
    private let base: UnsafeMutablePointer<Float>
    /// Slots start on cache lines of their own.
    private let stride: Int

    /// - Throws: `noMemory`.
    init(slots: Int, layers: Int, inner: Int) throws(ModelError) {
        self.inner = inner
        stateCount = layers * inner
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

    func reset(_ slot: Int) { layer(0, of: slot).update(repeating: 0, count: stateCount) }

    func values(_ slot: Int) -> [Float] {
        Array(UnsafeBufferPointer(start: layer(0, of: slot), count: stateCount))
    }

    func restore(_ slot: Int, _ values: [Float]) {
        values.withUnsafeBufferPointer {
            layer(0, of: slot).update(from: $0.baseAddress!, count: stateCount)
        }
    }
}
