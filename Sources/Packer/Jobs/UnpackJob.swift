// SPDX-License-Identifier: Apache-2.0

internal import CKernels
package import ModelStore
package import SystemPackage

/// Writes a packed file back out as a checkpoint in Hugging Face layout.
///
/// Ternary matrices become {-s, 0, +s} in the type they came in, norms F32, the embedding as it is
/// stored (q6: F32). Packing the result gives the same trits and scales, with one exception: a
/// matrix with a single weight that is not zero, which by definition is not taken as ternary.
package struct UnpackJob {
    private let file: PackedFile
    private let destination: FilePath
    private let config: CheckpointConfig
    private let encoding: EmbeddingEncoding

    /// Checks that `file` holds all tensors of its model, in their sizes.
    package init(_ file: PackedFile, to destination: FilePath) throws(PackError) {
        self.file = file
        self.destination = destination
        (config, encoding) = try PackedFacts(file).read()
    }

    /// Bytes of the checkpoint's tensors.
    package var byteCount: Int { (try? tensors())?.reduce(0) { $0 + $1.byteCount } ?? 0 }

    /// Does it. The directory appears whole or not at all; one with something in it is refused.
    package func run(
        isCancelled: () -> Bool = { false }, progress: (PackJob.Progress) -> Void = { _ in }
    ) throws(PackError) {
        let tokenizer: Vocabulary?
        do { tokenizer = try Vocabulary(file.metadata, size: config.vocabularySize) } catch {
            throw .unsupported(file: "the packed file's tokenizer", what: error.description)
        }
        var directory = try OutputDirectory(destination)
        func save(_ json: JSON, _ name: String) throws(PackError) {
            try NewFile.write(json.written(), to: directory.temporary.appending(name))
        }
        try save(configJSON(tokenizer), "config.json")
        if let tokenizer {
            try save(tokenizer.tokenizerJSON, "tokenizer.json")
            try save(tokenizer.configJSON, "tokenizer_config.json")
            try save(tokenizer.specialTokensJSON, "special_tokens_map.json")
        }
        let list = try tensors()
        var writer = try SafetensorsWriter(
            directory.temporary.appending("model.safetensors"), list)
        let total = list.reduce(0) { $0 + $1.byteCount }
        var done = 0
        for (role, tensor) in zip(roles, list) {
            try write(role, tensor, to: &writer) { () throws(PackError) in
                if isCancelled() { throw .cancelled }
                progress(PackJob.Progress(done: done, total: total, tensor: tensor.name))
            }
            done += tensor.byteCount
        }
        try writer.finish()
        if isCancelled() { throw .cancelled }
        try storing { () throws(StoreError) in try file.map.checkUnchanged() }
        try directory.publish()
    }

    /// A tied head is left to the embedding, unless that was made coarser than the head's trits.
    private var isTied: Bool { config.tieWordEmbeddings && encoding != .q6 }

    private var roles: [TensorRole] {
        config.roles.filter { !(isTied && $0.name == "lm_head.weight") }
    }

    private func tensors() throws(PackError) -> [SafetensorsWriter.Tensor] {
        var list: [SafetensorsWriter.Tensor] = []
        for role in roles {
            let type: ElementType
            switch role.kind {
            case .vector: type = .f32
            case .ternary: type = try matrix(role).type
            case .embedding:
                type =
                    switch encoding {
                    case .f16: .f16
                    case .bf16: .bf16
                    case .f32, .q6: .f32
                    }
            }
            list.append(.init(name: role.name, type: type, shape: role.shape))
        }
        return list
    }

    /// The stored matrix and the type its weights are written in: the source's, unless that cannot
    /// hold the scale.
    private func matrix(_ role: TensorRole) throws(PackError) -> (PackedMatrix, type: ElementType) {
        guard let matrix = file.packed[role.packedName] else {
            throw .missingTensors([role.packedName])
        }
        guard [matrix.rows, matrix.columns] == role.shape else {
            throw .wrongShape(
                tensor: role.packedName, expected: role.shape,
                found: [matrix.rows, matrix.columns])
        }
        guard let type = ElementType(rawValue: matrix.sourceType), type.isFloat else {
            throw .wrongType(tensor: role.packedName, found: matrix.sourceType)
        }
        guard matrix.scale.isFinite, matrix.scale > 0 else {
            throw .tensor(role.packedName, what: "its scale is \(matrix.scale)")
        }
        return (matrix, type.rounded(matrix.scale) == matrix.scale ? type : .f32)
    }

    // MARK: - Data

    private func write(
        _ role: TensorRole, _ tensor: SafetensorsWriter.Tensor,
        to writer: inout SafetensorsWriter, step: () throws(PackError) -> Void
    ) throws(PackError) {
        try step()
        switch role.kind {
        case .ternary: try writeMatrix(role, to: &writer, step)
        case .embedding where encoding == .q6: try writeRows(role, to: &writer, step)
        case .vector, .embedding:
            let stored: TensorType =
                switch tensor.type {
                case .bf16: .bf16
                case .f16: .f16
                default: .f32
                }
            let info = try info(role.packedName, stored, byteCount: tensor.byteCount)
            try writer.append(
                UnsafeRawBufferPointer(start: file.pointer(to: info), count: info.byteCount))
        }
    }

    private func writeMatrix(
        _ role: TensorRole, to writer: inout SafetensorsWriter,
        _ step: () throws(PackError) -> Void
    ) throws(PackError) {
        let (matrix, type) = try matrix(role)
        let (rows, columns) = (matrix.rows, matrix.columns)
        let info = try info(role.packedName, .i8, byteCount: ck_packed_bytes(rows, columns))
        let packed = file.pointer(to: info).assumingMemoryBound(to: UInt8.self)
        guard ck_check_packed(packed, info.byteCount) == info.byteCount else {
            throw .tensor(role.packedName, what: "it holds a byte that is no code")
        }
        let bits = type.bits(of: matrix.scale)
        let negative = bits | 1 << UInt32(type.size * 8 - 1)
        let tileRows = Int(CK_TILE_ROWS)
        let step16 = max(1, (1 << 20) / (columns * tileRows)) * tileRows
        for start in stride(from: 0, to: rows, by: step16) {
            try step()
            let count = min(step16, rows - start)
            let trits = [Int8](unsafeUninitializedCapacity: count * columns) { buffer, done in
                if let base = buffer.baseAddress {
                    ck_unpack(packed + ck_packed_bytes(start, columns), count, columns, base)
                }
                done = count * columns
            }
            if type == .f32 {
                try append(trits.map { $0 == 0 ? 0 : $0 > 0 ? bits : negative }, to: &writer)
            } else {
                let (plus, minus) = (UInt16(bits), UInt16(negative))
                try append(trits.map { $0 == 0 ? 0 : $0 > 0 ? plus : minus }, to: &writer)
            }
        }
    }

    private func writeRows(
        _ role: TensorRole, to writer: inout SafetensorsWriter,
        _ step: () throws(PackError) -> Void
    ) throws(PackError) {
        let (rows, columns) = (role.shape[0], role.shape[1])
        let rowBytes = ck_q6_row_bytes(columns)
        let info = try info(role.packedName, .i8, byteCount: rows * rowBytes)
        let base = file.pointer(to: info).assumingMemoryBound(to: UInt8.self)
        for row in 0..<rows {
            if row % 256 == 0 { try step() }
            let values = [Float](unsafeUninitializedCapacity: columns) { buffer, done in
                if let out = buffer.baseAddress {
                    ck_q6_decode(base + row * rowBytes, columns, out)
                }
                done = columns
            }
            try append(values, to: &writer)
        }
    }

    private func info(
        _ name: String, _ type: TensorType, byteCount: Int
    ) throws(PackError) -> TensorInfo {
        guard let info = file[name] else { throw .missingTensors([name]) }
        guard info.type == type, info.byteCount == byteCount else {
            throw .tensor(
                name,
                what: "it is \(info.byteCount) bytes of \(info.type), not \(byteCount) of \(type)")
        }
        return info
    }

    private func append<Element: BitwiseCopyable>(
        _ values: [Element], to writer: inout SafetensorsWriter
    ) throws(PackError) {
        let result = values.withUnsafeBytes { bytes in
            Result { () throws(PackError) in try writer.append(bytes) }
        }
        try result.get()
    }

    // MARK: - config.json

    /// What most weights are stored as, in the words of config.json. For information only.
    private var dominantType: String {
        switch (try? tensors())?.first(where: { $0.name.hasSuffix("proj.weight") })?.type {
        case .bf16: "bfloat16"
        case .f16: "float16"
        default: "float32"
        }
    }

    private static func ids(_ values: [UInt32]) -> JSON {
        let items = values.map { JSON.integer(Int($0)) }
        return items.count == 1 ? items[0] : items.isEmpty ? .null : .array(items)
    }

    private func configJSON(_ tokenizer: Vocabulary?) -> JSON {
        func id(_ value: UInt32?) -> JSON { value.map { .integer(Int($0)) } ?? .null }
        let ratio =
            Int(exactly: config.expandRatio).map(JSON.integer) ?? .number(config.expandRatio)
        let members: [(String, JSON)] = [
            ("architectures", .array([.string("HGRNBitForCausalLM")])),
            ("model_type", .string("hgrn_bit")), ("attn_mode", .string("fused_recurrent")),
            ("vocab_size", .integer(config.vocabularySize)),
            ("hidden_size", .integer(config.hiddenSize)),
            ("num_hidden_layers", .integer(config.layerCount)),
            ("num_heads", .integer(config.headCount)),
            ("expand_ratio", ratio),
            ("intermediate_size", .integer(config.intermediateSize)),
            ("hidden_act", .string("swish")), ("use_short_conv", .bool(false)),
            ("use_lower_bound", .bool(config.useLowerBound)),
            ("max_position_embeddings", .integer(config.contextLength)),
            // The shortest decimal that reads back as the same Float.
            ("rms_norm_eps", .number(Double(config.epsilon.description) ?? Double(config.epsilon))),
            ("bos_token_id", id(tokenizer.map(\.bos) ?? 1)),
            ("eos_token_id", Self.ids(tokenizer.map(\.endTokens) ?? [2])),
            ("pad_token_id", id(tokenizer?.padding)),
            ("tie_word_embeddings", .bool(isTied)),
            ("torch_dtype", .string(dominantType)),
            ("_name_or_path", .string(config.name ?? "hgrnbit")),
        ]
        return .object(members.map { JSON.Member($0.0, $0.1) })
    }
}
