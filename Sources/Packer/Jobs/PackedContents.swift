// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import ModelStore
internal import SystemPackage

/// What a packed file will hold: its facts and its tensors, in order, before any data.
struct PackedContents {
    static let lowerBounds = "lower_bounds.weight"
    static let lowerBoundTable = "lower_bound_table.weight"

    let config: CheckpointConfig
    let name: String
    let tokenizer: Vocabulary?
    let embedding: EmbeddingEncoding
    /// Each ternary tensor's source type by the checkpoint's name.
    let types: [String: ElementType]

    init(
        _ checkpoint: Checkpoint, name: String?, tokenizer: Vocabulary?,
        embedding: PackJob.Embedding
    ) throws(PackError) {
        config = checkpoint.config
        self.name = Self.name(wish: name, checkpoint)
        self.tokenizer = tokenizer
        let tensor = try checkpoint.tensor(named: "model.embeddings.weight")
        self.embedding =
            switch (embedding, tensor.type) {
            case (.q6, _): .q6
            case (.keep, .f16): .f16
            case (.keep, .bf16): .bf16
            case (.keep, _): .f32
            }
        var types: [String: ElementType] = [:]
        for role in config.roles { types[role.name] = try checkpoint.tensor(named: role.name).type }
        self.types = types
    }

    /// The file's writer, everything declared.
    func writer(to path: FilePath, replacing: Bool) throws(PackError) -> PackedWriter {
        do {
            return try PackedWriter(
                path: path, metadata: facts + (tokenizer?.facts ?? []), tensors: tensors,
                replacing: replacing)
        } catch {
            throw .store(error)
        }
    }

    /// In the order their bytes are written: the folded table follows the lower bounds it is made of.
    private var tensors: [TensorPlan] {
        config.roles.flatMap { role -> [TensorPlan] in
            switch role.kind {
            case .vector where role.packedName == Self.lowerBounds:
                let table = [config.layerCount, config.innerSize]
                return [
                    TensorPlan(name: role.packedName, type: .f32, shape: role.shape),
                    TensorPlan(name: Self.lowerBoundTable, type: .f32, shape: table),
                ]
            case .vector:
                return [TensorPlan(name: role.packedName, type: .f32, shape: role.shape)]
            case .ternary:
                return [
                    TensorPlan(
                        packed: role.packedName, rows: role.shape[0], columns: role.shape[1],
                        sourceType: (types[role.name] ?? .f32).rawValue)
                ]
            case .embedding: return [embeddingPlan(role)]
            }
        }
    }

    private func embeddingPlan(_ role: TensorRole) -> TensorPlan {
        let name = role.packedName
        switch embedding {
        case .f32: return TensorPlan(name: name, type: .f32, shape: role.shape)
        case .f16: return TensorPlan(name: name, type: .f16, shape: role.shape)
        case .bf16: return TensorPlan(name: name, type: .bf16, shape: role.shape)
        case .q6:
            let bytes = role.shape[0] * EmbeddingCoder.rowBytes(role.shape[1])
            return TensorPlan(name: name, type: .i8, shape: [bytes])
        }
    }

    private typealias Facts = [(key: String, value: MetadataValue)]

    private var facts: Facts {
        func size(_ value: Int) -> MetadataValue { .uint32(UInt32(clamping: value)) }
        return [
            (FormatKeys.architecture, .string(Format.architecture)),
            (FormatKeys.name, .string(name)),
            (FormatKeys.alignment, size(Format.alignment)),
            (
                FormatKeys.formatVersion,
                .uint32(tokenizer?.formatVersion ?? Format.version)
            ),
            (FormatKeys.vocabularySize, size(config.vocabularySize)),
            (FormatKeys.embeddingLength, size(config.hiddenSize)),
            (FormatKeys.blockCount, size(config.layerCount)),
            (FormatKeys.feedForwardLength, size(config.intermediateSize)),
            (FormatKeys.innerLength, size(config.innerSize)),
            (FormatKeys.headCount, size(config.headCount)),
            (FormatKeys.contextLength, size(config.contextLength)),
            (FormatKeys.rmsEpsilon, .float(config.epsilon)),
            (FormatKeys.useLowerBound, .bool(config.useLowerBound)),
            (FormatKeys.tieWordEmbeddings, .bool(config.tieWordEmbeddings)),
            (FormatKeys.embeddingEncoding, .string(embedding.rawValue)),
        ]
    }

    /// A name made of letters, digits, '.', '-' and '_': the wish, or the last part of config.json's `_name_or_path`. Where the
    /// checkpoint lies is no part of it: a copy elsewhere packs to the same bytes.
    private static func name(wish: String?, _ checkpoint: Checkpoint) -> String {
        for candidate in [wish, checkpoint.config.name] {
            let last = candidate?.split(separator: "/").last.map(String.init) ?? ""
            let clean = String(
                last.unicodeScalars.prefix(64).map { scalar in
                    let isPlain =
                        scalar.isASCII
                        && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
                            || "._-".unicodeScalars.contains(scalar))
                    return isPlain ? Character(scalar) : "-"
                })
            if clean.contains(where: { $0 != "-" && $0 != "." && $0 != "_" }) { return clean }
        }
        return "hgrnbit"
    }
}

extension TensorRole {
    /// The packed name without layer and ".weight": "attn_i", "ffn_down", "output".
    var kindName: String {
        let parts = packedName.split(separator: ".")
        return String(parts.first == "blk" && parts.count > 2 ? parts[2] : parts.first ?? "")
    }
}
