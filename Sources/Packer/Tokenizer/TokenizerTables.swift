// SPDX-License-Identifier: Apache-2.0

/// A byte-fallback BPE tokenizer as the packed file holds it: every token, and every merge by ids.
package struct TokenizerTables: Sendable, Equatable {
    package enum Source: String, Sendable {
        case json = "tokenizer.json"
        case sentencePiece = "tokenizer.model"
    }

    /// The numbers are those of SentencePiece and of `tokenizer.ggml.token_type`.
    package enum Kind: Int32, Sendable {
        case normal = 1
        case unknown, control, userDefined, unused, byte
    }

    /// `left` followed by `right` becomes `result`; the lowest rank goes first, leftmost on ties.
    package struct Merge: Sendable, Equatable {
        package var left, right, result, rank: UInt32
    }

    package var source: Source
    /// As many as the model's vocabulary; what the tokenizer lacks is filled up with unused ones.
    package var tokens: [String] = []
    package var scores: [Float] = []
    package var kinds: [Kind] = []
    /// In order of rank.
    package var merges: [Merge] = []
    package var bos: UInt32?
    package var eos: UInt32?
    package var unknown: UInt32?
    package var padding: UInt32?
    package var addBOS = true
    /// A "▁" goes before any text that is not empty.
    package var addSpacePrefix = true
    /// The prefix is left out before a text that already begins with a space, and after a special or
    /// added token ("Metaspace", whose prepend_scheme is "first").
    package var prefixOnlyIfMissing = false
    /// Things the tokenizer's files ask for that are survivable but not done.
    package var warnings: [String] = []

    package static let space = "\u{2581}"

    /// The token that stands for a byte, as "<0x0A>".
    static func byteToken(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16, uppercase: true)
        return "<0x\(digits.count < 2 ? "0" : "")\(digits)>"
    }

    /// Appends one token, its kind and its score.
    mutating func append(_ token: String, _ kind: Kind, score: Float) {
        tokens.append(token)
        kinds.append(kind)
        scores.append(score)
    }

    /// Brings the tables to the model's vocabulary. A larger tokenizer would give tokens the model
    /// has no row for; a smaller one leaves rows that no text reaches, which is usual.
    mutating func fill(to vocabulary: Int, file: String) throws(PackError) {
        guard tokens.count <= vocabulary else {
            throw .unsupported(
                file: file,
                what: "\(tokens.count) tokens, but the model's vocabulary (vocab_size in "
                    + "config.json) has \(vocabulary)")
        }
        if tokens.count < vocabulary {
            warnings.append(
                "the tokenizer has \(tokens.count) tokens, the model \(vocabulary): the rest is unused"
            )
        }
        var taken = Set(tokens.map(ByteString.init))
        while tokens.count < vocabulary {
            var name = "<unused\(tokens.count)>"
            while !taken.insert(ByteString(name)).inserted { name += "_" }
            append(name, .unused, score: 0)
        }
    }
}
