// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// tokenizer.json of the Hugging Face `tokenizers` library: the form of the Llama family, and in ByteLevelJSON.swift the
/// byte-level ones.
struct TokenizerJSON {
    let json: JSON
    let file: String
    /// Whether the tokenizer's class puts its own post-processor in the place of this file's.
    var ignoresTemplate = false

    func refuse(_ what: String) -> PackError { .unsupported(file: file, what: what) }
    func broken(_ what: String) -> PackError { .malformed(file: file, what: what) }

    func draft(limit: Int) throws(PackError) -> VocabularyDraft {
        guard let model = json["model"], model.members != nil else {
            throw broken("it has no model")
        }
        let version = json["version"]
        guard version == nil || version?.string == "1.0" else {
            throw refuse("its version is \(version?.brief ?? ""); only \"1.0\" is read")
        }
        let type = model["type"]?.string ?? (model["merges"] != nil ? "BPE" : "nothing")
        guard type == "BPE" else {
            throw refuse("its model is \(type.quoted); only BPE is read")
        }
        if isByteLevel { return try byteLevelDraft(model, limit: limit) }
        try checkModel(model)
        var draft = try readVocabulary(model, limit: limit)
        try readMerges(model, into: &draft)
        try readSpaces(into: &draft)
        let reader = ConfigReader(json: model, file: file)
        if let unknown = try reader.text("unk_token"), let id = draft.id(of: unknown) {
            draft.vocabulary.kinds[Int(id)] = .unknown
            draft.vocabulary.unknown = id
        }
        try checkBytes(&draft)
        try addTokens(to: &draft)
        checkAlwaysPrepended(&draft)
        draft.vocabulary.addsBOS = false
        if !ignoresTemplate { try readTemplate(into: &draft) }
        checkDecoder(&draft)
        return draft
    }

    func addTokens(to draft: inout VocabularyDraft) throws(PackError) {
        guard let tokens = json["added_tokens"].map({ $0.isNull ? [] : $0.array }) ?? [] else {
            throw broken("added_tokens is no list")
        }
        for token in tokens {
            guard let id = token["id"]?.integer, let content = token["content"]?.string else {
                throw broken("an added token has no id or content")
            }
            try draft.add(AddedToken(id: id, content: content, flags: token, file: file))
        }
    }

    // MARK: - Model

    private func checkModel(_ model: JSON) throws(PackError) {
        if let stage = ["pre_tokenizer", "decoder", "post_processor"].first(where: {
            mentions(json[$0], "ByteLevel", depth: 0)
        }) {
            throw refuse("its \(stage) is ByteLevel, but neither pre_tokenizer nor decoder is")
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
        if try ConfigReader(json: model, file: file).flag("ignore_merges", default: false) {
            throw refuse("its model has ignore_merges, which is not done")
        }
    }

    /// Whether a pipeline stage, or one inside it, is of type `type`.
    func mentions(_ stage: JSON?, _ type: String, depth: Int) -> Bool {
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

    func readVocabulary(
        _ model: JSON, limit: Int
    ) throws(PackError) -> VocabularyDraft {
        guard let members = model["vocab"]?.members, !members.isEmpty else {
            throw broken("its model has no vocab")
        }
        // Ids may have holes; they may not be far beyond the model's.
        let most = max(limit, members.count) + Self.holeLimit
        var tokens: [String?] = []
        for member in members {
            guard let id = member.value.integer, id >= 0, id < most else {
                throw broken(
                    "the id of token \"\(member.name.quoted)\" is \(member.value.brief); the model has \(limit) tokens"
                )
            }
            if id >= tokens.count {
                tokens += [String?](repeating: nil, count: id + 1 - tokens.count)
            }
            guard tokens[id] == nil else { throw broken("two tokens have the id \(id)") }
            tokens[id] = member.name
        }
        let taken = Set(members.map { ByteString($0.name) })
        var vocabulary = Vocabulary(source: .json)
        vocabulary.reserve(pieces: tokens.count)
        var holes: [Int] = []
        for (id, token) in tokens.enumerated() {
            if let token {
                vocabulary.append(token.utf8, .normal)
            } else {
                var name = "<unused\(id)>"
                while taken.contains(ByteString(name)) { name += "_" }
                vocabulary.append(name.utf8, .unused)
                holes.append(id)
            }
        }
        var draft = try VocabularyDraft(
            vocabulary, count: members.count, file: file, limit: limit)
        if let first = holes.first {
            draft.warnings.append(
                "tokenizer.json: its vocabulary has a hole: no token has the id \(first)"
                    + (holes.count > 1 ? ", nor have \(holes.count - 1) others" : ""))
        }
        return draft
    }

    private static let holeLimit = 1 << 16

    func readMerges(
        _ model: JSON, into draft: inout VocabularyDraft
    ) throws(PackError) {
        guard let merges = model["merges"]?.array else { throw broken("its model has no merges") }
        guard merges.count <= Format.mergeLimit else {
            throw refuse("it has \(merges.count) merges; at most \(Format.mergeLimit) are read")
        }
        let ids = draft.ids
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
            draft.vocabulary.merges.append(
                .init(left: leftID, right: rightID, result: result, rank: UInt32(rank)))
            // Readers that know scores only find the same order in them.
            if draft.vocabulary.byteLevel == nil, draft.vocabulary.scores[Int(result)] == 0 {
                draft.vocabulary.scores[Int(result)] = -1 - Float(rank)
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

    /// All 256 bytes must have a token, or some text could not be written.
    private func checkBytes(_ draft: inout VocabularyDraft) throws(PackError) {
        for byte in UInt8.min...UInt8.max {
            let name = Vocabulary.byteToken(byte)
            guard let id = draft.id(of: name) else {
                throw refuse("byte_fallback is on, but the vocabulary has no \(name)")
            }
            draft.vocabulary.kinds[Int(id)] = .byte
        }
    }

    // MARK: - What goes before and behind a text

    /// What the post-processor puts around a text: nothing, or one token in front.
    private func readTemplate(into draft: inout VocabularyDraft) throws(PackError) {
        guard let processor = json["post_processor"], !processor.isNull else { return }
        for stage in processor["processors"]?.array ?? [processor] {
            let type = stage["type"]?.string ?? "?"
            guard type == "TemplateProcessing" else {
                throw refuse(
                    "its post_processor \(type.quoted) is not done; only TemplateProcessing is")
            }
            let parts = stage["single"]?.array ?? []
            guard let place = parts.firstIndex(where: { $0["Sequence"] != nil }),
                parts.count - place == 1, place <= 1
            else {
                throw refuse(
                    "its post_processor makes \(JSON.array(parts).brief) of a text; only one token in front of it is done"
                )
            }
            guard place == 1 else { continue }
            let name = parts[0]["SpecialToken"]?["id"]?.string ?? ""
            let ids = stage["special_tokens"]?[name]?["ids"]?.array?.compactMap(\.integer) ?? []
            guard ids.count == 1, draft.vocabulary.kinds.indices.contains(ids[0]),
                draft.vocabulary.addsBOS == false
            else {
                throw refuse(
                    "its post_processor puts \(ids.count) tokens \"\(name.quoted)\" in front of a text; one is done"
                )
            }
            draft.vocabulary.bos = UInt32(ids[0])
            draft.vocabulary.addsBOS = true
        }
    }

    /// Texts are put together as Llama's decoder does it.
    private func checkDecoder(_ draft: inout VocabularyDraft) {
        let usual = draft.vocabulary.decoder
        let decoder = json["decoder"] ?? .null
        guard !decoder.isSame(as: usual), !isMetaspace(decoder, draft.vocabulary) else { return }
        draft.warnings.append(
            "tokenizer.json: its decoder is \(decoder.brief), ignoring: answers are put together by \(usual.brief)"
        )
    }

    /// The same, in the words of a Metaspace pre-tokenizer.
    private func isMetaspace(_ decoder: JSON, _ vocabulary: Vocabulary) -> Bool {
        let stages = decoder["decoders"]?.array ?? []
        guard let last = stages.last,
            [["ByteFallback", "Metaspace"], ["ByteFallback", "Fuse", "Metaspace"]].contains(
                stages.map { $0["type"]?.string ?? "?" })
        else { return false }
        let strips = last["prepend_scheme"].map { $0.string != "never" }
        return last["replacement"]?.string == Vocabulary.space
            && strips ?? last["add_prefix_space"]?.bool ?? true == vocabulary.addsSpacePrefix
    }

    // MARK: - Spaces

    /// Two spellings: a normalizer that prepends and replaces, or a Metaspace pre-tokenizer.
    private func readSpaces(into draft: inout VocabularyDraft) throws(PackError) {
        var prepends = false
        var replaces = false
        let normalizer = json["normalizer"].flatMap { $0.isNull ? nil : $0 }
        let steps = normalizer.map { $0["normalizers"]?.array ?? [$0] } ?? []
        for step in steps {
            let type = step["type"]?.string ?? "?"
            switch type {
            case "Prepend"
            where step["prepend"]?.string == Vocabulary.space && !replaces && !prepends:
                prepends = true
            case "Replace"
            where step["pattern"]?["String"]?.string == " "
                && step["content"]?.string == Vocabulary.space:
                replaces = true
            default:
                throw refuse(
                    "its normalizer \(type.quoted) is not done; only one Prepend \"▁\" and "
                        + "Replace \" \" by \"▁\", in this order, are")
            }
        }
        if let splitter = json["pre_tokenizer"], !splitter.isNull {
            let type = splitter["type"]?.string ?? "?"
            guard type == "Metaspace", !prepends, !replaces,
                splitter["replacement"]?.string == Vocabulary.space
            else {
                throw refuse(
                    "its pre_tokenizer \(type.quoted) is not done; only none, or Metaspace "
                        + "with \"▁\" and no normalizer, is")
            }
            let scheme = splitter["prepend_scheme"]?.string
            guard scheme == nil || ["always", "first", "never"].contains(scheme) else {
                throw broken("an unknown prepend_scheme")
            }
            let reader = ConfigReader(json: splitter, file: file)
            let flag = try reader.flag("add_prefix_space")
            prepends = scheme.map { $0 != "never" } ?? flag ?? true
            guard flag != false || !prepends else {
                throw broken("its add_prefix_space and prepend_scheme contradict each other")
            }
            draft.vocabulary.prefixesOnlyIfMissing = prepends
            replaces = true
            if try reader.flag("split", default: true) { try checkSplit(draft.vocabulary) }
        }
        guard replaces else {
            throw refuse("spaces are not turned into \"▁\"; only the Llama form is read")
        }
        draft.vocabulary.addsSpacePrefix = prepends
    }

    private func checkAlwaysPrepended(_ draft: inout VocabularyDraft) {
        let scheme = json["pre_tokenizer"]?["prepend_scheme"]?.string
        if draft.vocabulary.prefixesOnlyIfMissing, scheme != "first",
            draft.vocabulary.kinds.contains(where: { $0 == .userDefined || $0 == .control })
        {
            draft.warnings.append(
                "tokenizer.json: its pre_tokenizer Metaspace puts a space after added and special tokens too "
                    + "(prepend_scheme \"always\"), ignoring: only the beginning of a text gets one; "
                    + "texts in which such tokens are looked for become other tokens")
        }
    }

    /// Splitting before every "▁" changes nothing as long as no token reaches across such a place.
    private func checkSplit(_ vocabulary: Vocabulary) throws(PackError) {
        let space = Array(Vocabulary.space.unicodeScalars)[0]
        for merge in vocabulary.merges {
            let token = vocabulary.text(Int(merge.result))
            if token.unicodeScalars.dropFirst().contains(space) {
                throw refuse(
                    "its pre_tokenizer splits at spaces, but the vocabulary joins them "
                        + "(\"\(token.quoted)\"); that combination is not done")
            }
        }
    }
}
