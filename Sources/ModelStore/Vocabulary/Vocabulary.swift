// SPDX-License-Identifier: Apache-2.0

/// A model's vocabulary as the packed file holds it: every piece, every merge, and what is done to text before. A BPE tokenizer
/// of the Llama kind, with byte fallback, or of a byte-level kind.
package struct Vocabulary: Sendable, Equatable {
    /// The numbers are GGUF's `tokenizer.ggml.token_type`, and SentencePiece's.
    package enum Kind: Int32, Sendable {
        case normal = 1
        case unknown, control, userDefined, unused, byte
    }

    /// Whose habits to follow where the two differ: around user-defined tokens.
    package enum Source: String, Sendable {
        case json = "tokenizer.json"
        case sentencePiece = "tokenizer.model"
    }

    /// What is done to a text before the merges of a byte-level tokenizer; GGUF's names (`tokenizer.ggml.pre`).
    package enum ByteLevel: String, Sendable, CaseIterable {
        /// Up to three numbers in a piece; a piece that is a token becomes it whatever the merges make of it.
        case llama3 = "llama-bpe"
        /// NFC first; a piece for each number; merges only.
        case qwen2
    }

    /// Where `left` and `right` stand side by side they may become `result`; the lowest rank goes first, leftmost on ties.
    package struct Merge: Sendable, Equatable {
        package var left, right, result, rank: UInt32

        package init(left: UInt32, right: UInt32, result: UInt32, rank: UInt32) {
            self.left = left
            self.right = right
            self.result = result
            self.rank = rank
        }
    }

    package var source = Source.json
    /// Nil: of the Llama kind. Else pieces are in `ByteLetters`, and no text has a space put in front.
    package var byteLevel: ByteLevel?
    /// Every piece's UTF-8, one after the other: no string for each of 32,000 pieces, and no comparison by canonical
    /// equivalence, which takes "é" and "e\u{301}" for the same.
    package private(set) var bytes: [UInt8] = []
    /// Where each piece ends in `bytes`: [vocabulary].
    package private(set) var ends: [Int] = []
    package var kinds: [Kind] = []
    /// What readers that know no merges order them by.
    package var scores: [Float] = []
    package var merges: [Merge] = []
    package var bos: UInt32?
    /// Each of these ends an answer; the first is the one to show.
    package var endTokens: [UInt32] = []
    package var unknown: UInt32?
    package var padding: UInt32?
    /// User-defined tokens that are looked for once spaces are "▁" and one is put in front, of the token as of the text:
    /// "<x>" is found as "▁<x>", after a space or at the beginning. Ascending.
    package var normalized: [UInt32] = []
    /// Whether the checkpoint's own tokenizer puts `bos` before a prompt.
    package var addsBOS = true
    /// The token that the checkpoint's own tokenizer puts behind every text, as embedding models want it.
    package var suffix: UInt32?
    /// Whether text that is not empty is taken as if a space stood before it.
    package var addsSpacePrefix = true
    /// No such space before a text that begins with one, nor after a special token (Hugging Face's "Metaspace", whose
    /// prepend_scheme is "first").
    package var prefixesOnlyIfMissing = false

    package init(source: Source = .json) { self.source = source }

    /// The first of `endTokens`; setting it leaves no other.
    package var eos: UInt32? {
        get { endTokens.first }
        set { endTokens = newValue.map { [$0] } ?? [] }
    }

    /// "▁", which stands for a space.
    package static let space = "\u{2581}"

    package var count: Int { ends.count }

    package mutating func append(
        _ piece: some Sequence<UInt8>, _ kind: Kind, score: Float = 0
    ) {
        bytes.append(contentsOf: piece)
        ends.append(bytes.count)
        kinds.append(kind)
        scores.append(score)
    }

    package mutating func reserve(pieces: Int) {
        ends.reserveCapacity(pieces)
        kinds.reserveCapacity(pieces)
        scores.reserveCapacity(pieces)
        bytes.reserveCapacity(pieces * 8)
    }

    /// The piece with this id, which must be below `count`.
    package func piece(_ id: Int) -> ArraySlice<UInt8> {
        bytes[(id == 0 ? 0 : ends[id - 1])..<ends[id]]
    }

    /// The same as text.
    package func text(_ id: Int) -> String { String(decoding: piece(id), as: UTF8.self) }

    /// All pieces as texts.
    package var tokens: [String] { (0..<count).map(text) }

    /// Whether the piece is looked for in raw text.
    package func isNamed(_ id: Int) -> Bool {
        switch kinds[id] {
        case .control, .unknown, .userDefined: true
        case .normal, .unused, .byte: false
        }
    }

    /// The token that stands for a byte, as "<0x0A>".
    package static func byteToken(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16, uppercase: true)
        return "<0x\(digits.count < 2 ? "0" : "")\(digits)>"
    }

    // MARK: Limits

    /// Refuses what a tokenizer could not work with, in words to follow the file's name.
    package func check() throws(StoreError) {
        guard count > 0, count <= Format.vocabularyLimit else {
            throw .malformed("it has \(count) pieces; it must have 1 to \(Format.vocabularyLimit)")
        }
        do {
            _ = try UTF8Span(validating: bytes.span)
        } catch {
            let at = error.byteOffsets.lowerBound
            throw .malformed("token \(ends.firstIndex { $0 > at } ?? count) is not UTF-8")
        }
        var named = 0
        for id in 0..<count {
            let piece = piece(id)
            if let first = piece.first, first & 0xC0 == 0x80 {
                throw .malformed("token \(id) begins inside a character")
            }
            guard piece.count <= Format.pieceLimit else {
                throw .malformed(
                    "token \(id) is \(piece.count) bytes long; at most \(Format.pieceLimit) are allowed"
                )
            }
            // What is looked for in raw text has a node of memory for each byte.
            if isNamed(id) { named += piece.count }
        }
        guard named <= Format.namedPiecesLimit else {
            throw .malformed(
                "its control, unknown and user-defined tokens are \(named) bytes together; at most "
                    + "\(Format.namedPiecesLimit) are allowed")
        }
        try checkIDs()
    }

    private func checkIDs() throws(StoreError) {
        guard merges.count <= Format.mergeLimit else {
            throw .malformed(
                "it has \(merges.count) merges; at most \(Format.mergeLimit) are allowed")
        }
        let limit = UInt32(count)
        for (index, merge) in merges.enumerated() {
            guard merge.left < limit, merge.right < limit, merge.result < limit else {
                throw .malformed(
                    "merge \(index) (\(merge.left) and \(merge.right) to \(merge.result)) names a "
                        + "token that is not there; there are \(count)")
            }
        }
        var ids: [(String, UInt32?)] = [("bos", bos), ("unknown", unknown), ("padding", padding)]
        ids.append(("suffix", suffix))
        ids += endTokens.map { ("eos", $0) } + normalized.map { ("normalized", $0) }
        for case (let name, let id?) in ids where id >= limit {
            throw .malformed("its \(name) token is \(id); there are \(count)")
        }
    }
}
