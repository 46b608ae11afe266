// SPDX-License-Identifier: Apache-2.0
//
// SentencePiece-style byte-pair encoding as Llama's tokenizers do it: a prompt is one long word. Spaces become "▁", one is
// put before the text, every Unicode scalar is a symbol, and the neighbouring pair of lowest rank merges, leftmost on ties,
// until none is left; scalars without a piece become their UTF-8 bytes. Equal to Hugging Face `tokenizers` for tables from
// tokenizer.json, and to SentencePiece for tables from tokenizer.model.

package import ModelStore

/// A model's vocabulary: text to token ids and back.
package final class Tokenizer: Sendable {
    let tables: TokenizerTables
    private let merges: MergeTable
    /// Pieces of one Unicode scalar.
    private let symbols: [Unicode.Scalar: UInt32]
    /// `<0x00>` … `<0xFF>`, where the vocabulary has them.
    private let byteTokens: [UInt32?]
    /// Each byte token's byte; 256 for all other tokens.
    private let byteValues: [UInt16]
    /// Control and user-defined tokens, longest text first: what `parseSpecial` finds in text.
    private let specials: [(text: [UInt8], id: UInt32)]

    /// - Returns: `nil` when the file carries no vocabulary.
    package convenience init?(file: PackedFile) throws(ModelError) {
        let vocabulary = try ModelShape(file.metadata).vocabulary
        guard let tables = try TokenizerTables(file.metadata, vocabulary: vocabulary) else {
            return nil
        }
        self.init(tables)
    }

    init(_ tables: TokenizerTables) {
        self.tables = tables
        merges = MergeTable(tables.merges)
        var symbols: [Unicode.Scalar: UInt32] = [:]
        var byteTokens = [UInt32?](repeating: nil, count: 256)
        var byteValues = [UInt16](repeating: 256, count: tables.count)
        var specials: [(text: [UInt8], id: UInt32)] = []
        for id in 0..<tables.count {
            let piece = tables.bytes[tables.range(id)]
            switch tables.kinds[id] {
            case .byte:
                guard let byte = Self.byte(of: piece) else { continue }
                if byteTokens[Int(byte)] == nil { byteTokens[Int(byte)] = UInt32(id) }
                byteValues[id] = UInt16(byte)
            case .normal, .userDefined:
                if let scalar = Self.onlyScalar(piece), symbols[scalar] == nil {
                    symbols[scalar] = UInt32(id)
                }
                if tables.kinds[id] == .userDefined { specials.append((Array(piece), UInt32(id))) }
            case .control, .unknown:
                if !piece.isEmpty { specials.append((Array(piece), UInt32(id))) }
            case .unused: break
            }
        }
        self.symbols = symbols
        self.byteTokens = byteTokens
        self.byteValues = byteValues
        self.specials = specials.sorted { $0.text.count > $1.text.count }
    }

    package var vocabularySize: Int { tables.count }
    package var bos: UInt32? { tables.bos }
    package var eos: UInt32? { tables.eos }
    /// Whether the checkpoint's own tokenizer puts `bos` before a prompt.
    package var addsBOS: Bool { tables.addsBOS }

    /// Whether the token stands for no text: control, unknown and unused tokens.
    package func isSpecial(_ id: UInt32) -> Bool {
        switch tables.kinds[Int(id)] {
        case .control, .unknown, .unused: true
        case .normal, .userDefined, .byte: false
        }
    }

    /// The piece as it stands in the vocabulary: "▁the", "<0x0A>", "<s>".
    package func piece(_ id: UInt32) -> String {
        String(decoding: tables.bytes[tables.range(Int(id))], as: UTF8.self)
    }

    // MARK: Text to tokens

    /// - Parameters:
    ///   - addBOS: put the beginning-of-text token first, where there is one.
    ///   - parseSpecial: take "<s>" and the like in the text for the tokens they name. Leave it off for text from outside.
    package func encode(_ text: String, addBOS: Bool, parseSpecial: Bool = false) -> [UInt32] {
        var ids: [UInt32] = []
        if addBOS, let bos { ids.append(bos) }
        guard parseSpecial else {
            encode(text.unicodeScalars, prefixed: tables.addsSpacePrefix, into: &ids)
            return ids
        }
        let bytes = Array(text.utf8)
        var begin = 0
        var at = 0
        while at < bytes.count {
            guard let special = special(bytes, at) else {
                at += 1
                continue
            }
            encodeBetween(bytes[begin..<at], into: &ids)
            ids.append(special.id)
            at += special.text.count
            begin = at
        }
        encodeBetween(bytes[begin...], into: &ids)
        return ids
    }

    private func special(_ bytes: [UInt8], _ at: Int) -> (text: [UInt8], id: UInt32)? {
        specials.first { bytes.count - at >= $0.text.count && bytes[at...].starts(with: $0.text) }
    }

    /// Text between special tokens: normalised by itself, so each piece of it gets its own leading space.
    private func encodeBetween(_ bytes: ArraySlice<UInt8>, into ids: inout [UInt32]) {
        guard !bytes.isEmpty else { return }
        encode(
            String(decoding: bytes, as: UTF8.self).unicodeScalars, prefixed: tables.addsSpacePrefix,
            into: &ids)
    }

    private func encode(
        _ text: String.UnicodeScalarView, prefixed: Bool, into ids: inout [UInt32]
    ) {
        guard !text.isEmpty else { return }
        let space: Unicode.Scalar = "\u{2581}"
        var word = MergeWord()
        if prefixed { word.append(symbols[space] ?? MergeWord.none, space) }
        for scalar in text {
            let scalar = scalar == " " ? space : scalar
            word.append(symbols[scalar] ?? MergeWord.none, scalar)
        }
        word.merge(with: merges)
        word.forEach { id, scalar in
            if id != MergeWord.none { return ids.append(id) }
            appendBytes(of: scalar, to: &ids)
        }
    }

    /// A scalar no piece has: its UTF-8 bytes if the vocabulary has them all, else the unknown token.
    private func appendBytes(of scalar: Unicode.Scalar, to ids: inout [UInt32]) {
        let tokens = UTF8.encode(scalar)!.map { byteTokens[Int($0)] }
        if tokens.contains(nil) {
            if let unknown = tables.unknown { ids.append(unknown) }
        } else {
            ids += tokens.compactMap { $0 }
        }
    }

    // MARK: Tokens to text

    /// The text of `ids` as a whole. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// - Parameters:
    ///   - skipSpecial: leave control tokens out; otherwise their names stand in the text.
    ///   - continuing: the text goes on from something before it, so its leading space is kept.
    package func decode(
        _ ids: some Sequence<UInt32>, skipSpecial: Bool = true, continuing: Bool = false
    ) -> String {
        var detokenizer = Detokenizer(self, continuing: continuing, skipSpecial: skipSpecial)
        var text = ""
        for id in ids { text += detokenizer.append(id) }
        return text + detokenizer.finish()
    }

    /// Appends the token's bytes of text to `out`.
    func appendText(of id: UInt32, skipSpecial: Bool, to out: inout [UInt8]) {
        guard Int(id) < tables.count, !(skipSpecial && isSpecial(id)) else { return }
        if byteValues[Int(id)] < 256 { return out.append(UInt8(byteValues[Int(id)])) }
        let piece = tables.range(Int(id))
        var at = piece.lowerBound
        while at < piece.upperBound {
            // "▁" is E2 96 81.
            if tables.bytes[at] == 0xE2, at + 2 < piece.upperBound, tables.bytes[at + 1] == 0x96,
                tables.bytes[at + 2] == 0x81
            {
                out.append(0x20)
                at += 3
            } else {
                out.append(tables.bytes[at])
                at += 1
            }
        }
    }

    /// The bytes of text a token stands for; empty for control tokens.
    package func bytes(of id: UInt32) -> [UInt8] {
        var bytes: [UInt8] = []
        appendText(of: id, skipSpecial: true, to: &bytes)
        return bytes
    }

    // MARK: Pieces

    /// The byte a piece like "<0x0A>" names.
    private static func byte(of piece: ArraySlice<UInt8>) -> UInt8? {
        guard piece.count == 6, piece.starts(with: "<0x".utf8), piece.last == UInt8(ascii: ">")
        else {
            return nil
        }
        return UInt8(String(decoding: piece.dropFirst(3).dropLast(), as: UTF8.self), radix: 16)
    }

    private static func onlyScalar(_ piece: ArraySlice<UInt8>) -> Unicode.Scalar? {
        guard (1...4).contains(piece.count) else { return nil }
        let scalars = String(decoding: piece, as: UTF8.self).unicodeScalars
        guard let first = scalars.first, scalars.count == 1, UTF8.width(first) == piece.count else {
            return nil
        }
        return first
    }
}
