// SPDX-License-Identifier: Apache-2.0

package import ModelStore

/// config.json of a model with attention and ternary products: its defaults filled in, what is not computed refused.
///
/// Sources: transformers 5.24, models/{bitnet,llama,qwen3}/configuration_*.py, quantizers/quantizer_bitnet.py.
package struct AttentionConfig: Sendable, Equatable {
    package var shape: AttentionShape
    package var tokens = TokenizerNeeds()
    /// `_name_or_path`, if the file has one.
    package var name: String?
    /// What the file asks for that is survivable but not done.
    package var warnings: [String] = []

    /// What `model_type` says: a family, or nil for a model without attention.
    static func family(_ json: JSON) -> AttentionFamily? {
        switch json["model_type"]?.string {
        case "bitnet": .bitnet
        case "llama": .llama
        case "qwen3": .qwen3
        default: nil
        }
    }

    /// Reads and checks config.json. `file` is its name, for messages.
    package init(_ json: JSON, file: String) throws(PackError) {
        let reader = AttentionReader(reader: ConfigReader(json: json, file: file))
        guard let family = Self.family(json) else {
            throw reader.refuse(
                "model_type is \((json["model_type"] ?? .null).brief); \"hgrn_bit\", \"bitnet\", \"llama\" and \"qwen3\" are read"
            )
        }
        shape = AttentionShape(family)
        try reader.refuseForeign(family)
        warnings = try AttentionKeys.check(json, family, file: file)
        shape.vocabulary = try reader.size("vocab_size", \.vocabulary)
        shape.hidden = try reader.size("hidden_size", \.hidden)
        shape.intermediate = try reader.size("intermediate_size", \.intermediate)
        shape.layers = try reader.size("num_hidden_layers", \.layers)
        shape.heads = try reader.size("num_attention_heads", \.heads)
        // Null is as many as heads; absent, the class's own default.
        let usual = family == .bitnet ? 5 : family == .qwen3 ? 32 : shape.heads
        shape.keyHeads = try reader.size(
            "num_key_value_heads", \.keyHeads,
            default: json["num_key_value_heads"] == nil ? usual : shape.heads)
        try readHeadSize(reader)
        shape.context = try reader.size(
            "max_position_embeddings", \.context, default: family == .qwen3 ? 32768 : 2048)
        shape.epsilon = try reader.epsilon(
            "rms_norm_eps", default: family == .bitnet ? 1e-5 : 1e-6)
        shape.theta = try reader.theta(default: family == .bitnet ? 500_000 : 10000)
        shape.isTied = try reader.reader.flag("tie_word_embeddings", default: false)
        if family == .qwen3 {
            shape.innerEpsilon = shape.epsilon
            // It has no head.
            shape.isTied = false
        } else {
            try readQuantisation(reader)
        }
        tokens.vocabulary = shape.vocabulary
        tokens.bos = try reader.reader.tokens("bos_token_id", default: [], atMost: 1).first
        tokens.ends = try reader.reader.tokens("eos_token_id", default: [])
        tokens.padding = try reader.reader.tokens("pad_token_id", default: [], atMost: 1).first
        tokens.tokenizerClass = try reader.reader.text("tokenizer_class")
        name = json["_name_or_path"]?.string
        do { try shape.check() } catch { throw reader.refuse(error.description) }
    }

    private mutating func readHeadSize(_ reader: AttentionReader) throws(PackError) {
        let (d, h) = (shape.hidden, shape.heads)
        if reader.reader.isAbsent("head_dim"), shape.family != .qwen3 {
            guard d % h == 0 else {
                throw reader.refuse(
                    "hidden_size \(d) is not divisible by num_attention_heads \(h), and there is no head_dim"
                )
            }
            shape.headSize = d / h
        } else {
            shape.headSize = try reader.size("head_dim", \.headSize, default: 128)
        }
    }

    /// What of transformers' two classes of ternary products, and how their scales are meant.
    private mutating func readQuantisation(_ outer: AttentionReader) throws(PackError) {
        guard let json = outer.reader.json["quantization_config"], json.members != nil else {
            throw outer.refuse(
                "there is no quantization_config: transformers runs these weights as a dense model, and nothing says how they are to be made ternary"
            )
        }
        let reader = AttentionReader(
            reader: ConfigReader(json: json, file: outer.reader.file + ": quantization_config"))
        try reader.only("quant_method", ["bitnet"], default: nil)
        let kind = try reader.only(
            "linear_class", ["bitlinear", "autobitlinear"], default: "bitlinear")
        let mode = try reader.only(
            "quantization_mode", ["offline", "online"], default: "offline")
        shape.scaleSource =
            kind == "bitlinear" ? .reciprocal : mode == "online" ? .masters : .multiply
        if try reader.reader.flag("use_rms_norm", default: false) {
            shape.innerEpsilon = try reader.epsilon("rms_norm_eps", default: 1e-6)
        }
        // Null leaves the head dense; a list does so only if it says so.
        if let list = json["modules_to_not_convert"], !list.isNull {
            let names = list.array?.compactMap(\.string)
            guard let names, names.contains("lm_head"),
                names.allSatisfy({ ["lm_head", "model.embed_tokens"].contains($0) })
            else {
                throw reader.refuse(
                    "modules_to_not_convert is \(list.brief); only null and [\"lm_head\"] leave exactly the seven projections of every layer ternary"
                )
            }
        }
        let known = [
            "quant_method", "linear_class", "quantization_mode", "use_rms_norm", "rms_norm_eps",
            "modules_to_not_convert",
        ]
        for member in json.members ?? [] where !known.contains(member.name) && !member.value.isOff {
            throw reader.refuse(
                "\(member.name.quoted) is \(member.value.brief), which is not known")
        }
    }
}

/// Typed access to the members of a config.json of these families.
private struct AttentionReader {
    let reader: ConfigReader

    func refuse(_ what: String) -> PackError { .unsupported(file: reader.file, what: what) }

    func size(
        _ name: String, _ path: KeyPath<AttentionShape, Int>, default value: Int? = nil
    ) throws(PackError) -> Int {
        if reader.isAbsent(name), let value { return value }
        let limit = AttentionShape.limit(path)
        guard let size = reader.json[name]?.integer, (1...limit).contains(size) else {
            throw reader.wrong(name, "a whole number from 1 to \(limit)")
        }
        return size
    }

    func epsilon(_ name: String, default value: Double) throws(PackError) -> Float {
        let value = Float(try reader.number(name, default: value, in: 1e-12...1))
        guard value < 1 else { throw reader.wrong(name, "below 1") }
        return value
    }

    /// The text of `name`, one of `allowed`.
    @discardableResult
    func only(
        _ name: String, _ allowed: [String], default value: String?
    ) throws(PackError) -> String {
        let text = try reader.text(name) ?? value ?? ""
        guard allowed.contains(text) else {
            throw refuse(
                "\(name) is \((reader.json[name] ?? .null).brief); only "
                    + allowed.map { "\"\($0)\"" }.joined(separator: " and ") + " is read")
        }
        return text
    }

    /// The rotation's base. Rotations of other types have other angles.
    func theta(default value: Double) throws(PackError) -> Float {
        let range = 1.0...1e15
        var theta = try reader.number("rope_theta", default: value, in: range)
        try plain(reader, "config.json")
        for name in ["rope_parameters", "rope_scaling"] where !reader.isAbsent(name) {
            guard let json = reader.json[name], json.members != nil else {
                throw reader.wrong(name, "an object")
            }
            let inner = ConfigReader(json: json, file: "\(reader.file): \(name)")
            for key in ["rope_type", "type"] {
                let type = try inner.text(key, default: "default")
                guard type == "default" else {
                    throw refuse(
                        "\(name) has \(key) \"\(type.quoted)\"; only \"default\" is computed: others have other angles"
                    )
                }
            }
            try plain(inner, name)
            for member in json.members ?? []
            where !["rope_type", "type", "rope_theta", "partial_rotary_factor"].contains(
                member.name)
                && !member.value.isOff
            {
                throw refuse(
                    "\(name) has \(member.name.quoted) \(member.value.brief), which is not computed"
                )
            }
            if name == "rope_parameters" {
                theta = try inner.number("rope_theta", default: theta, in: range)
            }
        }
        guard Double(Float(theta)) == theta else {
            throw refuse("rope_theta \(theta) is no float32, which a packed file keeps")
        }
        return Float(theta)
    }

    private func plain(_ reader: ConfigReader, _ place: String) throws(PackError) {
        let factor = try reader.number("partial_rotary_factor", default: 1, in: 0...1)
        guard factor == 1 else {
            throw refuse("\(place) has partial_rotary_factor \(factor); only 1 is computed")
        }
    }

    /// Everything that makes the model another, refused by name.
    func refuseForeign(_ family: AttentionFamily) throws(PackError) {
        let classes: [String] =
            switch family {
            case .bitnet: ["BitNetForCausalLM", "BitnetForCausalLM"]
            case .llama: ["LlamaForCausalLM"]
            case .qwen3: ["Qwen3Model"]
            }
        if let value = reader.json["architectures"], !value.isNull {
            let names = value.array?.compactMap(\.string)
            guard let names, names.isEmpty || classes.contains(where: names.contains) else {
                throw refuse(
                    "architectures is \(value.brief); of model_type \((reader.json["model_type"] ?? .null).brief) only "
                        + "\(classes[0]) is read")
            }
        }
        try only(
            "hidden_act", [family == .bitnet ? "relu2" : "silu"],
            default: family == .bitnet ? "relu2" : "silu")
        for name in ["attention_bias", "mlp_bias", "use_sliding_window"]
        where try reader.flag(name, default: false) {
            throw refuse("\(name) is true, which is not computed")
        }
        if let types = reader.json["layer_types"], !types.isNull {
            guard types.array?.allSatisfy({ $0.string == "full_attention" }) == true else {
                throw refuse(
                    "layer_types is \(types.brief); only \"full_attention\" is computed")
            }
        }
        if family == .qwen3, !reader.isAbsent("quantization_config") {
            throw refuse(
                "there is a quantization_config, which a ternary Qwen3 embedding model of float masters has not"
            )
        }
    }
}

/// What the members of config.json mean to a model with attention.
enum AttentionKeys {
    private static let read: Set<String> = [
        "architectures", "attention_bias", "bos_token_id", "dtype", "eos_token_id", "head_dim",
        "hidden_act", "hidden_size", "intermediate_size", "layer_types", "max_position_embeddings",
        "mlp_bias", "model_type", "num_attention_heads", "num_hidden_layers",
        "num_key_value_heads", "pad_token_id", "partial_rotary_factor", "quantization_config",
        "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta", "tie_word_embeddings",
        "torch_dtype", "use_sliding_window", "vocab_size", "_name_or_path",
    ]

    /// What changes nothing here beside what changes no model's logits.
    private static let inert: Set<String> = [
        "attention_dropout", "auto_map", "is_bitnet_config", "max_window_layers", "pretraining_tp",
    ]

    /// Refuses what makes another model, and says what else is not understood.
    static func check(
        _ config: JSON, _ family: AttentionFamily, file: String
    ) throws(PackError) -> [String] {
        var unknown: [String] = []
        for member in config.members ?? []
        where !read.contains(member.name) && !inert.contains(member.name) {
            // Without use_sliding_window it says nothing.
            if member.name == "sliding_window", family == .qwen3 { continue }
            switch ConfigKeys.meaning(of: member) {
            case .foreign:
                throw .unsupported(
                    file: file,
                    what: "\(member.name) is \(member.value.brief), which is not computed here")
            case .known: break
            case .unknown: unknown.append("\(member.name.quoted) \(member.value.brief)")
            }
        }
        var warnings = ConfigKeys.sampling(config, file: "config.json")
        if !unknown.isEmpty {
            warnings.append(
                "config.json: not known here, ignoring: \(unknown.prefix(20).joined(separator: ", ")). If the code this "
                    + "checkpoint needs reads them, it computes something else")
        }
        return warnings
    }
}
