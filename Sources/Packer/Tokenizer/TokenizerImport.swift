// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
internal import SystemPackage

/// Finds a checkpoint's tokenizer and reads it into tables, with the special tokens its other files name.
package enum TokenizerImport {
    /// Larger than any published vocabulary's file.
    static let fileLimit = 64 << 20

    /// The checkpoint's tokenizer, or nil if it has none (such a model serves token ids only).
    /// tokenizer.json goes before tokenizer.model; a file that is there and not understood is an
    /// error, never a reason to take the other.
    package static func tables(
        for checkpoint: Checkpoint
    ) throws(PackError) -> TokenizerTables? {
        let directory = checkpoint.directory
        let jsonPath = directory.appending("tokenizer.json")
        let modelPath = directory.appending("tokenizer.model")
        var tables: TokenizerTables
        let file: FilePath
        if InputFile.exists(jsonPath) {
            file = jsonPath
            let json = try Checkpoint.json(file, limit: fileLimit)
            tables = try TokenizerJSON(json: json, file: file.string).tables()
        } else if InputFile.exists(modelPath) {
            file = modelPath
            let bytes = try InputFile.read(file, .sentencePiece, limit: fileLimit)
            tables = try SentencePiece(bytes, file: file.string).tables()
        } else {
            try refuseOthers(directory)
            return nil
        }
        try NamedTokens(directory).apply(to: &tables, checkpoint.config, file: file.string)
        try tables.fill(to: checkpoint.config.vocabularySize, file: file.string)
        try check(tables, file: file.string)
        return tables
    }

    /// Tokenizers of other families that a checkpoint may hold instead.
    private static func refuseOthers(_ directory: FilePath) throws(PackError) {
        for (name, kind) in [
            ("vocab.txt", "WordPiece"), ("vocab.json", "GPT-2 (ByteLevel) BPE"),
            ("spiece.model", "SentencePiece in T5's layout"), ("tekken.json", "Tekken"),
        ] where InputFile.exists(directory.appending(name)) {
            throw .unsupported(
                file: directory.appending(name).string,
                what: "a \(kind) tokenizer; only tokenizer.json or tokenizer.model of the Llama "
                    + "kind is read. Remove the file to pack a model for token ids only")
        }
    }

    private static func check(_ tables: TokenizerTables, file: String) throws(PackError) {
        guard tables.merges.count <= Format.mergeLimit else {
            throw .unsupported(
                file: file,
                what: "it has \(tables.merges.count) merges; at most \(Format.mergeLimit) are read")
        }
        var seen: Set<ByteString> = []
        var named = 0
        for (id, token) in tables.tokens.enumerated() {
            guard !token.isEmpty, !token.utf8.contains(0) else {
                throw .malformed(file: file, what: "token \(id) is empty or holds a NUL")
            }
            let length = token.utf8.count
            guard length <= Format.pieceLimit else {
                throw .unsupported(
                    file: file,
                    what:
                        "token \(id) is \(length) bytes long; at most \(Format.pieceLimit) are read"
                )
            }
            switch tables.kinds[id] {
            case .control, .unknown, .userDefined: named += length
            case .normal, .unused, .byte: break
            }
            guard seen.insert(ByteString(token)).inserted else {
                throw .malformed(
                    file: file, what: "two tokens are \"\(token.quoted)\", \(id) the second")
            }
        }
        guard named <= Format.namedPiecesLimit else {
            throw .unsupported(
                file: file,
                what: "its special and added tokens are \(named) bytes together; at most "
                    + "\(Format.namedPiecesLimit) are read")
        }
    }
}

/// What tokenizer_config.json, special_tokens_map.json and generation_config.json say.
private struct NamedTokens {
    private let directory: FilePath
    private let config, map, generation: JSON

    init(_ directory: FilePath) throws(PackError) {
        func read(_ name: String) throws(PackError) -> JSON {
            let path = directory.appending(name)
            return InputFile.exists(path) ? try Checkpoint.json(path) : .null
        }
        self.directory = directory
        config = try read("tokenizer_config.json")
        map = try read("special_tokens_map.json")
        generation = try read("generation_config.json")
    }

    func apply(
        to tables: inout TokenizerTables, _ model: CheckpointConfig, file: String
    ) throws(PackError) {
        try addDecoderTokens(to: &tables)
        let vocabulary = max(tables.tokens.count, model.vocabularySize)
        func valid(_ id: Int?) -> UInt32? {
            id.flatMap { (0..<vocabulary).contains($0) ? UInt32($0) : nil }
        }
        let known = tables
        func named(_ name: String) -> UInt32? { id(name, known) }
        // The tokenizer puts BOS in front, so its word goes first; generating stops at EOS, so
        // there the model's settings do.
        tables.bos = named("bos_token") ?? valid(model.bos) ?? tables.bos
        let stops = generation["eos_token_id"]
        if let list = stops?.array, list.count > 1 {
            tables.warnings.append(
                "generation_config.json names \(list.count) end tokens; the first is kept")
        }
        let stop = (stops?.array?.first ?? stops)?.integer
        tables.eos = valid(stop) ?? named("eos_token") ?? valid(model.ends.first) ?? tables.eos
        tables.unknown = tables.unknown ?? named("unk_token")
        tables.padding = named("pad_token") ?? valid(model.padding) ?? tables.padding
        if let flag = config["add_bos_token"]?.bool { tables.addBOS = flag }
        if tables.bos == nil { tables.addBOS = false }
        if config["add_eos_token"]?.bool == true {
            tables.warnings.append("tokenizer_config.json has add_eos_token on, ignoring")
        }
        for id in [tables.bos, tables.eos] {
            // Named in the settings only: still never part of a text.
            if let id, Int(id) < tables.kinds.count, tables.kinds[Int(id)] == .normal {
                tables.kinds[Int(id)] = .control
            }
        }
    }

    /// The id of the token that either file calls `name`.
    private func id(_ name: String, _ tables: TokenizerTables) -> UInt32? {
        for source in [config, map] {
            let value = source[name]
            if let text = value?.string ?? value?["content"]?.string,
                let id = tables.tokens.firstIndex(where: { $0.isSame(as: text) })
            {
                return UInt32(id)
            }
        }
        return nil
    }

    /// Tokens that only tokenizer_config.json knows, as ones added to a tokenizer.model are.
    private func addDecoderTokens(to tables: inout TokenizerTables) throws(PackError) {
        let file = directory.appending("tokenizer_config.json").string
        var added: [AddedToken] = []
        for member in config["added_tokens_decoder"]?.members ?? [] {
            guard let id = Int(member.name), let content = member.value["content"]?.string else {
                throw .malformed(
                    file: file, what: "added_tokens_decoder[\"\(member.name.quoted)\"]")
            }
            added.append(AddedToken(id: id, content: content, flags: member.value))
        }
        try tables.add(added, file: file)
    }
}
