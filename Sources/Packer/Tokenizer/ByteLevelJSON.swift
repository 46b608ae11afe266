// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// tokenizer.json of the byte-level kinds of Llama 3 and Qwen2: exactly these forms, everything else refused by name.
extension TokenizerJSON {
    /// Whether some stage is byte-level.
    var isByteLevel: Bool {
        ["pre_tokenizer", "decoder"].contains { mentions(json[$0], "ByteLevel", depth: 0) }
    }

    func byteLevelDraft(_ model: JSON, limit: Int) throws(PackError) -> VocabularyDraft {
        let kind = try byteLevelKind(model)
        try checkByteLevelModel(model)
        var draft = try readVocabulary(model, limit: limit)
        draft.vocabulary.byteLevel = kind
        draft.vocabulary.addsSpacePrefix = false
        try readMerges(model, into: &draft)
        for merge in draft.vocabulary.merges {
            let pieces = [merge.left, merge.right].map { draft.vocabulary.piece(Int($0)) }
            guard !pieces.contains(where: { $0.contains(0x20) }) else {
                throw refuse("a merge holds a space, which no byte-level text does")
            }
        }
        for byte in UInt8.min...UInt8.max where draft.id(of: ByteLetters.letter(byte)) == nil {
            throw refuse(
                "its vocabulary has no \"\(ByteLetters.letter(byte))\", the byte \(byte): some texts could not be written"
            )
        }
        try addTokens(to: &draft)
        draft.vocabulary.addsBOS = false
        try readByteLevelTemplate(into: &draft)
        let decoder = json["decoder"] ?? .null
        guard decoder["type"]?.string == "ByteLevel" else {
            throw refuse("its decoder is \(decoder.brief); only ByteLevel is done")
        }
        for name in ["truncation", "padding"] where json[name].map({ !$0.isNull }) == true {
            draft.warnings.append(
                "tokenizer.json: it asks for \(name), ignoring: texts are taken whole, as transformers does unless told otherwise"
            )
        }
        return draft
    }

    // MARK: - Which kind

    private static let head = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
    private static let tail = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

    /// The regular expression that texts are split by.
    static func expression(_ kind: Vocabulary.ByteLevel) -> String {
        switch kind {
        case .llama3: head + "{1,3}" + tail
        case .qwen2: head + tail
        }
    }

    private func byteLevelKind(_ model: JSON) throws(PackError) -> Vocabulary.ByteLevel {
        let splitter = json["pre_tokenizer"] ?? .null
        let stages = splitter["pretokenizers"]?.array ?? [splitter]
        let types = stages.map { $0["type"]?.string ?? "?" }
        guard types == ["Split", "ByteLevel"] else {
            throw refuse(
                "its pre_tokenizer is \(types.joined(separator: ", ").quoted); of the byte-level kinds only Split and "
                    + "ByteLevel, as Llama 3 and Qwen2 have them, are done")
        }
        let (split, bytes) = (stages[0], stages[1])
        let expression = split["pattern"]?["Regex"]?.string ?? ""
        guard
            let kind = Vocabulary.ByteLevel.allCases.first(where: {
                Self.expression($0).isSame(as: expression)
            })
        else {
            throw refuse(
                "its pre_tokenizer splits by \((split["pattern"] ?? .null).brief); only the regular expressions of "
                    + "Llama 3 and Qwen2 are done")
        }
        guard split["behavior"]?.string == "Isolated", split["invert"]?.bool != true else {
            throw refuse(
                "its pre_tokenizer Split has behavior \((split["behavior"] ?? .null).brief) and invert "
                    + "\((split["invert"] ?? .null).brief); only \"Isolated\" and false are done")
        }
        let reader = ConfigReader(json: bytes, file: file)
        guard try reader.flag("add_prefix_space", default: true) == false,
            try reader.flag("use_regex", default: true) == false
        else {
            throw refuse(
                "its pre_tokenizer ByteLevel has add_prefix_space or use_regex; only without both is it done"
            )
        }
        let normalizer = json["normalizer"] ?? .null
        let normalizes = normalizer["type"]?.string == "NFC"
        guard normalizes || normalizer.isNull else {
            throw refuse("its normalizer is \(normalizer.brief); only none and NFC are done")
        }
        let ignoresMerges = try ConfigReader(json: model, file: file).flag(
            "ignore_merges", default: false)
        guard normalizes == (kind == .qwen2), ignoresMerges == (kind == .llama3) else {
            throw refuse(
                "with its pre_tokenizer, which is \(kind == .llama3 ? "Llama 3" : "Qwen2")'s, its normalizer "
                    + "\(normalizer.brief) and ignore_merges \(ignoresMerges) are not done; Llama 3 has none and true, Qwen2 NFC and false"
            )
        }
        return kind
    }

    private func checkByteLevelModel(_ model: JSON) throws(PackError) {
        let reader = ConfigReader(json: model, file: file)
        if try reader.flag("byte_fallback", default: false) {
            throw refuse("its model has byte_fallback, which a byte-level one has no use for")
        }
        let known = [
            "type", "vocab", "merges", "ignore_merges", "byte_fallback", "fuse_unk",
        ]
        for member in model.members ?? [] where !known.contains(member.name) {
            if member.value.isOff { continue }
            throw refuse(
                "its model has \(member.name.quoted) \(member.value.brief), which is not done")
        }
    }

    // MARK: - What goes before and behind a text

    /// At most one token in front and one behind.
    private func readByteLevelTemplate(into draft: inout VocabularyDraft) throws(PackError) {
        guard let processor = json["post_processor"], !processor.isNull else { return }
        for stage in processor["processors"]?.array ?? [processor] {
            let type = stage["type"]?.string ?? "?"
            // It moves offsets, no tokens.
            if type == "ByteLevel" { continue }
            guard type == "TemplateProcessing" else {
                throw refuse(
                    "its post_processor \(type.quoted) is not done; only ByteLevel and TemplateProcessing are"
                )
            }
            let parts = stage["single"]?.array ?? []
            guard let place = parts.firstIndex(where: { $0["Sequence"] != nil }), place <= 1,
                parts.count - place <= 2, parts[place]["Sequence"]?["id"]?.string == "A",
                draft.vocabulary.addsBOS == false, draft.vocabulary.suffix == nil
            else {
                throw refuse(
                    "its post_processor makes \(JSON.array(parts).brief) of a text; at most one token in front and one behind are done"
                )
            }
            func token(_ part: JSON) throws(PackError) -> UInt32 {
                let name = part["SpecialToken"]?["id"]?.string ?? ""
                let ids = stage["special_tokens"]?[name]?["ids"]?.array?.compactMap(\.integer) ?? []
                guard ids.count == 1, draft.vocabulary.kinds.indices.contains(ids[0]) else {
                    throw refuse(
                        "its post_processor puts \(ids.count) tokens \"\(name.quoted)\" beside a text; one of the vocabulary is done"
                    )
                }
                return UInt32(ids[0])
            }
            if place == 1 {
                // A post-processor that the tokenizer's class makes anew puts its own in front.
                let bos = try token(parts[0])
                if !ignoresTemplate {
                    draft.vocabulary.bos = bos
                    draft.vocabulary.addsBOS = true
                }
            }
            if parts.count - place == 2 { draft.vocabulary.suffix = try token(parts[place + 1]) }
        }
    }
}
