// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// A packed file's own description of its model, checked like a config.json.
struct PackedFacts {
    let file: PackedFile

    init(_ file: PackedFile) { self.file = file }

    func read() throws(PackError) -> (CheckpointConfig, EmbeddingEncoding) {
        let metadata = file.metadata
        func size(_ key: String) throws(PackError) -> JSON {
            .integer(Int(try storing { () throws(StoreError) in try metadata.uint32(forKey: key) }))
        }
        func flag(_ key: String) throws(PackError) -> JSON {
            .bool(try storing { () throws(StoreError) in try metadata.bool(forKey: key) })
        }
        func text(_ key: String) throws(PackError) -> String {
            try storing { () throws(StoreError) in try metadata.string(forKey: key) }
        }
        let hidden = try size(FormatKeys.embeddingLength)
        let inner = try size(FormatKeys.innerLength)
        let epsilon = try storing { () throws(StoreError) in
            try metadata.float(forKey: FormatKeys.rmsEpsilon)
        }
        guard epsilon.isFinite else {
            throw .tensor(FormatKeys.rmsEpsilon, what: "it is \(epsilon)")
        }
        let members: [(String, JSON)] = [
            ("vocab_size", try size(FormatKeys.vocabularySize)), ("hidden_size", hidden),
            ("num_hidden_layers", try size(FormatKeys.blockCount)),
            ("num_heads", try size(FormatKeys.headCount)),
            ("intermediate_size", try size(FormatKeys.feedForwardLength)),
            ("max_position_embeddings", try size(FormatKeys.contextLength)),
            ("use_lower_bound", try flag(FormatKeys.useLowerBound)),
            ("tie_word_embeddings", try flag(FormatKeys.tieWordEmbeddings)),
            ("rms_norm_eps", .number(Double(epsilon))),
            ("expand_ratio", .number(Self.ratio(inner.integer ?? 0, hidden.integer ?? 0))),
            ("_name_or_path", .string(try text(FormatKeys.name))),
        ]
        let config = try CheckpointConfig(
            .object(members.map { JSON.Member($0.0, $0.1) }), file: "the packed file")
        let encoding = try text(FormatKeys.embeddingEncoding)
        guard let encoding = EmbeddingEncoding(rawValue: encoding) else {
            throw .tensor(
                "token_embd.weight", what: "its encoding is \"\(encoding.quoted)\"")
        }
        return (config, encoding)
    }

    /// The number that int(D · ratio) turns back into E.
    static func ratio(_ inner: Int, _ hidden: Int) -> Double {
        guard hidden > 0 else { return 0 }
        let ratio = Double(inner) / Double(hidden)
        return Int(Double(hidden) * ratio) == inner ? ratio : ratio.nextUp
    }
}
