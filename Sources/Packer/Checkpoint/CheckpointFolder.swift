// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
internal import SystemPackage

/// What lies in a checkpoint's directory: the files that hold the weights, chosen as transformers chooses them, and what else
/// somebody might take for them.
struct CheckpointFolder {
    enum Weights {
        case single(FilePath)
        case sharded(index: FilePath)
    }

    private let directory: FilePath
    private let names: [String]

    init(_ directory: FilePath) throws(PackError) {
        self.directory = directory
        do { names = try Directory.names(in: directory) } catch {
            throw .noCheckpoint(directory.string, why: "the directory cannot be read: \(error)")
        }
        // transformers applies it, to the model that it names and not even to the weights beside it.
        if names.contains("adapter_config.json") {
            throw .unsupported(
                file: directory.appending("adapter_config.json").string,
                what:
                    "an adapter (LoRA) lies beside the weights, which the original code applies when it "
                    + "loads them and this program does not. Merge it into the weights (peft: "
                    + "merge_and_unload, then save_pretrained), or move adapter_* away to pack the "
                    + "model without it")
        }
        guard names.contains("config.json") else {
            let isCache = names.contains("snapshots") && names.contains("blobs")
            throw .noCheckpoint(
                directory.string,
                why: isCache
                    ? "it is the root of a download cache; give a directory in \(directory.appending("snapshots"))"
                    : "config.json is missing")
        }
    }

    /// Which file or files hold the weights.
    func weights() throws(PackError) -> Weights {
        if names.contains(Self.single) { return .single(directory.appending(Self.single)) }
        if names.contains(Self.index) { return .sharded(index: directory.appending(Self.index)) }
        func nothing(_ why: String) -> PackError { .noCheckpoint(directory.string, why: why) }
        let others = unread([])
        if let variant = others.first(where: {
            $0.hasPrefix("model.") && $0.hasSuffix(".safetensors") && !$0.contains("-of-")
        }) {
            throw nothing(
                "there is \(variant.quoted), a variant, but not \(Self.single): rename it to that, or download that"
            )
        }
        if let shard = others.first(where: { $0.hasSuffix(".safetensors") }) {
            throw nothing(
                "there is \(shard.quoted), but neither \(Self.single) nor \(Self.index), which says "
                    + "which tensors are where; download it too")
        }
        guard let old = others.first else {
            throw nothing("neither \(Self.single) nor \(Self.index) is there")
        }
        throw nothing(
            "there is only \(old.quoted), which is not read: of a Python pickle reading runs code. "
                + "Convert to safetensors first, where you trust it: python3 -c "
                + "\"from transformers import AutoModelForCausalLM as M; "
                + "M.from_pretrained('.', torch_dtype='auto').save_pretrained('converted', "
                + "safe_serialization=True)\"")
    }

    /// What lies beside the files that were read and will not be.
    func warnings(read: Set<String>) -> [String] {
        var warnings: [String] = []
        let others = unread(read)
        if !others.isEmpty {
            warnings.append(
                "other weights lie beside those that were read (\(read.sorted().prefix(3).joined(separator: ", "))) and "
                    + "are not, nor would transformers read them: "
                    + others.prefix(10).map(\.quoted).joined(separator: ", ")
                    + (others.count > 10 ? ", …" : ""))
        }
        if read.contains(Self.single), names.contains(Self.index) {
            warnings.append(
                "\(Self.index) is not read: where \(Self.single) is, transformers reads only that")
        }
        return warnings
    }

    private static let single = "model.safetensors"
    private static let index = "model.safetensors.index.json"
    private static let kinds = [
        ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx", ".pkl",
        ".npz",
    ]
    /// What a trainer leaves to continue from.
    private static let training = [
        "optimizer", "scheduler", "rng_state", "training_args", "scaler", "random_states",
    ]

    private func unread(_ read: Set<String>) -> [String] {
        names.filter { name in
            // A .safetensors may hold anything; these names say weights.
            let isWeights =
                name.hasSuffix(".safetensors")
                ? ["model", "consolidated", "adapter", "lora", "diffusion"].contains(
                    where: name.hasPrefix)
                    || name.contains("-of-")
                : Self.kinds.contains(where: name.hasSuffix)
            return isWeights && !read.contains(name)
                && !Self.training.contains(where: name.hasPrefix)
        }
    }
}
