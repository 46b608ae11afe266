// SPDX-License-Identifier: Apache-2.0

/// The characters that byte-level vocabularies write bytes in: 33 to 126, 161 to 172 and 174 to 255 are themselves, the other 68
/// are U+0100 to U+0143 in rising order. "Ġ" is a space.
package enum ByteLetters {
    /// Each byte's scalar.
    private static let scalars: [UInt32] = {
        var next: UInt32 = 0x100
        return (0..<256).map { byte in
            switch byte {
            case 33...126, 161...172, 174...255: return UInt32(byte)
            default:
                defer { next += 1 }
                return next
            }
        }
    }()

    /// The byte of each scalar up to U+0143; −1 for those of no byte.
    private static let values: [Int16] = {
        var values = [Int16](repeating: -1, count: 0x144)
        for (byte, scalar) in scalars.enumerated() { values[Int(scalar)] = Int16(byte) }
        return values
    }()

    package static func letter(_ byte: UInt8) -> String {
        String(Unicode.Scalar(scalars[Int(byte)]) ?? "\u{FFFD}")
    }

    /// Adds the bytes that a piece stands for to `out`: as it reads, if it holds a character of no byte. Returns whether it was
    /// written in bytes.   piece: UTF-8.
    @discardableResult
    package static func append(_ piece: ArraySlice<UInt8>, to out: inout [UInt8]) -> Bool {
        let begin = out.count
        var at = piece.startIndex
        while at < piece.endIndex {
            var scalar = UInt32(piece[at])
            if scalar >= 0x80 {
                // Letters of bytes have two bytes of UTF-8 at most: C2 to C5.
                guard scalar < 0xC6, at + 1 < piece.endIndex else { break }
                scalar = (scalar & 0x1F) << 6 | UInt32(piece[at + 1] & 0x3F)
                at += 1
            }
            guard scalar < UInt32(values.count), values[Int(scalar)] >= 0 else { break }
            out.append(UInt8(truncatingIfNeeded: values[Int(scalar)]))
            at += 1
        }
        if at == piece.endIndex { return true }
        out.removeLast(out.count - begin)
        out += piece
        return false
    }
}
