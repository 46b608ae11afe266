// SPDX-License-Identifier: Apache-2.0

extension UnsafeBufferPointer<Float> {
    /// Whether there is neither a NaN nor an infinity: the largest of the magnitudes' bits, which the compiler vectorises.
    package var isFinite: Bool {
        var highest: UInt32 = 0
        for value in self { highest = Swift.max(highest, value.bitPattern & 0x7fff_ffff) }
        return highest < Float.infinity.bitPattern
    }
}
