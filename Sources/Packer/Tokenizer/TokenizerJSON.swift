// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// tokenizer.json of the Hugging Face `tokenizers` library: the form of the Llama family, nothing else.
struct TokenizerJSON {
    let json: JSON
    let file: String

    func refuse(_ what: String) -> PackError { .unsupported(file: file, what: what) }
    func broken(_ what: String) -> PackError { .malformed(file: file, what: what) }

    func tables() throws(PackError) -> TokenizerTables {
        guard let model = json["model"], model.members != nil else {
            throw broken("it has no model")
        }
        try checkModel(model)
        var tables = TokenizerTables(source: .json)
        try readVocabulary(model, into: &tables)
        try readMerges(model, into: &tables)
        try readAddedTokens(into: &tables)
        try checkBytes(model, &tables)
        try readSpaces(into: &tables)
        tables.addBOS = startsWithSpecialToken ?? true
        return tables
    }

    // MARK: - Model

    private func checkModel(_ model: JSON) throws(PackError) {
        let type = model["type"]?.string ?? (model["merges"] != nil ? "BPE" : "nothing")
        guard type == "BPE" else {
            throw refuse("its model is \(type.quoted); only BPE with byte fallback is read")
        }
        if let stage = ["pre_tokenizer", "decoder", "post_processor"].first(where: {
            mentions(json[$0], "ByteLevel", depth: 0)
        }) {
            throw refuse(
                "its \(stage) is ByteLevel (the GPT-2 kind of BPE); only the Llama kind, with "
                    + "byte fallback, is read")
        }
        guard model["byte_fallback"]?.bool == true else {
            throw refuse("byte_fallback is off; only BPE with byte fallback is read")
        }
        if let dropout = model["dropout"], !dropout.isNull, dropout.number != 0 {
            throw refuse("its model has dropout, which makes tokens random")
        }
        for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if let text = model[name], !text.isNull, text.string?.isEmpty != true {
                throw refuse("its model has \(name), which is not done")
            }
        }
        if model["ignore_merges"]?.bool == true {
            throw refuse("its model has ignore_merges, which is not done")
        }
    }

    /// Whether a pipeline stage, or one inside it, is of type `type`.
    private func mentions(_ stage: JSON?, _ type: String, depth: Int) -> Bool {
        guard let stage, depth < 8 else { return false }
        if stage["type"]?.string == type { return true }
        for list in ["pretokenizers", "decoders", "processors", "normalizers"] {
            if let inner = stage[list]?.array,
                inner.contains(where: { mentions($0, type, depth: depth + 1) })
            {
                return true
            }
        }
        return false
    }

    private func readVocabulary(
        _ model: JSON, into tables: inout TokenizerTables
    ) throws(PackError) {
        guard let vocabulary = model["vocab"]?.members, !vocabulary.isEmpty else {
            throw broken("its model has no vocab")
        }
        var tokens = [String?](repeating: nil, count: vocabulary.count)
        for member in vocabulary {
            guard let id = member.value.integer, tokens.indices.contains(id) else {
                throw broken(
                    "the id of token \"\(member.name.quoted)\" is not among 0..."
                        + "\(vocabulary.count - 1)")
            }
            guard tokens[id] == nil else { throw broken("two tokens have the id \(id)") }
            tokens[id] = member.name
        }
        for token in tokens {
            // As many ids as tokens, all different and in range: none is missing.
            tables.append(token ?? "", .normal, score: 0)
        }
    }

    private func readMerges(_ model: JSON, into tables: inout TokenizerTables) throws(PackError) {
        guard let merges = model["merges"]?.array else { throw broken("its model has no merges") }
        guard merges.count <= Format.mergeLimit else {
            throw refuse("it has \(merges.count) merges; at most \(Format.mergeLimit) are read")
        }
        var ids: [ByteString: UInt32] = [:]
        ids.reserveCapacity(tables.tokens.count)
        for (id, token) in tables.tokens.enumerated() { ids[ByteString(token)] = UInt32(id) }
        var seen: Set<UInt64> = []
        seen.reserveCapacity(merges.count)
        for (rank, merge) in merges.enumerated() {
            guard let (left, right) = pair(merge) else {
                throw broken("merge \(rank) is neither \"a b\" nor [a, b]")
            }
            guard let leftID = ids[left], let rightID = ids[right], let result = ids[left + right]
            else {
                throw broken("merge \(rank) uses or makes a token that is not in the vocabulary")
            }
            guard seen.insert(UInt64(leftID) << 32 | UInt64(rightID)).inserted else {
                throw broken("merge \(rank) comes twice")
            }
            tables.merges.append(
                .init(left: leftID, right: rightID, result: result, rank: UInt32(rank)))
            // Readers that know scores only find the same order in them.
            if tables.scores[Int(result)] == 0 {
                tables.scores[Int(result)] = -1 - Float(rank)
            }
        }
    }

    /// "a b" of older files, ["a", "b"] of newer ones.
    private func pair(_ merge: JSON) -> (ByteString, ByteString)? {
        if let text = merge.string {
            let parts = Array(text.utf8).split(
                separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
            return (ByteString(Array(parts[0])), ByteString(Array(parts[1])))
        }
        guard let items = merge.array, items.count == 2, let left = items[0].string,
            let right = items[1].string, !left.isEmpty, !right.isEmpty
        else { return nil }
        return (ByteString(left), ByteString(right))
    }

    // MARK: - Special tokens

    private func readAddedTokens(into tables: inout TokenizerTables) throws(PackError) {
        let added = json["added_tokens"]?.array ?? []
        let unknown = json["model"]?["unk_token"]?.string
        if let unknown, let id = tables.tokens.firstIndex(where: { $0.isSame(as: unknown) }) {
            tables.kinds[id] = .unknown
            tables.unknown = UInt32(id)
        }
        let hasNormalizer = json["normalizer"].map { !$0.isNull } ?? false
        var list: [AddedToken] = []
        for token in added {
            guard let id = token["id"]?.integer, let content = token["content"]?.string else {
                throw broken("an added token has no id or content")
            }
            list.append(
                AddedToken(id: id, content: content, flags: token, hasNormalizer: hasNormalizer))
        }
        try tables.add(list, file: file)
    }

    /// All 256 bytes must have a token, or some text could not be written.
    private func checkBytes(_ model: JSON, _ tables: inout TokenizerTables) throws(PackError) {
        let ids = Dictionary(
            tables.tokens.enumerated().map { (ByteString($1), $0) }, uniquingKeysWith: { $1 })
        for byte in UInt8.min...UInt8.max {
            let name = TokenizerTables.byteToken(byte)
            guard let id = ids[ByteString(name)] else {
                throw refuse("byte_fallback is on, but the vocabulary has no \(name)")
            }
            tables.kinds[id] = .byte
        }
    }

    /// Whether the post-processor puts a special token in front; nil if there is none to ask.
    private var startsWithSpecialToken: Bool? {
        guard let processor = json["post_processor"], !processor.isNull else { return nil }
        let stages = processor["processors"]?.array ?? [processor]
        for stage in stages where stage["type"]?.string == "TemplateProcessing" {
            return stage["single"]?.array?.first?["SpecialToken"] != nil
        }
        return nil
    }

    // MARK: - Spaces

    /// Two spellings: a normalizer that prepends and replaces, or a Metaspace pre-tokenizer.
    private func readSpaces(into tables: inout TokenizerTables) throws(PackError) {
        var prepends = false
        var replaces = false
        let normalizer = json["normalizer"].flatMap { $0.isNull ? nil : $0 }
        let steps = normalizer.map { $0["normalizers"]?.array ?? [$0] } ?? []
        for step in steps {
            let type = step["type"]?.string ?? "?"
            switch type {
            case "Prepend" where step["prepend"]?.string == TokenizerTables.space && !replaces:
                prepends = true
            case "Replace"
            where step["pattern"]?["String"]?.string == " "
                && step["content"]?.string == TokenizerTables.space:
                replaces = true
            default:
                throw refuse(
                    "its normalizer \(type.quoted) is not done; only Prepend \"▁\" and "
                        + "Replace \" \" by \"▁\", in this order, are")
            }
        }
        if let splitter = json["pre_tokenizer"], !splitter.isNull {
            let type = splitter["type"]?.string ?? "?"
            guard type == "Metaspace", !prepends, !replaces,
                splitter["replacement"]?.string == TokenizerTables.space
            else {
                throw refuse(
                    "its pre_tokenizer \(type.quoted) is not done; only none, or Metaspace "
                        + "with \"▁\" and no normalizer, is")
            }
            let scheme = splitter["prepend_scheme"]?.string
            guard scheme == nil || ["always", "first", "never"].contains(scheme) else {
                throw broken("an unknown prepend_scheme")
            }
            prepends = scheme.map { $0 != "never" } ?? splitter["add_prefix_space"]?.bool ?? true
            if prepends, scheme != "first", tables.kinds.contains(.userDefined) {
                tables.warnings.append(
                    "its pre_tokenizer Metaspace puts a space after added tokens too "
                        + "(prepend_scheme \"always\"), ignoring: only the beginning of a text gets one"
                )
            }
            tables.prefixOnlyIfMissing = prepends
            replaces = true
            if splitter["split"]?.bool ?? true { try checkSplit(tables) }
        }
        guard replaces else {
            throw refuse("spaces are not turned into \"▁\"; only the Llama form is read")
        }
        tables.addSpacePrefix = prepends
    }

    /// Splitting before every "▁" changes nothing as long as no token reaches across such a place.
    private func checkSplit(_ tables: TokenizerTables) throws(PackError) {
        let space = Array(TokenizerTables.space.unicodeScalars)[0]
        for merge in tables.merges {
            let token = tables.tokens[Int(merge.result)]
            if token.unicodeScalars.dropFirst().contains(space) {
                throw refuse(
                    "its pre_tokenizer splits at spaces, but the vocabulary joins them "
                        + "(\"\(token.quoted)\"); that combination is not done")
            }
        }
    }
}
