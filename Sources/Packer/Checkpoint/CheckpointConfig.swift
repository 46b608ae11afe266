// SPDX-License-Identifier: Apache-2.0

package import ModelStore

/// config.json of an HGRNBit checkpoint, its defaults filled in and its limits checked.
package struct CheckpointConfig: Sendable, Equatable {
    package var shape = ModelShape()
    package var bos: Int? = 1
    /// Where answers end.
    package var ends: [Int] = [2]
    package var padding: Int?
    /// `_name_or_path`, if the file has one.
    package var name: String?
    /// The type that `torch_dtype` says the weights have.
    package var type: String?
    /// The tokenizer's class, where tokenizer_config.json names none.
    package var tokenizerClass: String?
    /// What the file asks for that is survivable but not done.
    package var warnings: [String] = []

    package init() {}

    /// All tensors, in the order of the packed file.
    package var roles: [TensorRole] { TensorLayout(shape).roles }

    /// Reads and checks config.json. `file` is its name, for messages.
    package init(_ json: JSON, file: String) throws(PackError) {
        guard json.members != nil else {
            throw .malformed(file: file, what: "it is \(json.kind), not an object")
        }
        let reader = ConfigReader(json: json, file: file)
        try Self.refuseForeign(reader)
        warnings = try ConfigKeys.check(json, file: file)
        shape.vocabulary = try reader.size("vocab_size", \.vocabulary)
        shape.hidden = try reader.size("hidden_size", \.hidden)
        shape.layers = try reader.size("num_hidden_layers", \.layers)
        shape.heads = try reader.size("num_heads", \.heads)
        shape.context = try reader.size("max_position_embeddings", \.context)
        let expandRatio = try reader.number("expand_ratio", default: 1, in: 0.001...64)
        shape.inner = Int(Double(shape.hidden) * expandRatio)
        shape.hasLowerBound = try reader.flag("use_lower_bound", default: true)
        let hiddenRatio = try reader.number("hidden_ratio", default: 4, in: 0.001...1024)
        shape.epsilon = Float(try reader.number("rms_norm_eps", default: 1e-6, in: 1e-12...1))
        guard shape.epsilon < 1 else { throw reader.wrong("rms_norm_eps", "below 1") }
        for other in ["norm_eps", "layer_norm_eps", "layer_norm_epsilon"] {
            guard let value = json[other], !value.isNull,
                value.number.map(Float.init) != shape.epsilon
            else { continue }
            throw .unsupported(
                file: file,
                what:
                    "\(other) is \(value.brief) and rms_norm_eps \(shape.epsilon); only the latter is read"
            )
        }
        shape.isTied = try reader.flag("tie_word_embeddings", default: false)
        bos = try reader.tokens("bos_token_id", default: [1], atMost: 1).first
        ends = try reader.tokens("eos_token_id", default: [2])
        padding = try reader.tokens("pad_token_id", default: [], atMost: 1).first
        name = json["_name_or_path"]?.string
        tokenizerClass = try reader.text("tokenizer_class")
        let older = try reader.text("torch_dtype")
        type = try reader.text("dtype") ?? older

        if reader.isAbsent("intermediate_size") {
            let size = Int(Double(shape.hidden) * hiddenRatio * 2 / 3)
            shape.intermediate = (size + 255) / 256 * 256
        } else {
            shape.intermediate = try reader.size("intermediate_size", \.intermediate)
        }
        try checkWidths(file, expandRatio)
        // What no reader of the packed file takes is not packed.
        do { try shape.check() } catch { throw .unsupported(file: file, what: error.description) }
    }

    private func checkWidths(_ file: String, _ expandRatio: Double) throws(PackError) {
        func refuse(_ what: String) -> PackError { .unsupported(file: file, what: what) }
        let (d, e, i, heads) = (shape.hidden, shape.inner, shape.intermediate, shape.heads)
        guard (1...ModelShape.limit(\.intermediate)).contains(i) else {
            throw refuse("the intermediate size comes to \(i)")
        }
        guard d % heads == 0 else {
            throw refuse("hidden_size \(d) is not divisible by num_heads \(heads)")
        }
        guard (1...ModelShape.limit(\.inner)).contains(e) else {
            throw refuse("expand_ratio \(expandRatio) makes the recurrence \(e) wide")
        }
        guard e % heads == 0 else {
            throw refuse("the recurrence's width \(e) is not divisible by num_heads \(heads)")
        }
        // Upstream fails too: lower_bounds is [L, D], the gate [., E].
        if e != d, shape.hasLowerBound, shape.layers > 1 {
            throw refuse(
                "expand_ratio \(expandRatio) with use_lower_bound is not defined: the lower "
                    + "bounds are \(d) wide, the gates \(e)")
        }
        for (rows, columns) in [(shape.vocabulary, d), (2 * i, d), (e, d)]
        where rows * columns > 1 << 31 {
            throw refuse("a matrix of \(rows) x \(columns) is beyond anything published")
        }
    }

    /// Everything that makes a model another architecture, refused by name.
    private static func refuseForeign(_ reader: ConfigReader) throws(PackError) {
        func refuse(_ what: String) -> PackError { .unsupported(file: reader.file, what: what) }
        let type = try reader.text("model_type", default: "hgrn_bit")
        guard type == "hgrn_bit" else {
            throw refuse(
                "model_type is \"\(type.quoted)\"; \"hgrn_bit\", \"bitnet\", \"llama\" and \"qwen3\" are read"
            )
        }
        if let value = reader.json["architectures"], !value.isNull {
            let names = value.array?.compactMap(\.string)
            guard let names, names.contains("HGRNBitForCausalLM") || names.isEmpty else {
                throw refuse(
                    "architectures is \(names?.description.quoted ?? "no list of names"); "
                        + "only HGRNBitForCausalLM is read")
            }
        }
        let mode = try reader.text("attn_mode", default: "fused_recurrent")
        guard mode == "fused_recurrent" else {
            throw refuse(
                "attn_mode is \"\(mode.quoted)\"; only \"fused_recurrent\" is defined")
        }
        if try reader.flag("use_short_conv", default: false) {
            throw refuse(
                "use_short_conv is true; the original code fails on such models "
                    + "(ShortConvolution.forward is called with an argument it does not take), "
                    + "so there is nothing to agree with")
        }
    }
}

/// Typed access to config.json's members; null counts as absent.
struct ConfigReader {
    let json: JSON
    let file: String

    func isAbsent(_ name: String) -> Bool { json[name]?.isNull ?? true }

    func wrong(_ name: String, _ wanted: String) -> PackError {
        .malformed(
            file: file, what: "\(name) is \(json[name]?.brief ?? "absent"); it must be \(wanted)")
    }

    func size(_ name: String, _ path: KeyPath<ModelShape, Int>) throws(PackError) -> Int {
        if isAbsent(name) { return ModelShape()[keyPath: path] }
        let limit = ModelShape.limit(path)
        guard let size = json[name]?.integer, (1...limit).contains(size) else {
            throw wrong(name, "a whole number from 1 to \(limit)")
        }
        return size
    }

    func number(
        _ name: String, default value: Double, in range: ClosedRange<Double>
    ) throws(PackError) -> Double {
        if isAbsent(name) { return value }
        guard let number = json[name]?.number, range.contains(number) else {
            throw wrong(name, "a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    func flag(_ name: String) throws(PackError) -> Bool? {
        if isAbsent(name) { return nil }
        guard let flag = json[name]?.bool else { throw wrong(name, "true or false") }
        return flag
    }

    func flag(_ name: String, default value: Bool) throws(PackError) -> Bool {
        try flag(name) ?? value
    }

    func text(_ name: String) throws(PackError) -> String? {
        if isAbsent(name) { return nil }
        guard let text = json[name]?.string else { throw wrong(name, "a string") }
        return text
    }

    func text(_ name: String, default value: String) throws(PackError) -> String {
        try text(name) ?? value
    }

    /// A token id, or a list of them. Null and numbers below 0 ("none" in early Llama configurations) are none.
    func tokens(
        _ name: String, default value: [Int], atMost limit: Int = 64
    ) throws(PackError) -> [Int] {
        guard let given = json[name] else { return value }
        if given.isNull { return [] }
        let items = given.array ?? [given]
        let ids = items.compactMap(\.integer).filter { $0 <= Int(Int32.max) }
        guard ids.count == items.count, ids.count <= limit else {
            throw wrong(
                name, limit == 1 ? "a token id" : "a token id or a list of at most \(limit)")
        }
        return ids.filter { $0 >= 0 }
    }
}
