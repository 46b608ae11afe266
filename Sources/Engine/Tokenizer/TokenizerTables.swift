// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// A vocabulary and its merges as plain values, whichever file they come from.
package struct TokenizerTables: Sendable {
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

    /// Where `left` and `right` stand side by side they may become `result`; the lowest rank goes first.
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
    /// Every piece's UTF-8, one after the other: no string for each of 32,000 pieces, and no comparison by canonical
    /// equivalence, which takes "é" and "e\u{301}" for the same.
    package private(set) var bytes: [UInt8] = []
    /// Where each piece ends in `bytes`: [vocabulary].
    package private(set) var ends: [Int] = []
    package private(set) var kinds: [Kind] = []
    package var merges: [Merge] = []
    package var bos: UInt32?
    package var eos: UInt32?
    package var unknown: UInt32?
    /// Whether the checkpoint's own tokenizer puts `bos` before a prompt.
    package var addsBOS = true
    /// Whether text is taken as if a space stood before it.
    package var addsSpacePrefix = true
    /// No such space before a text that begins with one, nor after a special token (Hugging Face's "Metaspace").
    package var prefixesOnlyIfMissing = false

    package init() {}

    package var count: Int { ends.count }

    package mutating func append(_ piece: some Sequence<UInt8>, _ kind: Kind) {
        bytes.append(contentsOf: piece)
        ends.append(bytes.count)
        kinds.append(kind)
    }

    package mutating func reserve(pieces: Int) {
        ends.reserveCapacity(pieces)
        kinds.reserveCapacity(pieces)
        bytes.reserveCapacity(pieces * 8)
    }

    /// The piece with this id; `id` must be below `count`.
    func piece(_ id: Int) -> ArraySlice<UInt8> { bytes[(id == 0 ? 0 : ends[id - 1])..<ends[id]] }

    /// Refuses tables a tokenizer could not work with.
    func check() throws(ModelError) {
        guard count > 0, count <= 1 << 24 else {
            throw .badTokenizer("it has \(count) pieces; it must have 1 to \(1 << 24)")
        }
        do {
            _ = try UTF8Span(validating: bytes.span)
        } catch {
            let at = error.byteOffsets.lowerBound
            throw .badTokenizer("token \(id(at: at)) is not UTF-8")
        }
        for id in 0..<count where piece(id).first.map({ $0 & 0xC0 == 0x80 }) ?? false {
            throw .badTokenizer("token \(id) begins inside a character")
        }
        try checkLengths()
        let limit = UInt32(count)
        for (index, merge) in merges.enumerated() {
            guard merge.left < limit, merge.right < limit, merge.result < limit else {
                throw .badTokenizer(
                    "merge \(index) (\(merge.left) and \(merge.right) to \(merge.result)) names a "
                        + "token that is not there; there are \(count)")
            }
        }
        for (name, id) in [("bos", bos), ("eos", eos), ("unknown", unknown)] {
            guard let id, id >= limit else { continue }
            throw .badTokenizer("its \(name) token is \(id); there are \(count)")
        }
    }

    /// What is looked for in raw text has a node of memory for each byte.
    private func checkLengths() throws(ModelError) {
        var named = 0
        for id in 0..<count {
            let length = piece(id).count
            guard length <= Format.pieceLimit else {
                throw .badTokenizer(
                    "token \(id) is \(length) bytes long; at most \(Format.pieceLimit) are allowed")
            }
            switch kinds[id] {
            case .control, .unknown, .userDefined: named += length
            case .normal, .unused, .byte: break
            }
        }
        guard named <= Format.namedPiecesLimit else {
            throw .badTokenizer(
                "its control, unknown and user-defined tokens are \(named) bytes together; at most "
                    + "\(Format.namedPiecesLimit) are allowed")
        }
    }

    private func id(at offset: Int) -> Int { ends.firstIndex { $0 > offset } ?? count }
}
