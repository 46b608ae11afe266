// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import ModelStore
package import SystemPackage

/// A checkpoint in Hugging Face layout: config.json, and model.safetensors or shards with their index.
///
/// Opening checks everything but the values: which tensors there are, their shapes and types. Data
/// is mapped, read when asked for, and let go tensor by tensor.
package final class Checkpoint: Sendable {
    package let directory: FilePath
    package let config: CheckpointConfig
    /// What is survivable but may not be what was meant.
    package let warnings: [String]
    package let layout: TensorLayout
    private let tensors: [ByteString: CheckpointTensor]

    /// Room for a config.json or index with a lot of commentary.
    static let jsonLimit = 16 << 20

    package init(directory: FilePath) throws(PackError) {
        self.directory = directory
        let folder = try CheckpointFolder(directory)
        let configPath = directory.appending("config.json")
        config = try CheckpointConfig(try Self.json(configPath), file: configPath.string)
        layout = TensorLayout(config.shape)
        tensors = try CheckpointWeights.open(try folder.weights(), in: directory)
        let types = layout.roles.filter { $0.kind == .ternary }
            .compactMap { [tensors] in tensors[ByteString($0.name)]?.type.rawValue }
        let files = Set(tensors.values.map { $0.file.path.lastComponent?.string ?? "" })
        warnings =
            config.warnings + folder.warnings(read: files)
            + Self.typeWarnings(config.type, stored: types)
        try check()
    }

    /// The tensor called `name` in the checkpoint's own naming. The head of a tied model is its
    /// embedding.
    package func tensor(named name: String) throws(PackError) -> CheckpointTensor {
        if let tensor = tensors[ByteString(name)] { return tensor }
        if config.shape.isTied, name == layout.head.weight.name {
            return try tensor(layout.embedding)
        }
        throw .missingTensors([name])
    }

    /// All that may be read of it.
    var files: [FilePath] {
        tensors.values.map(\.file.path)
            + ((try? Directory.names(in: directory)) ?? []).map { directory.appending($0) }
    }

    package func tensor(_ role: TensorRole) throws(PackError) -> CheckpointTensor {
        try tensor(named: role.name)
    }

    /// Bytes of all tensors as stored.
    package var byteCount: Int { tensors.values.reduce(0) { $0 + $1.entry.byteCount } }
    /// Number of weights stored.
    package var parameterCount: Int { tensors.values.reduce(0) { $0 + $1.count } }

    /// Reads a JSON file of a checkpoint.
    static func json(_ path: FilePath, limit: Int = jsonLimit) throws(PackError) -> JSON {
        do {
            return try JSON(parsing: try InputFile.read(path, .json, limit: limit))
        } catch let error as JSONError {
            throw .malformed(file: path.string, what: "byte \(error.offset): \(error.what)")
        } catch let error as PackError {
            throw error
        } catch {
            throw .malformed(file: path.string, what: "\(error)")
        }
    }

    // MARK: - Contents

    /// Trits depend on the type that the weights are stored in; it is not converted to the one that config.json names.
    private static func typeWarnings(_ said: String?, stored found: [String]) -> [String] {
        let names = ["float32": "F32", "float16": "F16", "bfloat16": "BF16"]
        let types = Set(found).sorted()
        guard
            types.count > 1
                || said.map({ names[$0.replacing("torch.", with: "")] != types.first }) == true
        else { return [] }
        let list = types.map { type in "\(type) (\(found.count { $0 == type }))" }
        return [
            "config.json: torch_dtype is \(said.map { "\"\($0.quoted)\"" } ?? "absent"), but the ternary matrices are stored as "
                + (types.count > 1 ? list.joined(separator: ", ") : types.first ?? "nothing")
                + ", which counts: trits are made in the stored type; where transformers converts first, it makes others"
        ]
    }

    /// Every tensor of the architecture, no other, each of the right shape and a float type.
    private func check() throws(PackError) {
        var known: Set<ByteString> = []
        var missing: [String] = []
        for role in layout.roles {
            known.insert(ByteString(role.name))
            guard let tensor = tensors[ByteString(role.name)] else {
                if !config.shape.isTied || role != layout.head.weight { missing.append(role.name) }
                continue
            }
            guard tensor.type.isFloat else {
                throw .wrongType(tensor: role.name, found: tensor.type.rawValue)
            }
            guard tensor.shape == role.shape else {
                throw .wrongShape(tensor: role.name, expected: role.shape, found: tensor.shape)
            }
        }
        let extra = tensors.values.map(\.name).filter { !known.contains(ByteString($0)) }
        if let first = missing.first, let name = extra.first(where: { $0.hasSuffix("." + first) }) {
            throw .unsupported(
                file: directory.string,
                what:
                    "tensors are called \"\(name.quoted)\" where \"\(first)\" is read: take the prefix "
                    + "\"\(name.dropLast(first.count))\" off all names, or save the model without its wrapper"
            )
        }
        guard missing.isEmpty else { throw .missingTensors(missing) }
        guard extra.isEmpty else { throw .unexpectedTensors(extra.sorted()) }
        try checkTie()
    }

    /// A tied model may store its head again, as long as it is the same.
    private func checkTie() throws(PackError) {
        guard config.shape.isTied, let head = tensors[ByteString(layout.head.weight.name)],
            let embedding = tensors[ByteString(layout.embedding.name)]
        else { return }
        let isSame = head.withBytes { left in
            embedding.withBytes { right in
                left.count == right.count
                    && (left.isEmpty
                        || memcmp(left.baseAddress!, right.baseAddress!, left.count) == 0)
            }
        }
        guard head.type == embedding.type, isSame else {
            throw .tensor(
                head.name,
                what: "it differs from \(embedding.name) although tie_word_embeddings is "
                    + "true; set it to false to keep both")
        }
        head.release()
        embedding.release()
    }
}
