// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
internal import SystemPackage

/// What the files beside a vocabulary say: tokenizer_config.json, special_tokens_map.json, added_tokens.json,
/// generation_config.json and config.json. Read as transformers 4.57 reads them (tokenization_utils_base.py `_from_pretrained`,
/// tokenization_utils_fast.py, models/llama/tokenization_llama_fast.py).
struct TokenizerSettings {
    private let directory: FilePath
    private let model: TokenizerNeeds
    private let config, map, added, generation: JSON
    private let reader: ConfigReader
    /// The tokenizer's class, "Fast" left out.
    private let kind: String?
    /// Whether transformers makes the tokenizer from tokenizer.model anew, although there is a tokenizer.json.
    let isRebuilt: Bool

    init(_ directory: FilePath, _ model: TokenizerNeeds) throws(PackError) {
        func read(_ name: String) throws(PackError) -> JSON {
            let path = directory.appending(name)
            guard InputFile.exists(path) else { return .null }
            let json = try Checkpoint.json(path)
            guard json.members != nil else {
                throw .malformed(file: path.string, what: "it is \(json.kind), not an object")
            }
            return json
        }
        self.directory = directory
        self.model = model
        config = try read("tokenizer_config.json")
        map = try read("special_tokens_map.json")
        added = try read("added_tokens.json")
        generation = try read("generation_config.json")
        reader = ConfigReader(
            json: config, file: directory.appending("tokenizer_config.json").string)
        let name = try reader.text("tokenizer_class") ?? model.tokenizerClass
        kind = name.map { $0.hasSuffix("Fast") ? String($0.dropLast(4)) : $0 }
        let fromSlow = try reader.flag("from_slow", default: false)
        isRebuilt = try reader.flag("add_prefix_space") != nil || fromSlow
        guard !isModern || config["added_tokens_decoder"]?.members != nil else {
            throw reader.wrong("added_tokens_decoder", "an object")
        }
    }

    private func path(_ name: String) -> String { directory.appending(name).string }

    /// Whether the class puts tokens in front by its flags, whatever tokenizer.json says.
    var isLlama: Bool {
        guard let kind else { return !InputFile.exists(directory.appending("tokenizer.json")) }
        return ["LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer"].contains(kind)
    }

    func apply(to draft: inout VocabularyDraft) throws(PackError) {
        try applySpaces(to: &draft)
        try addTokens(to: &draft)
        try applyBOS(to: &draft)
        try applyEnds(to: &draft)
        try warn(&draft)
    }

    /// The chat templates, with what transformers gives them as `bos_token` and `eos_token`.
    func chatTemplates() throws(PackError) -> (PackedTemplates, warnings: [String]) {
        let found = try TemplateImport(directory, config: config)
        var templates = found.templates
        if !templates.isEmpty {
            templates.bosToken = try special("bos_token")?.content ?? ""
            templates.eosToken = try special("eos_token")?.content ?? ""
        }
        return (templates, found.warnings)
    }

    // MARK: Added tokens

    /// Where tokenizer_config.json lists the added tokens, transformers reads neither of the two older files.
    var isModern: Bool { config["added_tokens_decoder"] != nil }

    private func addTokens(to draft: inout VocabularyDraft) throws(PackError) {
        var tokens: [AddedToken] = []
        for member in config["added_tokens_decoder"]?.members ?? [] {
            let file = path("tokenizer_config.json")
            guard let id = Int(member.name), let content = member.value["content"]?.string else {
                throw .malformed(
                    file: file, what: "added_tokens_decoder[\"\(member.name.quoted)\"]")
            }
            tokens.append(
                try AddedToken(id: id, content: content, flags: member.value, file: file))
        }
        let named = try names.map { name throws(PackError) in try special(name) }
        let specials = Set(named.compactMap { $0?.content }.map(ByteString.init))
        for member in added.members ?? [] {
            let file = path("added_tokens.json")
            guard let id = member.value.integer else {
                throw .malformed(
                    file: file, what: "the id of \"\(member.name.quoted)\" is \(member.value.brief)"
                )
            }
            let isSpecial = specials.contains(ByteString(member.name))
            if isModern, draft.id(of: member.name).map(Int.init) != id,
                !tokens.contains(where: { $0.id == id && $0.content.isSame(as: member.name) })
            {
                throw .malformed(
                    file: file,
                    what:
                        "token \(id) is \"\(member.name.quoted)\", of which added_tokens_decoder in "
                        + "tokenizer_config.json, which goes first, knows nothing")
            }
            if !isModern {
                tokens.append(
                    AddedToken(id: id, content: member.name, isSpecial: isSpecial, file: file))
            }
        }
        if !tokens.isEmpty, draft.vocabulary.source == .sentencePiece {
            // transformers looks for them as for those of a tokenizer.json.
            draft.vocabulary.source = .json
        }
        for token in tokens.sorted(by: { ($0.id ?? 0) < ($1.id ?? 0) }) { try draft.add(token) }
        for case let token? in named + (try extras()) { try addNamed(token, to: &draft) }
    }

    /// A token that is only named special: transformers appends it where the vocabulary has none of that name.
    private func addNamed(
        _ token: AddedToken, to draft: inout VocabularyDraft
    ) throws(PackError) {
        if let id = draft.id(of: token.content), draft.vocabulary.kinds[Int(id)] == .normal {
            draft.warnings.append(
                "\(token.file): the special token \"\(token.content.quoted)\" is an ordinary piece of the "
                    + "vocabulary; texts are not cut at it, and answers leave it out")
        }
        try draft.add(token)
    }

    private let names = [
        "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
    ]

    private func extras() throws(PackError) -> [AddedToken?] {
        var tokens: [AddedToken?] = []
        for name in ["additional_special_tokens", "extra_special_tokens"] {
            let isOlder = !isModern && map[name] != nil
            let reader = isOlder ? ConfigReader(json: map, file: path(Self.map)) : self.reader
            if reader.isAbsent(name) { continue }
            let value = reader.json[name]
            guard let items = value?.array ?? value?.members?.map(\.value) else {
                throw reader.wrong(name, "a list of tokens")
            }
            for item in items {
                guard let content = item.string ?? item["content"]?.string else {
                    throw reader.wrong(name, "a list of tokens")
                }
                tokens.append(
                    AddedToken(id: nil, content: content, isSpecial: true, file: reader.file))
            }
        }
        return tokens
    }

    private static let map = "special_tokens_map.json"

    /// The token that the files call `name`.
    private func special(_ name: String) throws(PackError) -> AddedToken? {
        let isOlder = !isModern && map[name] != nil
        let file = path(isOlder ? Self.map : "tokenizer_config.json")
        guard let value = isOlder ? map[name] : config[name] else {
            // The class's own.
            let usual =
                kind == "GemmaTokenizer"
                ? [
                    "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>",
                    "pad_token": "<pad>",
                ][name] : ["bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"][name]
            return isLlama
                ? usual.map { AddedToken(id: nil, content: $0, isSpecial: true, file: file) } : nil
        }
        if value.isNull { return nil }
        guard let content = value.string ?? value["content"]?.string else {
            throw .malformed(file: file, what: "\(name) is \(value.brief), which names no token")
        }
        return AddedToken(id: nil, content: content, isSpecial: true, file: file)
    }

    private func id(_ name: String, _ draft: VocabularyDraft) throws(PackError) -> UInt32? {
        guard let token = try special(name) else { return nil }
        return draft.id(of: token.content)
    }

    private func row(_ id: Int?) -> UInt32? {
        id.flatMap { (0..<model.vocabulary).contains($0) ? UInt32($0) : nil }
    }

    // MARK: What goes before and behind a text

    private func applyBOS(to draft: inout VocabularyDraft) throws(PackError) {
        let file = path("tokenizer_config.json")
        let named = try special("bos_token")
        let bos = try id("bos_token", draft)
        let inFront = draft.vocabulary.addsBOS ? draft.vocabulary.bos : nil
        // Null is false to transformers.
        let flag =
            config["add_bos_token"]?.isNull == true ? false : try reader.flag("add_bos_token")
        if isLlama {
            draft.vocabulary.addsBOS = flag ?? true
            guard !draft.vocabulary.addsBOS || named != nil else {
                throw .unsupported(
                    file: file,
                    what: "bos_token is null and add_bos_token true, which transformers refuses: "
                        + "name the token, or set add_bos_token to false")
            }
            draft.vocabulary.bos = bos ?? row(model.bos) ?? draft.vocabulary.bos
        } else {
            if kind == nil, let flag { draft.vocabulary.addsBOS = flag }
            draft.vocabulary.bos = inFront ?? bos ?? row(model.bos) ?? draft.vocabulary.bos
            if kind != nil, let flag, flag != draft.vocabulary.addsBOS {
                draft.warnings.append(
                    "tokenizer_config.json: add_bos_token is \(flag), which \(kind ?? "") of transformers 4 passes over: "
                        + "what counts is the post_processor of tokenizer.json, which "
                        + (flag ? "puts no token in front" : "puts one in front"))
            }
        }
        if draft.vocabulary.addsBOS, let named, bos == nil {
            throw .unsupported(
                file: named.file,
                what:
                    "bos_token is \"\(named.content.quoted)\", which is put before every text and is no token of the model"
            )
        }
        if draft.vocabulary.addsBOS, draft.vocabulary.bos == nil {
            draft.warnings.append("no bos_token is named: none is put before a text")
            draft.vocabulary.addsBOS = false
        }
        if try reader.flag("add_eos_token", default: false), isLlama || kind == nil {
            throw .unsupported(
                file: file,
                what:
                    "add_eos_token is true: the end token is put behind every prompt, which is not done. "
                    + "Set it to false to pack the model without")
        }
        let (unknown, padding) = (try id("unk_token", draft), try id("pad_token", draft))
        draft.vocabulary.unknown = draft.vocabulary.unknown ?? unknown
        draft.vocabulary.padding = padding ?? row(model.padding) ?? draft.vocabulary.padding
    }

    // MARK: Where answers end

    /// transformers ends answers at what generation_config.json says, or else config.json; chat templates and trainers go by the
    /// tokenizer's end token. Answers end at any of them.
    private func applyEnds(to draft: inout VocabularyDraft) throws(PackError) {
        let file = path("generation_config.json")
        let asked = try ConfigReader(json: generation, file: file).tokens(
            "eos_token_id", default: model.ends)
        let source = generation["eos_token_id"] == nil ? "config.json" : "generation_config.json"
        let rows = asked.compactMap(row)
        if rows.count < asked.count {
            draft.warnings.append(
                "\(source): eos_token_id \(asked) is not all among the model's \(model.vocabulary) tokens: answers cannot end there"
            )
        }
        let named = try special("eos_token")
        let own = try id("eos_token", draft)
        if let named, own == nil {
            draft.warnings.append(
                "\(named.file): eos_token \"\(named.content.quoted)\" is no token of the model: answers cannot end there"
            )
        }
        if let own, !rows.isEmpty, !rows.contains(own) {
            draft.warnings.append(
                "\(source) ends answers at token \(rows.map(String.init).joined(separator: ", ")), the tokenizer's end token is "
                    + "\(own) \"\(draft.vocabulary.text(Int(own)).quoted)\": answers end at either")
        }
        let first =
            source == "config.json"
            ? [own].compactMap { $0 } + rows : rows + [own].compactMap { $0 }
        var ends: [UInt32] = []
        for id in first where !ends.contains(id) { ends.append(id) }
        if !ends.isEmpty { draft.vocabulary.endTokens = ends }
        // Named in the settings only: still never part of a text.
        for id in ends + [draft.vocabulary.bos].compactMap({ $0 })
        where Int(id) < draft.vocabulary.count && draft.vocabulary.kinds[Int(id)] == .normal {
            draft.vocabulary.kinds[Int(id)] = .control
        }
    }

    // MARK: Spaces

    private func applySpaces(to draft: inout VocabularyDraft) throws(PackError) {
        if draft.vocabulary.byteLevel != nil, isLlama { return }
        guard isLlama else {
            if let flag = try reader.flag("add_prefix_space"), kind != nil,
                flag != draft.vocabulary.addsSpacePrefix
            {
                draft.warnings.append(
                    "tokenizer_config.json: add_prefix_space is \(flag), ignoring: tokenizer.json says \(!flag)"
                )
            }
            return
        }
        if let flag = try reader.flag("add_prefix_space") {
            draft.vocabulary.addsSpacePrefix = flag
        }
        let isRebuilt = draft.vocabulary.source == .sentencePiece || isRebuilt
        if try reader.flag("legacy") == false, isRebuilt {
            draft.vocabulary.prefixesOnlyIfMissing = draft.vocabulary.addsSpacePrefix
        }
        if !draft.vocabulary.addsSpacePrefix { draft.vocabulary.prefixesOnlyIfMissing = false }
    }

    // MARK: What is not done

    /// Members of tokenizer_config.json that change neither tokens nor text here, or are read above.
    private static let known: Set<String> = [
        "add_bos_token", "add_eos_token", "add_prefix_space", "added_tokens_decoder",
        "additional_special_tokens", "backend", "bos_token", "chat_template", "cls_token",
        "device_map",
        "eos_token", "errors", "extra_special_tokens", "from_slow", "is_local", "legacy",
        "mask_token",
        "max_len", "max_length", "model_input_names", "model_max_length", "name_or_path",
        "pad_to_multiple_of", "pad_token", "pad_token_id", "pad_token_type_id", "padding",
        "padding_side",
        "processor_class", "return_token_type_ids", "sep_token", "spaces_between_special_tokens",
        "special_tokens_map_file", "split_special_tokens", "stride", "tokenizer_class",
        "tokenizer_file",
        "transformers_version", "trust_remote_code", "truncation", "truncation_side",
        "truncation_strategy", "unk_token", "use_default_system_prompt", "use_fast", "vocab_file",
    ]

    private func warn(_ draft: inout VocabularyDraft) throws(PackError) {
        let classes = ["PreTrainedTokenizer", "TokenizersBackend", "Qwen2Tokenizer"]
        if let kind, !isLlama, !classes.contains(kind) {
            draft.warnings.append(
                "tokenizer_config.json: tokenizer_class \(kind.quoted) is not known here: its files are read as "
                    + "PreTrainedTokenizerFast reads them")
        }
        if try reader.flag("clean_up_tokenization_spaces", default: false) {
            draft.warnings.append(
                "tokenizer_config.json: clean_up_tokenization_spaces is true, ignoring: transformers takes "
                    + "spaces before punctuation out of answers")
        }
        let others = (config.members ?? []).filter {
            !Self.known.contains($0.name) && !$0.value.isOff
                && $0.name != "clean_up_tokenization_spaces"
        }
        if !others.isEmpty {
            draft.warnings.append(
                "tokenizer_config.json: not known here, ignoring: "
                    + others.prefix(20).map { "\($0.name.quoted) \($0.value.brief)" }
                    .joined(separator: ", "))
        }
        draft.warnings += ConfigKeys.generation(generation)
    }
}
