// SPDX-License-Identifier: Apache-2.0

/// The checksum of saved states and session records (docs/format.md), of bytes that come in any parts: four lanes over 64-bit words,
/// little-endian. All bytes together are a multiple of eight.
package struct StateChecksum: Sendable {
    private var lanes: (UInt64, UInt64, UInt64, UInt64) = (1, 2, 3, 4)
    /// Bytes that make no four words yet: the first `count % 32`.
    private var waiting: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    private var count = 0

    package init() {}

    package mutating func add(_ bytes: UnsafeRawBufferPointer) {
        var bytes = bytes
        let held = count % 32
        count += bytes.count
        if held > 0 {
            let wanted = min(32 - held, bytes.count)
            hold(UnsafeRawBufferPointer(rebasing: bytes[..<wanted]), at: held)
            guard held + wanted == 32 else { return }
            mix(waiting)
            bytes = UnsafeRawBufferPointer(rebasing: bytes[wanted...])
        }
        // In a variable of its own: the compiler keeps no member in registers.
        var four = lanes
        let whole = bytes.count / 32
        for index in 0..<whole {
            func word(_ lane: Int) -> UInt64 {
                UInt64(
                    littleEndian: bytes.loadUnaligned(
                        fromByteOffset: index * 32 + lane * 8, as: UInt64.self))
            }
            four.0 = Self.mix(four.0, word(0))
            four.1 = Self.mix(four.1, word(1))
            four.2 = Self.mix(four.2, word(2))
            four.3 = Self.mix(four.3, word(3))
        }
        lanes = four
        hold(UnsafeRawBufferPointer(rebasing: bytes[(whole * 32)...]), at: 0)
    }

    package mutating func add(_ bytes: some Collection<UInt8>) {
        let isDone: Void? = bytes.withContiguousStorageIfAvailable {
            add(UnsafeRawBufferPointer($0))
        }
        if isDone == nil { Array(bytes).withUnsafeBytes { add($0) } }
    }

    /// Of all bytes so far.
    package var value: UInt64 {
        var first = lanes.0
        let words = [waiting.0, waiting.1, waiting.2]
        for word in words.prefix(count % 32 / 8) {
            first = Self.mix(first, UInt64(littleEndian: word))
        }
        var sum = UInt64(count)
        for lane in [first, lanes.1, lanes.2, lanes.3] { sum = Self.mix(sum, lane) }
        return sum ^ sum >> 29
    }

    private mutating func hold(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        withUnsafeMutableBytes(of: &waiting) {
            UnsafeMutableRawBufferPointer(rebasing: $0[offset...]).copyMemory(from: bytes)
        }
    }

    private mutating func mix(_ words: (UInt64, UInt64, UInt64, UInt64)) {
        lanes.0 = Self.mix(lanes.0, UInt64(littleEndian: words.0))
        lanes.1 = Self.mix(lanes.1, UInt64(littleEndian: words.1))
        lanes.2 = Self.mix(lanes.2, UInt64(littleEndian: words.2))
        lanes.3 = Self.mix(lanes.3, UInt64(littleEndian: words.3))
    }

    private static func mix(_ sum: UInt64, _ word: UInt64) -> UInt64 {
        let x = sum &+ word &* 0xC2B2_AE3D_27D4_EB4F
        return (x << 31 | x >> 33) &* 0x9E37_79B1_85EB_CA87
    }
}
