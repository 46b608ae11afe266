// SPDX-License-Identifier: Apache-2.0

package import ModelStore

extension Vocabulary {
    /// The tables as tokenizer.json, in the form that the `tokenizers` library loads.
    package var tokenizerJSON: JSON {
        let space = JSON.string(Self.space)
        let replace = Self.object([
            ("type", .string("Replace")), ("pattern", Self.object([("String", .string(" "))])),
            ("content", space),
        ])
        let prepend = Self.object([("type", .string("Prepend")), ("prepend", space)])
        let normalizer = Self.object([
            ("type", .string("Sequence")),
            ("normalizers", .array(addsSpacePrefix ? [prepend, replace] : [replace])),
        ])
        let metaspace = Self.object([
            ("type", .string("Metaspace")), ("replacement", space),
            ("prepend_scheme", .string("first")), ("split", .bool(false)),
        ])
        let stages: [(String, JSON)] = [
            ("normalizer", prefixesOnlyIfMissing ? .null : normalizer),
            ("pre_tokenizer", prefixesOnlyIfMissing ? metaspace : .null),
            ("post_processor", postProcessor), ("decoder", decoder),
        ]
        let members: [(String, JSON)] = [
            ("version", .string("1.0")), ("truncation", .null), ("padding", .null),
            ("added_tokens", .array(addedTokens)),
        ]
        return Self.object(
            members + (byteLevel.map(byteLevelMembers) ?? stages) + [("model", model)])
    }

    /// tokenizer_config.json for the same tokenizer.
    package func configJSON(_ templates: PackedTemplates) -> JSON {
        var members: [(String, JSON)] = [
            ("add_bos_token", .bool(addsBOS)), ("add_eos_token", .bool(false)),
        ]
        members += specialNames(templates)
        if let value = Self.chatTemplate(templates) { members.append(("chat_template", value)) }
        members += [
            ("clean_up_tokenization_spaces", .bool(false)), ("legacy", .bool(true)),
            ("tokenizer_class", .string("PreTrainedTokenizerFast")),
        ]
        return Self.object(members)
    }

    /// A text, or a list of named ones where there are several.
    private static func chatTemplate(_ templates: PackedTemplates) -> JSON? {
        guard !templates.named.isEmpty else { return templates.standard.map { .string($0) } }
        let all =
            (templates.standard.map { [.init(name: "default", source: $0)] } ?? [])
            + templates.named
        return .array(
            all.map {
                object([("name", .string($0.name)), ("template", .string($0.source))])
            })
    }

    /// special_tokens_map.json.
    package func specialTokensJSON(_ templates: PackedTemplates) -> JSON {
        Self.object(specialNames(templates))
    }

    /// Chat templates keep their own names of the first two.
    private func specialNames(_ templates: PackedTemplates) -> [(String, JSON)] {
        func name(_ id: UInt32?) -> String { id.map { text(Int($0)) } ?? "" }
        return [
            ("bos_token", templates.bosToken ?? name(bos)),
            ("eos_token", templates.eosToken ?? name(eos)),
            ("unk_token", name(unknown)), ("pad_token", name(padding)),
        ].filter { !$0.1.isEmpty }.map { ($0.0, .string($0.1)) }
    }

    /// generation_config.json, where a chat template's end token is not the first that ends an answer.
    package func generationJSON(_ templates: PackedTemplates) -> JSON? {
        guard let own = templates.eosToken, !endTokens.isEmpty, own != text(Int(endTokens[0]))
        else { return nil }
        return Self.object([
            ("eos_token_id", .array(endTokens.map { .integer(Int($0)) }))
        ])
    }

    private var addedTokens: [JSON] {
        kinds.indices.filter(isNamed).map { id in
            Self.object([
                ("id", .integer(id)), ("content", .string(text(id))),
                ("single_word", .bool(false)), ("lstrip", .bool(false)), ("rstrip", .bool(false)),
                ("normalized", .bool(normalized.contains(UInt32(id)))),
                ("special", .bool(kinds[id] != .userDefined)),
            ])
        }
    }

    private var model: JSON {
        // Of a byte-level vocabulary added tokens are no part.
        let vocabulary = kinds.indices.filter {
            kinds[$0] != .unused && (byteLevel == nil || !isNamed($0))
        }.map {
            JSON.Member(text($0), .integer($0))
        }
        return Self.object([
            ("type", .string("BPE")), ("dropout", .null),
            ("unk_token", unknown.map { .string(text(Int($0))) } ?? .null),
            ("continuing_subword_prefix", .null), ("end_of_word_suffix", .null),
            ("fuse_unk", .bool(byteLevel == nil)), ("byte_fallback", .bool(byteLevel == nil)),
            ("ignore_merges", .bool(byteLevel == .llama3)), ("vocab", .object(vocabulary)),
            ("merges", .array(mergeList)),
        ])
    }

    /// "a b", which every version of the library reads, unless a token holds a space itself.
    private var mergeList: [JSON] {
        let pairs = merges.map { (text(Int($0.left)), text(Int($0.right))) }
        let hasSpace = pairs.contains { $0.utf8.contains(0x20) || $1.utf8.contains(0x20) }
        return pairs.map { left, right in
            hasSpace ? .array([.string(left), .string(right)]) : .string("\(left) \(right)")
        }
    }

    var postProcessor: JSON {
        let front = addsBOS ? bos : nil
        guard front != nil || suffix != nil else { return .null }
        func special(_ id: UInt32?, _ type: Int) -> [JSON] {
            guard let id else { return [] }
            let names: [(String, JSON)] = [
                ("id", .string(text(Int(id)))), ("type_id", .integer(type)),
            ]
            return [Self.object([("SpecialToken", Self.object(names))])]
        }
        func sequence(_ id: String, _ type: Int) -> JSON {
            Self.object([
                ("Sequence", Self.object([("id", .string(id)), ("type_id", .integer(type))]))
            ])
        }
        func around(_ id: String, _ type: Int) -> [JSON] {
            special(front, type) + [sequence(id, type)] + special(suffix, type)
        }
        var entries: [(String, JSON)] = []
        for case let id? in front == suffix ? [front] : [front, suffix] {
            let name = JSON.string(text(Int(id)))
            entries.append(
                (
                    text(Int(id)),
                    Self.object([
                        ("id", name), ("ids", .array([.integer(Int(id))])),
                        ("tokens", .array([name])),
                    ])
                ))
        }
        return Self.object([
            ("type", .string("TemplateProcessing")), ("single", .array(around("A", 0))),
            ("pair", .array(around("A", 0) + around("B", 1))),
            ("special_tokens", Self.object(entries)),
        ])
    }

    var decoder: JSON {
        func stage(_ type: String) -> JSON { Self.object([("type", .string(type))]) }
        let replace = Self.object([
            ("type", .string("Replace")),
            ("pattern", Self.object([("String", .string(Self.space))])), ("content", .string(" ")),
        ])
        let strip = Self.object([
            ("type", .string("Strip")), ("content", .string(" ")), ("start", .integer(1)),
            ("stop", .integer(0)),
        ])
        let stages = [replace, stage("ByteFallback"), stage("Fuse")]
        return Self.object([
            ("type", .string("Sequence")),
            ("decoders", .array(addsSpacePrefix ? stages + [strip] : stages)),
        ])
    }

    static func object(_ members: [(String, JSON)]) -> JSON {
        .object(members.map { JSON.Member($0.0, $0.1) })
    }
}
