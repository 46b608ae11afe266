// SPDX-License-Identifier: Apache-2.0

/// A recurrent state as a value: all that a model remembers of the tokens it has read. Immutable and shared.
package final class StateSnapshot: Sendable {
    /// Of `values`; another order or type of the numbers is another version.
    package static let layoutVersion: UInt32 = 1

    /// The model's digest: the state means nothing to another.
    package let modelDigest: String
    package let layoutVersion: UInt32
    /// The tokens that have been read.
    package let history: TokenHistory
    /// [layers × inner] float32.
    package let values: [Float]
    /// Of everything above.
    package let checksum: UInt64

    /// - Parameter values: [layers × inner].
    package init(modelDigest: String, history: TokenHistory, values: [Float]) {
        self.modelDigest = modelDigest
        self.history = history
        self.values = values
        layoutVersion = Self.layoutVersion
        checksum = Self.checksum(modelDigest, layoutVersion, history, values)
    }

    /// How many tokens have been read.
    package var tokens: Int { history.count }

    /// Whether the contents are still those the checksum was made of.
    package var isIntact: Bool {
        checksum == Self.checksum(modelDigest, layoutVersion, history, values)
    }

    /// Bytes of `values`.
    package var byteCount: Int { values.count * MemoryLayout<Float>.size }

    /// Four 64-bit lanes of multiply and rotate (as in xxHash64), so that a state of 320 KiB takes some 40 microseconds.
    private static func checksum(
        _ digest: String, _ version: UInt32, _ history: TokenHistory, _ values: [Float]
    ) -> UInt64 {
        func mix(_ sum: UInt64, _ word: UInt64) -> UInt64 {
            let x = sum &+ word &* 0xC2B2_AE3D_27D4_EB4F
            return (x << 31 | x >> 33) &* 0x9E37_79B1_85EB_CA87
        }
        var lanes = (UInt64(1), UInt64(2), UInt64(3), UInt64(4))
        values.withUnsafeBufferPointer { values in
            var index = 0
            while index + 4 <= values.count {
                lanes.0 = mix(lanes.0, UInt64(values[index].bitPattern))
                lanes.1 = mix(lanes.1, UInt64(values[index + 1].bitPattern))
                lanes.2 = mix(lanes.2, UInt64(values[index + 2].bitPattern))
                lanes.3 = mix(lanes.3, UInt64(values[index + 3].bitPattern))
                index += 4
            }
            for value in values[index...] { lanes.0 = mix(lanes.0, UInt64(value.bitPattern)) }
        }
        var sum = UInt64(values.count)
        let words = [
            lanes.0, lanes.1, lanes.2, lanes.3, UInt64(version), UInt64(history.count),
            history.digest,
        ]
        for word in words { sum = mix(sum, word) }
        for byte in digest.utf8 { sum = mix(sum, UInt64(byte)) }
        return sum ^ sum >> 29
    }
}
