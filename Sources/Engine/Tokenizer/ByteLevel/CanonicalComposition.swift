// SPDX-License-Identifier: Apache-2.0

/// Normalisation form C as the `tokenizers` library computes it: by Unicode 9, so that younger marks are neither reordered nor
/// composed. Linear in the text but for the sorting of marks that follow each other.
struct CanonicalComposition: Sendable {
    static let shared = CanonicalComposition()

    /// Decompositions of one step, by scalar: the second part is 0 where there is one.
    private var parts: [UInt32: (UInt32, UInt32)] = [:]
    private var composites: [UInt64: UInt32] = [:]

    private init() {
        for var word in UnicodeWords(UnicodeTables.decompositions) {
            let scalar = word.number()
            let composes = word.skip("=")
            if !composes { _ = word.skip("~") }
            let first = word.number()
            let second = word.skip("+") ? word.number() : 0
            parts[scalar] = (first, second)
            if composes { composites[UInt64(first) << 32 | UInt64(second)] = scalar }
        }
    }

    /// Whether nothing can change: no scalar before U+0300 does.
    static func isSimple(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
        text.allSatisfy { $0 < 0xCC }
    }

    /// The text composed, UTF-8.
    func composed(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        var scalars: [UInt32] = []
        scalars.reserveCapacity(text.count)
        var at = 0
        while at < text.count { decompose(UTF8Scalars.next(text, &at), to: &scalars) }
        var classes = scalars.map { $0 < 0x300 ? 0 : UnicodeRanges.combining.value($0) }
        order(&scalars, &classes)
        compose(&scalars, classes)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        for scalar in scalars {
            bytes += UTF8.encode(Unicode.Scalar(scalar) ?? "\u{FFFD}") ?? .init()
        }
        return bytes
    }

    private func decompose(_ scalar: UInt32, to out: inout [UInt32]) {
        let syllable = scalar &- Hangul.syllables
        if syllable < Hangul.syllableCount {
            out.append(Hangul.leads + syllable / (Hangul.vowelCount * Hangul.tailCount))
            out.append(
                Hangul.vowels + syllable / Hangul.tailCount % Hangul.vowelCount)
            if syllable % Hangul.tailCount > 0 {
                out.append(Hangul.tails + syllable % Hangul.tailCount)
            }
        } else if scalar >= 0xC0, let (first, second) = parts[scalar] {
            decompose(first, to: &out)
            if second != 0 { decompose(second, to: &out) }
        } else {
            out.append(scalar)
        }
    }

    /// Sorts marks that follow each other by their classes; those of one class keep their order.
    private func order(_ scalars: inout [UInt32], _ classes: inout [UInt8]) {
        var begin = 0
        while begin < scalars.count {
            var end = begin
            var isSorted = true
            while end < scalars.count, classes[end] != 0 {
                if end > begin, classes[end] < classes[end - 1] { isSorted = false }
                end += 1
            }
            if !isSorted {
                let keys = (begin..<end).map { UInt64(classes[$0]) << 32 | UInt64($0) }.sorted()
                let sorted = keys.map { scalars[Int($0 & 0xFFFF_FFFF)] }
                for (offset, key) in keys.enumerated() {
                    scalars[begin + offset] = sorted[offset]
                    classes[begin + offset] = UInt8(truncatingIfNeeded: key >> 32)
                }
            }
            begin = end + 1
        }
    }

    /// Joins each scalar to the last starter before it, unless one between them has its class or a higher one.
    private func compose(_ scalars: inout [UInt32], _ classes: [UInt8]) {
        var starter: Int?
        var (written, lastClass) = (0, UInt8(0))
        for index in scalars.indices {
            let (scalar, own) = (scalars[index], classes[index])
            if let place = starter, written == place + 1 || lastClass != 0 && lastClass < own,
                let whole = composite(scalars[place], scalar)
            {
                scalars[place] = whole
                continue
            }
            if own == 0 { starter = written }
            lastClass = own
            scalars[written] = scalar
            written += 1
        }
        scalars.removeLast(scalars.count - written)
    }

    private func composite(_ first: UInt32, _ second: UInt32) -> UInt32? {
        let (lead, vowel) = (first &- Hangul.leads, second &- Hangul.vowels)
        if lead < Hangul.leadCount, vowel < Hangul.vowelCount {
            return Hangul.syllables + (lead * Hangul.vowelCount + vowel) * Hangul.tailCount
        }
        let (syllable, tail) = (first &- Hangul.syllables, second &- Hangul.tails)
        if syllable < Hangul.syllableCount, syllable % Hangul.tailCount == 0, tail > 0,
            tail < Hangul.tailCount
        {
            return first + tail
        }
        return composites[UInt64(first) << 32 | UInt64(second)]
    }

    /// Unicode 3.12: syllables are computed, not listed.
    private enum Hangul {
        static let (syllables, leads, vowels, tails) =
            (UInt32(0xAC00), UInt32(0x1100), UInt32(0x1161), UInt32(0x11A7))
        static let (leadCount, vowelCount, tailCount) = (UInt32(19), UInt32(21), UInt32(28))
        static let syllableCount = leadCount * vowelCount * tailCount
    }
}
