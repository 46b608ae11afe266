// SPDX-License-Identifier: Apache-2.0

import ModelStore

extension Tokenizer {
    /// The text of `ids` as a whole. Bytes that are not UTF-8 become U+FFFD, one for each maximal ill-formed part.
    ///
    /// - Parameters:
    ///   - skipSpecial: leave special tokens out; otherwise their names stand in the text.
    ///   - continuing: the text goes on from something before it, so a leading space counts.
    package func decode(
        _ ids: some Sequence<UInt32>, skipSpecial: Bool = true, continuing: Bool = false
    ) -> String {
        var bytes: [UInt8] = []
        for id in ids { appendText(of: id, skipSpecial: skipSpecial, to: &bytes) }
        let dropsSpace = !continuing && tables.addsSpacePrefix && bytes.first == 0x20
        return String(decoding: dropsSpace ? bytes[1...] : bytes[...], as: UTF8.self)
    }

    /// The bytes of text a token stands for, its "▁" as spaces; empty for special tokens and ids that are no token.
    package func bytes(of id: UInt32) -> [UInt8] {
        var bytes: [UInt8] = []
        appendText(of: id, skipSpecial: true, to: &bytes)
        return bytes
    }

    func appendText(of id: UInt32, skipSpecial: Bool, to out: inout [UInt8]) {
        guard id < UInt32(tables.count), !(skipSpecial && isSpecial(id)) else { return }
        if byteLevel != nil {
            ByteLetters.append(tables.piece(Int(id)), to: &out)
            return
        }
        let byte = byteValues[Int(id)]
        if byte >= 0 { return out.append(UInt8(byte)) }
        let piece = tables.piece(Int(id))
        var at = piece.startIndex
        while at < piece.endIndex {
            // "▁" is E2 96 81.
            if piece[at] == 0xE2, at + 2 < piece.endIndex, piece[at + 1] == 0x96,
                piece[at + 2] == 0x81
            {
                out.append(0x20)
                at += 3
            } else {
                out.append(piece[at])
                at += 1
            }
        }
    }
}
