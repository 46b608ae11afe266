// SPDX-License-Identifier: Apache-2.0

/// Text compared byte by byte.
///
/// Swift's `String` calls canonically equivalent texts equal (U+212B and U+00C5, both tokens of real
/// vocabularies), so names and tokens are looked up by this instead.
package struct ByteString: Hashable, Sendable {
    package let bytes: [UInt8]

    package init(_ bytes: [UInt8]) { self.bytes = bytes }
    package init(_ text: String) { bytes = Array(text.utf8) }

    package static func + (left: ByteString, right: ByteString) -> ByteString {
        ByteString(left.bytes + right.bytes)
    }

    package static func == (left: ByteString, right: ByteString) -> Bool {
        left.bytes == right.bytes
    }

    package func hash(into hasher: inout Hasher) {
        bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}

extension String {
    /// Whether the two texts are the same bytes, which `==` does not say.
    package func isSame(as other: String) -> Bool { utf8.elementsEqual(other.utf8) }
}
