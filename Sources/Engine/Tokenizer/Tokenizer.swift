// SPDX-License-Identifier: Apache-2.0

package import Grammar
package import ModelStore
internal import Synchronization

// SentencePiece-style byte-pair encoding as Llama's tokenizers do it: a prompt is one long word. Spaces become "▁", one is
// put before the text, every Unicode scalar is a symbol, and of all neighbouring pairs the one of lowest rank merges, leftmost
// on ties, until none is left. Scalars without a piece are their UTF-8 bytes. Equal to Hugging Face `tokenizers` with tables
// from tokenizer.json and to SentencePiece with tables from tokenizer.model: dev/tokenizer-oracle compares them.

/// A model's vocabulary: text to token ids and back, of the kind above or a byte-level one. Immutable and shared.
package final class Tokenizer: Sendable {
    let tables: Vocabulary
    /// What a byte-level tokenizer works with; nil for one of the kind above.
    let byteLevel: ByteLevelTables?
    let merges: MergeTable
    let symbols: TokenizerSymbols
    /// The tokens `<0x00>` to `<0xFF>`; `MergeWord.none` where the vocabulary has none.
    let byteTokens: [UInt32]
    /// Each byte token's byte; −1 for all others.
    let byteValues: [Int16]
    /// Control tokens and the unknown token: text names them only if the caller says so.
    let specials: TokenizerTrie
    /// User-defined tokens that are found in any text, before anything else happens to it.
    let userDefined: TokenizerTrie
    /// Those that are found once spaces are "▁": all of a tokenizer.model's, and `Vocabulary.normalized`.
    let inlined: TokenizerTrie
    /// No merge joins a "▁" to something else before it, so that words can be merged one by one. True of all tokenizers trained
    /// the usual way; it keeps the heap small.
    let splitsAtSpaces: Bool

    /// The vocabulary as constraints need it, once one has asked for it.
    private let trieMade = Mutex<Result<TokenTrie, GrammarError>?>(nil)

    /// The vocabulary by its tokens' bytes, made when it is first asked for (some 20 ms for 32,000 tokens).
    ///
    /// - Throws: where the vocabulary cannot write every text.
    package func trie() throws(GrammarError) -> TokenTrie {
        try trieMade.withLock { made in
            let result =
                made
                ?? Result { () throws(GrammarError) in
                    try TokenTrie(count: tables.count, endTokens: tables.endTokens) {
                        bytes(of: $0)
                    }
                }
            made = result
            return result
        }.get()
    }

    static let space: UInt32 = 0x2581
    static let spaceBytes: [UInt8] = [0xE2, 0x96, 0x81]

    /// What a text that is this piece becomes before it is cut up.
    private static func normalized(_ piece: ArraySlice<UInt8>, _ tables: Vocabulary) -> [UInt8] {
        let prefix = tables.addsSpacePrefix && !tables.prefixesOnlyIfMissing ? spaceBytes : []
        return prefix + piece.flatMap { $0 == 0x20 ? spaceBytes : [$0] }
    }

    /// The tokenizer of a packed file; `nil` when it carries none and serves token ids only.
    package convenience init?(file: PackedFile, vocabulary size: Int) throws(ModelError) {
        let vocabulary: Vocabulary?
        do { vocabulary = try Vocabulary(file.metadata, size: size) } catch {
            throw .badTokenizer("\(error)")
        }
        guard let vocabulary else { return nil }
        try self.init(vocabulary)
    }

    package init(_ tables: Vocabulary) throws(ModelError) {
        do { try tables.check() } catch { throw .badTokenizer("\(error)") }
        self.tables = tables
        byteLevel = try tables.byteLevel.map { kind throws(ModelError) in
            try ByteLevelTables(tables, kind)
        }
        merges = MergeTable(tables.merges)
        var single: [(scalar: UInt32, id: UInt32)] = []
        var byteTokens = [UInt32](repeating: MergeWord.none, count: 256)
        var byteValues = [Int16](repeating: -1, count: tables.count)
        var specials = TokenizerTrie()
        var (userDefined, inlined) = (TokenizerTrie(), TokenizerTrie())
        let normalized = Set(tables.normalized)
        for id in 0..<tables.count {
            let piece = tables.piece(id)
            switch tables.kinds[id] {
            case .byte:
                guard let byte = Self.byte(named: piece) else {
                    throw .badTokenizer("byte token \(id) is not called <0x00> to <0xFF>")
                }
                if byteTokens[Int(byte)] == MergeWord.none { byteTokens[Int(byte)] = UInt32(id) }
                byteValues[id] = Int16(byte)
            case .normal:
                if let scalar = UTF8Scalars.only(piece) { single.append((scalar, UInt32(id))) }
            case .userDefined where tables.byteLevel != nil: userDefined.insert(piece, UInt32(id))
            case .userDefined where tables.source == .sentencePiece:
                inlined.insert(piece, UInt32(id))
            case .userDefined where normalized.contains(UInt32(id)):
                inlined.insert(Self.normalized(piece, tables), UInt32(id))
            case .userDefined: userDefined.insert(piece, UInt32(id))
            case .control, .unknown: specials.insert(piece, UInt32(id))
            case .unused: break
            }
        }
        symbols = TokenizerSymbols(single)
        self.byteTokens = byteTokens
        self.byteValues = byteValues
        self.specials = specials
        self.userDefined = userDefined
        self.inlined = inlined
        let space = Self.spaceBytes
        splitsAtSpaces =
            symbols[Self.space] != MergeWord.none
            && !tables.merges.contains {
                tables.piece(Int($0.right)).starts(with: space)
                    && !tables.piece(Int($0.left)).suffix(3).elementsEqual(space)
            }
    }

    package var vocabularySize: Int { tables.count }
    package var bos: UInt32? { tables.bos }
    /// Each of these ends an answer.
    package var endTokens: [UInt32] { tables.endTokens }
    package func isEnd(_ id: UInt32) -> Bool { tables.endTokens.contains(id) }
    /// Whether the checkpoint's own tokenizer puts `bos` before a prompt.
    package var addsBOS: Bool { tables.addsBOS }

    /// The token that the checkpoint's own tokenizer puts behind every text.
    package var suffix: UInt32? { tables.suffix }

    /// Whether the token stands for no text: control, unknown and unused tokens, and ids that are no token at all.
    package func isSpecial(_ id: UInt32) -> Bool {
        guard id < UInt32(tables.count) else { return true }
        switch tables.kinds[Int(id)] {
        case .control, .unknown, .unused: return true
        case .normal, .userDefined, .byte: return false
        }
    }

    /// The piece as it stands in the vocabulary: "▁the", "<0x0A>", "<s>". Empty for an id that is no token.
    package func piece(_ id: UInt32) -> String {
        guard id < UInt32(tables.count) else { return "" }
        return String(decoding: tables.piece(Int(id)), as: UTF8.self)
    }

    /// The length of `piece`, UTF-8 bytes.
    package func pieceLength(_ id: UInt32) -> Int {
        id < UInt32(tables.count) ? tables.piece(Int(id)).count : 0
    }

    /// The byte that a piece like "<0x0A>" names.
    private static func byte(named piece: ArraySlice<UInt8>) -> UInt8? {
        guard piece.count == 6, piece.starts(with: "<0x".utf8), piece.last == UInt8(ascii: ">")
        else { return nil }
        var value: UInt8 = 0
        for digit in piece.dropFirst(3).dropLast() {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | (digit - 0x30)
            case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 | (digit - 0x41 + 10)
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | (digit - 0x61 + 10)
            default: return nil
            }
        }
        return value
    }
}
