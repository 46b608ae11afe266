// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// tokenizer.model: a SentencePiece model of the BPE kind with byte fallback.
///
/// Source of the field numbers and defaults: sentencepiece, src/sentencepiece_model.proto.
struct SentencePiece {
    private struct Piece {
        var text = ""
        var score: Float = 0
        var type: UInt64 = 1
    }

    private struct Options {
        // The defaults of the .proto file, which apply to absent fields.
        var modelType: UInt64 = 1
        var byteFallback = false
        var whitespaceSuffix = false
        var unknown = 0
        var bos = 1
        var eos = 2
        var padding = -1
        var addDummyPrefix = true
        var removeExtraSpaces = true
        var escapeSpaces = true
        var hasCharacterMap = false
        var decodesWithMap = false
    }

    private let file: String
    private var pieces: [Piece] = []
    private var options = Options()

    init(_ bytes: [UInt8], file: String) throws(PackError) {
        self.file = file
        do {
            try read(bytes[...])
        } catch {
            throw .malformed(file: file, what: error.what)
        }
    }

    // MARK: - Reading

    private mutating func read(_ bytes: ArraySlice<UInt8>) throws(WireReader.Broken) {
        var reader = WireReader(bytes)
        while let (field, value) = try reader.next() {
            guard case .bytes(let inner) = value else { continue }
            switch field {
            case 1: pieces.append(try piece(inner))
            case 2: try readTrainer(inner)
            case 3: try readNormalizer(inner)
            case 5: options.decodesWithMap = try hasMap(inner)
            default: break
            }
        }
    }

    private func piece(_ bytes: ArraySlice<UInt8>) throws(WireReader.Broken) -> Piece {
        var piece = Piece()
        var reader = WireReader(bytes)
        while let (field, value) = try reader.next() {
            switch (field, value) {
            case (1, .bytes(let text)):
                guard let text = String(validating: text, as: UTF8.self) else {
                    throw .init(what: "piece \(pieces.count) is not UTF-8")
                }
                piece.text = text
            case (2, .fixed32(let bits)):
                piece.score = Float(bitPattern: bits)
                guard piece.score.isFinite else {
                    throw .init(what: "piece \(pieces.count) has the score \(piece.score)")
                }
            case (3, .varint(let type)): piece.type = type
            default: break
            }
        }
        // The trainer's own limit is 16 characters; ours keeps cutting pieces up cheap.
        guard (1...Format.pieceLimit).contains(piece.text.utf8.count) else {
            throw .init(what: "piece \(pieces.count) is \(piece.text.utf8.count) bytes long")
        }
        return piece
    }

    private mutating func readTrainer(_ bytes: ArraySlice<UInt8>) throws(WireReader.Broken) {
        var reader = WireReader(bytes)
        while let (field, value) = try reader.next() {
            guard case .varint(let number) = value else { continue }
            let signed = Int(Int32(truncatingIfNeeded: number))
            switch field {
            case 3: options.modelType = number
            case 24: options.whitespaceSuffix = number != 0
            case 35: options.byteFallback = number != 0
            case 40: options.unknown = signed
            case 41: options.bos = signed
            case 42: options.eos = signed
            case 43: options.padding = signed
            default: break
            }
        }
    }

    private mutating func readNormalizer(_ bytes: ArraySlice<UInt8>) throws(WireReader.Broken) {
        var reader = WireReader(bytes)
        while let (field, value) = try reader.next() {
            switch (field, value) {
            case (2, .bytes(let map)): options.hasCharacterMap = !map.isEmpty
            case (3, .varint(let flag)): options.addDummyPrefix = flag != 0
            case (4, .varint(let flag)): options.removeExtraSpaces = flag != 0
            case (5, .varint(let flag)): options.escapeSpaces = flag != 0
            default: break
            }
        }
    }

    private func hasMap(_ bytes: ArraySlice<UInt8>) throws(WireReader.Broken) -> Bool {
        var reader = WireReader(bytes)
        while let (field, value) = try reader.next() {
            if field == 2, case .bytes(let map) = value, !map.isEmpty { return true }
        }
        return false
    }

    // MARK: - Converting

    func draft(limit: Int) throws(PackError) -> VocabularyDraft {
        try check()
        var vocabulary = Vocabulary(source: .sentencePiece)
        for (id, piece) in pieces.enumerated() {
            guard piece.type < 7, let kind = Vocabulary.Kind(rawValue: Int32(piece.type)),
                kind != .unused
            else {
                throw .unsupported(
                    file: file,
                    what: "piece \(id) \"\(piece.text.quoted)\" is of type \(piece.type) "
                        + "(\(piece.type == 5 ? "unused" : "unknown to us")), which is not done")
            }
            vocabulary.append(piece.text.utf8, kind, score: piece.score)
        }
        var draft = try VocabularyDraft(
            vocabulary, count: vocabulary.count, file: file, limit: limit)
        for byte in UInt8.min...UInt8.max {
            let name = Vocabulary.byteToken(byte)
            guard let id = draft.id(of: name), vocabulary.kinds[Int(id)] == .byte else {
                throw .malformed(
                    file: file, what: "byte_fallback is on, but there is no piece \(name)")
            }
        }
        draft.vocabulary.merges = merges(draft)
        func id(_ value: Int) -> UInt32? { pieces.indices.contains(value) ? UInt32(value) : nil }
        draft.vocabulary.unknown = id(options.unknown)
        draft.vocabulary.bos = id(options.bos)
        draft.vocabulary.eos = id(options.eos)
        draft.vocabulary.padding = id(options.padding)
        draft.vocabulary.addsSpacePrefix = options.addDummyPrefix
        return draft
    }

    private func check() throws(PackError) {
        func refuse(_ what: String) -> PackError { .unsupported(file: file, what: what) }
        guard !pieces.isEmpty else { throw .malformed(file: file, what: "it has no pieces") }
        guard options.modelType == 2 else {
            let names: [UInt64: String] = [1: "Unigram", 3: "word", 4: "character"]
            throw refuse(
                "it is a SentencePiece model of the \(names[options.modelType] ?? "unknown") "
                    + "kind; only BPE is read")
        }
        guard options.byteFallback else {
            throw refuse("byte_fallback is off; only BPE with byte fallback is read")
        }
        guard !options.hasCharacterMap, !options.decodesWithMap else {
            throw refuse("it normalises text by a character map; only \"identity\" is done")
        }
        guard !options.removeExtraSpaces else {
            throw refuse("it removes extra spaces (remove_extra_whitespaces), which is not done")
        }
        guard options.escapeSpaces, !options.whitespaceSuffix else {
            throw refuse(
                "it treats spaces in another way than \"▁\" in front of words, which is not done")
        }
    }

    /// Every way to put a piece together from two others, the piece with the highest score first;
    /// equal scores make equal ranks.
    private func merges(_ draft: VocabularyDraft) -> [Vocabulary.Merge] {
        let kinds = draft.vocabulary.kinds
        var ranks: [Float: UInt32] = [:]
        let scores = Set(pieces.map { $0.score + 0 }).sorted(by: >)  // -0 and 0 are one score
        for (rank, score) in scores.enumerated() { ranks[score] = UInt32(rank) }
        var merges: [Vocabulary.Merge] = []
        for (id, piece) in pieces.enumerated() where kinds[id] == .normal {
            let bytes = Array(piece.text.utf8)
            for cut in 1..<max(1, bytes.count) where bytes[cut] & 0xc0 != 0x80 {
                guard let left = draft.ids[ByteString(Array(bytes[..<cut]))],
                    let right = draft.ids[ByteString(Array(bytes[cut...]))],
                    kinds[Int(left)] == .normal, kinds[Int(right)] == .normal
                else { continue }
                merges.append(
                    .init(
                        left: left, right: right, result: UInt32(id),
                        rank: ranks[piece.score] ?? 0))
            }
        }
        return merges.sorted {
            ($0.rank, $0.result, $0.left, $0.right) < ($1.rank, $1.result, $1.left, $1.right)
        }
    }
}
