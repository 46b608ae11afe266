// SPDX-License-Identifier: Apache-2.0

/// The metadata keys of a packed file; docs/format.md says what each holds. As in every GGUF file, those of an architecture begin
/// with its name.
package struct FormatKeys: Sendable, Equatable {
    package let prefix: String

    package init(architecture: String) { prefix = architecture + "." }

    package static let hgrnbit = FormatKeys(architecture: Format.architecture)

    package static let architecture = "general.architecture"
    package static let name = "general.name"
    package static let alignment = "general.alignment"
    package var formatVersion: String { prefix + "format_version" }

    package var vocabularySize: String { prefix + "vocab_size" }
    package var embeddingLength: String { prefix + "embedding_length" }
    package var blockCount: String { prefix + "block_count" }
    package var feedForwardLength: String { prefix + "feed_forward_length" }
    package var innerLength: String { prefix + "inner_length" }
    package var headCount: String { prefix + "attention.head_count" }
    package var contextLength: String { prefix + "context_length" }
    package var rmsEpsilon: String { prefix + "attention.layer_norm_rms_epsilon" }
    package var useLowerBound: String { prefix + "use_lower_bound" }
    package var tieWordEmbeddings: String { prefix + "tie_word_embeddings" }
    package var embeddingEncoding: String { prefix + "embedding.encoding" }

    // Of architectures with attention.
    package var keyHeadCount: String { prefix + "attention.head_count_kv" }
    package var keyLength: String { prefix + "attention.key_length" }
    package var ropeBase: String { prefix + "rope.freq_base" }
    package var innerEpsilon: String { prefix + "inner_norm_rms_epsilon" }
    package var activationRounding: String { prefix + "activation.rounding" }
    package var activationFactor: String { prefix + "activation.factor" }
    package var scaleSource: String { prefix + "scale_source" }
    package var poolingType: String { prefix + "pooling_type" }
    package var normalizes: String { prefix + "embedding.normalize" }

    package var packedEncoding: String { prefix + "packed.encoding" }
    package var packedNames: String { prefix + "packed.names" }
    package var packedRows: String { prefix + "packed.rows" }
    package var packedColumns: String { prefix + "packed.columns" }
    package var packedScales: String { prefix + "packed.scales" }
    package var packedTypes: String { prefix + "packed.dtypes" }

    package var digestAlgorithm: String { prefix + "digest.algorithm" }
    package var digestNames: String { prefix + "digest.names" }
    package var digestValues: String { prefix + "digest.values" }
    package var digestModel: String { prefix + "digest.model" }

    package static let tokenizerModel = "tokenizer.ggml.model"
    /// Which byte-level kind a "gpt2" tokenizer is of.
    package static let preTokenizer = "tokenizer.ggml.pre"
    package static let tokens = "tokenizer.ggml.tokens"
    /// Of a "gpt2" tokenizer: "left right" in the order of their ranks.
    package static let mergeTexts = "tokenizer.ggml.merges"
    package static let scores = "tokenizer.ggml.scores"
    package static let tokenTypes = "tokenizer.ggml.token_type"
    package static let bosToken = "tokenizer.ggml.bos_token_id"
    package static let eosToken = "tokenizer.ggml.eos_token_id"
    package static let unknownToken = "tokenizer.ggml.unknown_token_id"
    package static let paddingToken = "tokenizer.ggml.padding_token_id"
    package static let addBOS = "tokenizer.ggml.add_bos_token"
    package static let addSpacePrefix = "tokenizer.ggml.add_space_prefix"
    /// Optional bool, false if absent: no prefix before a text that begins with a space.
    package var prefixOnlyIfMissing: String { prefix + "tokenizer.prefix_only_if_missing" }
    /// Optional u32 array: every token that ends an answer, where there are several.
    package var endTokens: String { prefix + "tokenizer.end_tokens" }
    /// Optional u32 array: user-defined tokens looked for in text whose spaces are "▁".
    package var normalizedTokens: String { prefix + "tokenizer.normalized_tokens" }
    /// Optional u32: the token that goes behind every text.
    package var suffixToken: String { prefix + "tokenizer.suffix_token" }
    package var tokenizerSource: String { prefix + "tokenizer.source" }
    package var merges: String { prefix + "tokenizer.merges" }
    /// Optional string: the chat template. Others stand at this key, a dot and their name.
    package static let chatTemplate = "tokenizer.chat_template"
    /// Optional string array: the names of the others.
    package static let chatTemplates = "tokenizer.chat_templates"
    /// Optional strings, beside a chat template: what its `bos_token` and `eos_token` are, empty for none. The vocabulary's own
    /// may be others: those are what answers end at.
    package var templateBOS: String { prefix + "chat_template.bos_token" }
    package var templateEOS: String { prefix + "chat_template.eos_token" }
}

/// What this version writes and reads.
package enum Format {
    package static let architecture = "hgrnbit"
    /// All that are read.
    package static let architectures =
        [architecture] + AttentionFamily.allCases.map(\.rawValue)
    /// What a file says that asks nothing of its readers that the first version does not.
    package static let version: UInt32 = 1
    /// The newest version that is read.
    package static let lastVersion: UInt32 = 2
    package static let ggufVersion: UInt32 = 3
    package static let alignment = 64
    /// The packed layout (CKernels.h): tiles of 16 rows by 4 columns, five trits a byte.
    package static let packedEncoding = "R16K4T5"
    /// Columns of a packed matrix (CK_MOST_COLUMNS): a row's sum of digits by activations fits 32 bits.
    package static let columnLimit = 1 << 23
    package static let digestAlgorithm = "sha256"
    /// Bytes of everything before the tensors' data. A vocabulary of 262,144 tokens takes some 20 MB.
    package static let headerLimit = 128 << 20
    /// Tokens of a model; each takes some 250 bytes of memory in a tokenizer.
    package static let vocabularyLimit = 1 << 20
    /// Bytes of one token's piece.
    package static let pieceLimit = 1024
    /// Bytes of all pieces that are looked for in raw text: control, unknown and user-defined tokens. Finding them costs a
    /// hundred bytes of memory for each of these.
    package static let namedPiecesLimit = 1 << 20
    /// Bytes of one conversation's recurrent state, layers by channels by four.
    package static let stateLimit = 64 << 20
    /// Merges of a tokenizer. The largest vocabularies in use have half a million.
    package static let mergeLimit = 1 << 22
    /// Where the ternary stream starts: so that huge pages can map it.
    package static let streamAlignment = 2 << 20

    /// Bytes of a packed matrix: 64 for each 16 rows × 20 columns begun. `nil` on overflow.
    package static func packedBytes(rows: Int, columns: Int) -> Int? {
        guard rows > 0, columns > 0 else { return nil }
        let tiles = (rows - 1) / 16 + 1
        let vectors = (columns - 1) / 20 + 1
        let (count, overflow) = tiles.multipliedReportingOverflow(by: vectors)
        let (bytes, overflow2) = count.multipliedReportingOverflow(by: 64)
        return overflow || overflow2 ? nil : bytes
    }
}

/// How the embedding's rows are stored.
package enum EmbeddingEncoding: String, Sendable, CaseIterable {
    case f32, f16, bf16
    /// Blocks of 64 values in 52 bytes: about 6.5 bits a value.
    case q6

    package init(_ metadata: Metadata) throws(StoreError) {
        let key = metadata.own.embeddingEncoding
        let name = try metadata.string(forKey: key)
        guard let encoding = Self(rawValue: name) else {
            throw .malformed("\(key) is '\(name.quoted)'; f32, f16, bf16 and q6 are read")
        }
        self = encoding
    }

    /// The elements of the packed file's tensor; q6 blocks are bytes.
    package var type: TensorType {
        switch self {
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        case .q6: .i8
        }
    }

    /// Bytes of a row of `columns` values.
    package func rowBytes(_ columns: Int) -> Int {
        self == .q6 ? (columns + 63) / 64 * 52 : columns * type.size
    }
}
