// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import ModelStore

/// Writes an HGRNBit model back out. Ternary matrices become {-s, 0, +s} in the type they came in, norms F32, the embedding as it
/// is stored (q6: F32). Packing the result gives the same trits and scales, with one exception: a matrix with a single weight that
/// is not zero, which by definition is not taken as ternary.
struct HGRNBitUnpack {
    /// What a tensor of the checkpoint is made of.
    private enum Source {
        case copy(TensorInfo)
        case q6(TensorInfo)
        case trits(PackedMatrix)
    }

    private let file: PackedFile
    private let shape: ModelShape
    private let name: String
    /// A tied head is left to the embedding, unless that was made coarser than the head's trits.
    private let isTied: Bool
    private(set) var tensors: [SafetensorsWriter.Tensor] = []
    /// One for each of `tensors`.
    private var sources: [Source] = []

    /// Checks that `file` holds all tensors of its model, in their sizes.
    init(_ file: PackedFile) throws(StoreError) {
        self.file = file
        shape = try ModelShape(file.metadata)
        name = try file.metadata.string(forKey: FormatKeys.name)
        let encoding = try EmbeddingEncoding(file.metadata)
        isTied = shape.isTied && encoding != .q6
        let layout = TensorLayout(shape)
        for role in layout.roles where !isTied || role != layout.head.weight {
            let source = try Self.source(of: role, in: file, encoding)
            tensors.append(
                .init(name: role.name, type: try Self.type(of: source), shape: role.shape))
            sources.append(source)
        }
    }

    var vocabulary: Int { shape.vocabulary }

    private static func source(
        of role: TensorRole, in file: PackedFile, _ encoding: EmbeddingEncoding
    ) throws(StoreError) -> Source {
        if role.kind == .ternary { return .trits(try file.matrix(role)) }
        let info = try file.tensor(role, encoding)
        return role.kind == .embedding && encoding == .q6 ? .q6(info) : .copy(info)
    }

    /// The type a tensor is written in; of ternary weights the one they had, unless it cannot hold the scale.
    private static func type(of source: Source) throws(StoreError) -> ElementType {
        switch source {
        case .copy(let info): return info.type == .f16 ? .f16 : info.type == .bf16 ? .bf16 : .f32
        case .q6: return .f32
        case .trits(let matrix):
            guard let type = ElementType(rawValue: matrix.sourceType), type.isFloat else {
                throw .malformed(
                    "tensor \(matrix.info.name) was made of \(matrix.sourceType.quoted); F32, F16 and BF16 are written"
                )
            }
            return type.rounded(matrix.scale) == matrix.scale ? type : .f32
        }
    }

    // MARK: - Data

    /// Writes one tensor's bytes; `step` is called now and then, to stop.
    func write(
        _ index: Int, to writer: inout SafetensorsWriter, step: () throws(PackError) -> Void
    ) throws(PackError) {
        let tensor = tensors[index]
        try step()
        switch sources[index] {
        case .copy(let info): try writer.append(file.bytes(of: info))
        case .q6(let info):
            try write(rowsOf: info, columns: tensor.shape[1], to: &writer, step)
        case .trits(let matrix): try write(matrix, tensor.type, to: &writer, step)
        }
    }

    private func write(
        _ matrix: PackedMatrix, _ type: ElementType, to writer: inout SafetensorsWriter,
        _ step: () throws(PackError) -> Void
    ) throws(PackError) {
        let (rows, columns, info) = (matrix.rows, matrix.columns, matrix.info)
        let packed = file.pointer(to: info).assumingMemoryBound(to: UInt8.self)
        guard ck_check_packed(packed, info.byteCount) == info.byteCount else {
            throw .tensor(info.name, what: "it holds a byte that is no code")
        }
        let bits = type.bits(of: matrix.scale)
        let negative = bits | 1 << UInt32(type.size * 8 - 1)
        let tileRows = Int(CK_TILE_ROWS)
        let most = max(1, (1 << 20) / (columns * tileRows)) * tileRows
        for start in stride(from: 0, to: rows, by: most) {
            try step()
            let count = min(most, rows - start)
            let trits = [Int8](unsafeUninitializedCapacity: count * columns) { buffer, done in
                if let base = buffer.baseAddress {
                    ck_unpack(packed + ck_packed_bytes(start, columns), count, columns, base)
                }
                done = count * columns
            }
            if type == .f32 {
                try writer.append(trits.map { $0 == 0 ? 0 : $0 > 0 ? bits : negative })
            } else {
                let (plus, minus) = (UInt16(bits), UInt16(negative))
                try writer.append(trits.map { $0 == 0 ? 0 : $0 > 0 ? plus : minus })
            }
        }
    }

    private func write(
        rowsOf info: TensorInfo, columns: Int, to writer: inout SafetensorsWriter,
        _ step: () throws(PackError) -> Void
    ) throws(PackError) {
        let base = file.pointer(to: info).assumingMemoryBound(to: UInt8.self)
        let rowBytes = ck_q6_row_bytes(columns)
        for row in 0..<info.byteCount / rowBytes {
            if row % 256 == 0 { try step() }
            try writer.append(
                [Float](unsafeUninitializedCapacity: columns) { buffer, done in
                    if let out = buffer.baseAddress {
                        ck_q6_decode(base + row * rowBytes, columns, out)
                    }
                    done = columns
                })
        }
    }

    // MARK: - config.json

    /// config.json for what is written.
    func config(_ tokenizer: Vocabulary?) -> JSON {
        func id(_ value: UInt32?) -> JSON { value.map { .integer(Int($0)) } ?? .null }
        let ends = (tokenizer.map(\.endTokens) ?? [2]).map { JSON.integer(Int($0)) }
        let ratio = Self.ratio(shape.inner, shape.hidden)
        // What most weights are stored as. For information only.
        let matrix = sources.firstIndex { if case .trits = $0 { true } else { false } }
        let type = matrix.flatMap { [.f16: "float16", .bf16: "bfloat16"][tensors[$0].type] }
        let members: [(String, JSON)] = [
            ("architectures", .array([.string("HGRNBitForCausalLM")])),
            ("model_type", .string("hgrn_bit")), ("attn_mode", .string("fused_recurrent")),
            ("vocab_size", .integer(shape.vocabulary)),
            ("hidden_size", .integer(shape.hidden)),
            ("num_hidden_layers", .integer(shape.layers)),
            ("num_heads", .integer(shape.heads)),
            ("expand_ratio", Int(exactly: ratio).map(JSON.integer) ?? .number(ratio)),
            ("intermediate_size", .integer(shape.intermediate)),
            ("hidden_act", .string("swish")), ("use_short_conv", .bool(false)),
            ("use_lower_bound", .bool(shape.hasLowerBound)),
            ("max_position_embeddings", .integer(shape.context)),
            // The shortest decimal that reads back as the same Float.
            ("rms_norm_eps", .number(Double(shape.epsilon.description) ?? Double(shape.epsilon))),
            ("bos_token_id", id(tokenizer.map(\.bos) ?? 1)),
            ("eos_token_id", ends.count == 1 ? ends[0] : ends.isEmpty ? .null : .array(ends)),
            ("pad_token_id", id(tokenizer?.padding)),
            ("tie_word_embeddings", .bool(isTied)),
            ("torch_dtype", .string(type ?? "float32")),
            ("_name_or_path", .string(name)),
        ]
        return .object(members.map { JSON.Member($0.0, $0.1) })
    }

    /// The number that int(D · ratio) turns back into E.
    private static func ratio(_ inner: Int, _ hidden: Int) -> Double {
        let ratio = Double(inner) / Double(hidden)
        return Int(Double(hidden) * ratio) == inner ? ratio : ratio.nextUp
    }
}
