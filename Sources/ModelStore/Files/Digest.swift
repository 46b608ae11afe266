// SPDX-License-Identifier: Apache-2.0

import Crypto

/// SHA-256 in lower-case hexadecimal.
package struct Digest {
    private var hash = SHA256()

    mutating func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bufferPointer: bytes) }

    func finish() -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(64)
        for byte in hash.finalize() {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    package static func of(_ bytes: UnsafeRawBufferPointer) -> String {
        var digest = Digest()
        digest.update(bytes)
        return digest.finish()
    }

    /// Sixty-four zeros: what stands for a digest that is not known yet.
    static let blank = String(repeating: "0", count: 64)

    /// The digest of a file's header, in which the 64 characters of that digest itself count as zeros.
    ///
    /// - Parameter slot: where those characters stand in `header`.
    static func ofHeader(_ header: UnsafeRawBufferPointer, slot: Range<Int>) -> String {
        var digest = Digest()
        digest.update(UnsafeRawBufferPointer(rebasing: header[..<slot.lowerBound]))
        Array(blank.utf8).withUnsafeBytes { digest.update($0) }
        digest.update(UnsafeRawBufferPointer(rebasing: header[slot.upperBound...]))
        return digest.finish()
    }
}
