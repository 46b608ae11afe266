// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// What a byte-level tokenizer looks up: the token of each byte, and of whole pieces.
struct ByteLevelTables: Sendable {
    let kind: Vocabulary.ByteLevel
    /// The tokens of the bytes 0 to 255.
    let byteTokens: [UInt32]
    /// Tokens by the bytes they stand for; only where a piece that is a token becomes it.
    private var wholes: [ByteString: UInt32] = [:]
    private var longest = 0

    init(_ tables: Vocabulary, _ kind: Vocabulary.ByteLevel) throws(ModelError) {
        self.kind = kind
        var byteTokens = [UInt32](repeating: MergeWord.none, count: 256)
        var bytes: [UInt8] = []
        for id in 0..<tables.count where tables.kinds[id] == .normal {
            bytes.removeAll(keepingCapacity: true)
            guard ByteLetters.append(tables.piece(id), to: &bytes) else { continue }
            if bytes.count == 1, byteTokens[Int(bytes[0])] == MergeWord.none {
                byteTokens[Int(bytes[0])] = UInt32(id)
            }
            guard kind == .llama3 else { continue }
            let text = ByteString(bytes)
            if wholes[text] == nil { wholes[text] = UInt32(id) }
            longest = max(longest, bytes.count)
        }
        if let byte = byteTokens.firstIndex(of: MergeWord.none) {
            throw .badTokenizer(
                "no token is the byte \(byte) (\"\(ByteLetters.letter(UInt8(byte)))\"); a byte-level vocabulary has one for each"
            )
        }
        self.byteTokens = byteTokens
    }

    /// The token that a whole piece becomes, if merges are not to be asked.
    func whole(_ piece: UnsafeBufferPointer<UInt8>) -> UInt32? {
        guard kind == .llama3, piece.count <= longest else { return nil }
        return wholes[ByteString(Array(piece))]
    }

    /// How many numbers a piece may have.
    var digits: Int { kind == .llama3 ? 3 : 1 }
}

extension Tokenizer {
    /// The tokens of a text: added tokens first, leftmost and longest, if they are looked for; what lies between them is
    /// normalised, cut into pieces, and merged piece by piece.
    ///
    /// Memory and time are those of the text: about 40 bytes for each byte of its longest piece, O(n log n).
    func encode(
        _ text: UnsafeBufferPointer<UInt8>, _ tables: ByteLevelTables, addBOS: Bool,
        parseSpecial: Bool
    ) -> [UInt32] {
        var encoding = ByteLevelEncoding(tables, merges)
        encoding.ids.reserveCapacity(text.count / 3 + 2)
        if addBOS, let bos { encoding.ids.append(bos) }
        var (begin, at) = (0, 0)
        while parseSpecial, at < text.count {
            let (special, other) = (
                specials.match(text, at: at), userDefined.match(text, at: at)
            )
            guard
                let found = (other?.count ?? 0) > (special?.count ?? 0) ? other : special
            else {
                at += 1
                continue
            }
            encoding.add(.init(rebasing: text[begin..<at]))
            encoding.ids.append(found.id)
            at += found.count
            begin = at
        }
        encoding.add(.init(rebasing: text[begin...]))
        return encoding.ids
    }
}

/// Tokens of one text as they are found.
private struct ByteLevelEncoding {
    private let tables: ByteLevelTables
    private let merges: MergeTable
    private var word = MergeWord()
    var ids: [UInt32] = []

    init(_ tables: ByteLevelTables, _ merges: MergeTable) {
        self.tables = tables
        self.merges = merges
    }

    /// Text without added tokens in it.
    mutating func add(_ text: UnsafeBufferPointer<UInt8>) {
        guard tables.kind == .qwen2, !CanonicalComposition.isSimple(text) else {
            return addNormal(text)
        }
        CanonicalComposition.shared.composed(text).withUnsafeBufferPointer { addNormal($0) }
    }

    private mutating func addNormal(_ text: UnsafeBufferPointer<UInt8>) {
        var splitter = PieceSplitter(text, digits: tables.digits)
        while let range = splitter.next() {
            let piece = UnsafeBufferPointer(rebasing: text[range])
            if let id = tables.whole(piece) {
                ids.append(id)
                continue
            }
            for byte in piece { word.append(tables.byteTokens[Int(byte)]) }
            word.finish(merges) { ids.append($0) }
        }
    }
}
