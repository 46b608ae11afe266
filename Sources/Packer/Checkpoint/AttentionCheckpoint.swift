// SPDX-License-Identifier: Apache-2.0

package import ModelStore
package import SystemPackage

/// A checkpoint of a ternary model with attention, in Hugging Face layout.
///
/// Opening checks everything but the values: which tensors there are, their shapes and types.
package final class AttentionCheckpoint: Sendable {
    package let directory: FilePath
    package let config: AttentionConfig
    package let layout: AttentionLayout
    package let warnings: [String]
    private let tensors: [ByteString: CheckpointTensor]

    package init(directory: FilePath) throws(PackError) {
        self.directory = directory
        let folder = try CheckpointFolder(directory)
        let path = directory.appending("config.json")
        var config = try AttentionConfig(try Checkpoint.json(path), file: path.string)
        let pooling = try PoolingImport(directory, &config.shape)
        tensors = try CheckpointWeights.open(try folder.weights(), in: directory)
        // sentence-transformers' files have no root.
        let hasRoot =
            config.shape.family != .qwen3 || tensors[ByteString("model.norm.weight")] != nil
        layout = AttentionLayout(config.shape, root: hasRoot ? "model." : "")
        self.config = config
        let files = Set(tensors.values.map { $0.file.path.lastComponent?.string ?? "" })
        warnings = config.warnings + pooling.warnings + folder.warnings(read: files)
        try check()
    }

    /// All that may be read of it.
    var files: [FilePath] {
        tensors.values.map(\.file.path)
            + ((try? Directory.names(in: directory)) ?? []).map { directory.appending($0) }
    }
    /// Bytes of all tensors as stored.
    package var byteCount: Int { tensors.values.reduce(0) { $0 + $1.entry.byteCount } }
    /// Number of weights.
    package var parameterCount: Int { layout.roles.reduce(0) { $0 + $1.count } }

    package func tensor(_ role: TensorRole) throws(PackError) -> CheckpointTensor {
        guard let tensor = tensors[ByteString(role.name)] else {
            throw .missingTensors([role.name])
        }
        return tensor
    }

    // MARK: - Ternary matrices

    /// Reads a matrix once and says what its trits and its scale are.
    ///
    /// - Parameter masters: what to do with masters that are ternary already; nil refuses them.
    package func matrix(
        _ product: AttentionLayout.Product, _ ternariser: Ternariser = Ternariser(),
        masters: TernaryMasters? = nil
    ) throws(PackError) -> TernaryMatrix {
        let tensor = try tensor(product.weight)
        let (rows, columns) = (product.weight.shape[0], product.weight.shape[1])
        func made(_ trits: TernaryMatrix.Trits, _ scale: Float) -> TernaryMatrix {
            TernaryMatrix(
                tensor: tensor, rows: rows, columns: columns, trits: trits, scale: scale)
        }
        if config.shape.scaleSource == .masters {
            let rule = try ternariser.masterRule(for: tensor, masters)
            return made(.floats(rule), rule.scale)
        }
        let scale = try scale(product)
        if tensor.type == .u8 {
            if let place = TernaryMatrix.firstCodeThree(tensor) {
                throw .tensor(
                    tensor.name,
                    what:
                        "byte \(place) holds the code 3, which stands for no trit: it was not packed by transformers, or is damaged"
                )
            }
            return made(.quarters, scale)
        }
        guard let rule = try ternariser.tritRule(for: tensor) else {
            throw .tensor(
                tensor.name,
                what:
                    "its values are not all −1, 0 and 1, but quantization_config says \"offline\": float weights to be made ternary are \"online\""
            )
        }
        return made(.floats(rule), scale)
    }

    /// The factor of a matrix that has a `weight_scale`.
    private func scale(_ product: AttentionLayout.Product) throws(PackError) -> Float {
        guard let tensor = tensors[ByteString(product.scale)] else {
            throw .missingTensors([product.scale])
        }
        let stored = try tensor.floats()[0]
        let scale = config.shape.scaleSource == .multiply ? stored : 1 / stored
        guard stored > 0, scale.isFinite, scale > 0 else {
            throw .tensor(tensor.name, what: "it is \(stored); a scale is above 0 and finite")
        }
        return scale
    }

    // MARK: - Contents

    /// Every tensor of the architecture, no other, each of its shape and type.
    private func check() throws(PackError) {
        var known: Set<ByteString> = []
        var missing: [String] = []
        for role in layout.roles where role.kind != .ternary {
            known.insert(ByteString(role.name))
            guard let tensor = tensors[ByteString(role.name)] else {
                missing.append(role.name)
                continue
            }
            guard tensor.type.isFloat else {
                throw .wrongType(tensor: role.name, found: tensor.type.rawValue)
            }
            guard tensor.shape == role.shape else {
                throw .wrongShape(tensor: role.name, expected: role.shape, found: tensor.shape)
            }
        }
        for product in layout.products { try check(product, &known, &missing) }
        guard missing.isEmpty else { throw .missingTensors(missing) }
        let extra = tensors.values.map(\.name).filter {
            !known.contains(ByteString($0)) && !$0.hasSuffix("rotary_emb.inv_freq")
                && !($0 == "lm_head.weight" && layout.head == nil)
        }
        guard extra.isEmpty else {
            throw .foreignTensors(extra.sorted(), config.shape.family.rawValue)
        }
    }

    private func check(
        _ product: AttentionLayout.Product, _ known: inout Set<ByteString>,
        _ missing: inout [String]
    ) throws(PackError) {
        let role = product.weight
        known.insert(ByteString(role.name))
        let scale = tensors[ByteString(product.scale)]
        guard let tensor = tensors[ByteString(role.name)] else {
            missing.append(role.name)
            return
        }
        let source = config.shape.scaleSource
        let isPacked = tensor.type == .u8
        guard isPacked || tensor.type.isFloat else {
            throw .wrongType(tensor: role.name, found: tensor.type.rawValue)
        }
        func refuse(_ what: String) -> PackError { .tensor(role.name, what: what) }
        switch source {
        case .masters where isPacked:
            throw refuse(
                "it is packed (U8), but config.json says that the file holds float masters")
        case .masters where scale != nil:
            throw refuse(
                "there is a \(product.scale) beside it, but config.json says that the file holds masters, whose scale is computed"
            )
        case .reciprocal where !isPacked:
            throw refuse(
                "it is \(tensor.type.rawValue), but quantization_config (linear_class \"bitlinear\") says that it is packed (U8)"
            )
        default: break
        }
        if isPacked, role.shape[0] % 4 != 0 {
            throw refuse("it has \(role.shape[0]) rows, which packing by quarters cannot hold")
        }
        let wanted = isPacked ? [role.shape[0] / 4, role.shape[1]] : role.shape
        guard tensor.shape == wanted else {
            throw .wrongShape(tensor: role.name, expected: wanted, found: tensor.shape)
        }
        guard source != .masters else { return }
        known.insert(ByteString(product.scale))
        guard let scale else {
            missing.append(product.scale)
            return
        }
        guard scale.type.isFloat else {
            throw .wrongType(tensor: product.scale, found: scale.type.rawValue)
        }
        guard scale.shape == [1] else {
            throw .wrongShape(tensor: product.scale, expected: [1], found: scale.shape)
        }
    }
}
