// SPDX-License-Identifier: Apache-2.0

/// Unicode scalars in UTF-8 that is known to be well formed.
enum UTF8Scalars {
    /// The scalar at `at`, which moves behind it.
    @inline(__always)
    static func next(_ text: UnsafeBufferPointer<UInt8>, _ at: inout Int) -> UInt32 {
        let lead = UInt32(text[at])
        if lead < 0x80 {
            at += 1
            return lead
        }
        let count = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4
        var scalar = lead & (0x7F >> UInt32(count))
        for index in at + 1..<at + count { scalar = scalar << 6 | UInt32(text[index] & 0x3F) }
        at += count
        return scalar
    }

    /// The scalar that `piece` is, if it is just one.
    static func only(_ piece: ArraySlice<UInt8>) -> UInt32? {
        guard (1...4).contains(piece.count) else { return nil }
        return piece.withUnsafeBufferPointer { text in
            var at = 0
            let scalar = next(text, &at)
            return at == text.count ? scalar : nil
        }
    }
}
