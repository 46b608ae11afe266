// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import ModelStore

/// Writes a packed file of a model with attention back out as a checkpoint. BitNet and Llama: trits by quarters, or as floats
/// where rows are no multiple of four, with `weight_scale` to multiply by. Qwen3: masters −w, 0 and w, which pack again with
/// `--ternary-masters keep`. Norms and the embedding's q6 become F32.
struct AttentionUnpack {
    private enum Source {
        case copy(TensorInfo)
        case q6(TensorInfo)
        case trits(PackedMatrix)
        case scale(Float)
    }

    private let file: AttentionFile
    private let name: String
    private(set) var tensors: [SafetensorsWriter.Tensor] = []
    private var sources: [Source] = []

    var vocabulary: Int { file.shape.vocabulary }

    init(_ packed: PackedFile) throws(StoreError) {
        file = try AttentionFile(packed)
        name = try packed.metadata.string(forKey: FormatKeys.name)
        let isQwen = file.shape.family == .qwen3
        guard !isQwen || file.shape.pooling == .last && file.shape.normalizes else {
            throw .malformed(
                "its vectors are \(file.shape.pooling) rows\(file.shape.normalizes ? "" : ", not normalised"), which a checkpoint says in modules.json: that is not written"
            )
        }
        for role in file.layout.roles where role.kind != .ternary {
            let info =
                role.kind == .dense
                ? try packed.dense(role) : try packed.tensor(role, file.encoding)
            let isCoded = role.kind == .embedding && file.encoding == .q6
            let type: ElementType =
                isCoded ? .f32 : info.type == .f16 ? .f16 : info.type == .bf16 ? .bf16 : .f32
            add(role.name, type, role.shape, isCoded ? .q6(info) : .copy(info))
        }
        for product in file.layout.products {
            let matrix = try packed.matrix(product.weight)
            let (rows, columns) = (matrix.rows, matrix.columns)
            if isQwen || rows % 4 != 0 {
                add(product.weight.name, .f32, [rows, columns], .trits(matrix))
            } else {
                add(product.weight.name, .u8, [rows / 4, columns], .trits(matrix))
            }
            if !isQwen { add(product.scale, .f32, [1], .scale(matrix.scale)) }
        }
    }

    private mutating func add(
        _ name: String, _ type: ElementType, _ shape: [Int], _ source: Source
    ) {
        tensors.append(.init(name: name, type: type, shape: shape))
        sources.append(source)
    }

    /// Writes one tensor's bytes.
    func write(
        _ index: Int, to writer: inout SafetensorsWriter, step: () throws(PackError) -> Void
    ) throws(PackError) {
        let packed = file.file
        try step()
        switch sources[index] {
        case .copy(let info): try writer.append(packed.bytes(of: info))
        case .scale(let scale): try writer.append([scale])
        case .q6(let info):
            let columns = tensors[index].shape[1]
            let base = packed.pointer(to: info).assumingMemoryBound(to: UInt8.self)
            let rowBytes = ck_q6_row_bytes(columns)
            for row in 0..<tensors[index].shape[0] {
                try writer.append(
                    [Float](unsafeUninitializedCapacity: columns) { buffer, done in
                        if let out = buffer.baseAddress {
                            ck_q6_decode(base + row * rowBytes, columns, out)
                        }
                        done = columns
                    })
            }
        case .trits(let matrix):
            let (rows, columns, info) = (matrix.rows, matrix.columns, matrix.info)
            let base = packed.pointer(to: info).assumingMemoryBound(to: UInt8.self)
            guard ck_check_packed(base, info.byteCount) == info.byteCount else {
                throw .tensor(info.name, what: "it holds a byte that is no code")
            }
            let trits = [Int8](unsafeUninitializedCapacity: rows * columns) { buffer, done in
                if let out = buffer.baseAddress { ck_unpack(base, rows, columns, out) }
                done = rows * columns
            }
            if tensors[index].type == .u8 {
                let quarter = rows / 4 * columns
                try writer.append(
                    (0..<quarter).map { at in
                        (0..<4).reduce(UInt8(0)) {
                            $0 | UInt8(trits[at + $1 * quarter] + 1) << UInt8(2 * $1)
                        }
                    })
            } else {
                let scale: Float = file.shape.family == .qwen3 ? matrix.scale : 1
                try writer.append(trits.map { Float($0) * scale })
            }
        }
    }

    /// config.json for what is written.
    func config(_ tokenizer: Vocabulary?) -> JSON {
        let shape = file.shape
        func id(_ value: UInt32?) -> JSON { value.map { .integer(Int($0)) } ?? .null }
        func number(_ value: Float) -> JSON { .number(Double(value.description) ?? Double(value)) }
        func object(_ members: [(String, JSON)]) -> JSON {
            .object(members.map { JSON.Member($0.0, $0.1) })
        }
        let (type, architecture, activation) =
            switch shape.family {
            case .bitnet: ("bitnet", "BitNetForCausalLM", "relu2")
            case .llama: ("llama", "LlamaForCausalLM", "silu")
            case .qwen3: ("qwen3", "Qwen3Model", "silu")
            }
        var members: [(String, JSON)] = [
            ("architectures", .array([.string(architecture)])), ("model_type", .string(type)),
            ("vocab_size", .integer(shape.vocabulary)), ("hidden_size", .integer(shape.hidden)),
            ("intermediate_size", .integer(shape.intermediate)),
            ("num_hidden_layers", .integer(shape.layers)),
            ("num_attention_heads", .integer(shape.heads)),
            ("num_key_value_heads", .integer(shape.keyHeads)),
            ("head_dim", .integer(shape.headSize)), ("hidden_act", .string(activation)),
            ("rms_norm_eps", number(shape.epsilon)), ("rope_theta", number(shape.theta)),
            ("max_position_embeddings", .integer(shape.context)),
            ("tie_word_embeddings", .bool(shape.isTied)),
            ("bos_token_id", id(tokenizer?.bos)),
            ("eos_token_id", .array((tokenizer?.endTokens ?? []).map { .integer(Int($0)) })),
            ("pad_token_id", id(tokenizer?.padding)), ("_name_or_path", .string(name)),
        ]
        if shape.family != .qwen3 {
            var how: [(String, JSON)] = [
                ("quant_method", .string("bitnet")), ("linear_class", .string("autobitlinear")),
                ("quantization_mode", .string("offline")),
            ]
            if let epsilon = shape.innerEpsilon {
                how += [("use_rms_norm", .bool(true)), ("rms_norm_eps", number(epsilon))]
            }
            members.append(("quantization_config", object(how)))
        }
        return object(members)
    }
}
