// SPDX-License-Identifier: Apache-2.0

package import ModelStore
package import Packer
package import SystemPackage

/// A small random checkpoint, written to a directory of its own.
package struct MadeCheckpoint {
    package var vocabulary = 61
    package var hidden = 32
    package var layers = 2
    package var intermediate = 48
    package var expand = 1.0
    package var bound = true
    package var tied = false
    package var type = ElementType.bf16
    package var seed: UInt64 = 1
    /// Members of config.json to put in or replace.
    package var settings: [JSON.Member] = []
    /// Called on the list of tensors before it is written.
    package var edit: (inout [TensorSpec]) -> Void = { _ in }

    package var config: CheckpointConfig {
        var config = CheckpointConfig()
        config.shape = ModelShape(
            vocabulary: vocabulary, hidden: hidden, layers: layers,
            inner: Int(Double(hidden) * expand), intermediate: intermediate, hasLowerBound: bound)
        config.shape.isTied = tied
        return config
    }

    package var tensors: [TensorSpec] {
        var random = SeededGenerator(seed)
        var list: [TensorSpec] = []
        for role in config.roles where !(tied && role.name == "lm_head.weight") {
            let isNorm = role.kind == .vector && role.name != "model.lower_bounds"
            let values = (0..<role.count).map { _ in
                isNorm ? 1 + 0.1 * random.gaussian() : 0.05 * random.gaussian()
            }
            list.append((role.name, type, role.shape, values))
        }
        edit(&list)
        return list
    }

    package var configJSON: JSON {
        var members: [JSON.Member] = [
            JSON.Member("architectures", .array([.string("HGRNBitForCausalLM")])),
            JSON.Member("model_type", .string("hgrn_bit")),
            JSON.Member("vocab_size", .integer(vocabulary)),
            JSON.Member("hidden_size", .integer(hidden)),
            JSON.Member("num_hidden_layers", .integer(layers)),
            JSON.Member("intermediate_size", .integer(intermediate)),
            JSON.Member("expand_ratio", .number(expand)),
            JSON.Member("use_lower_bound", .bool(bound)),
            JSON.Member("tie_word_embeddings", .bool(tied)),
        ]
        for setting in settings {
            members.removeAll { $0.name == setting.name }
            members.append(setting)
        }
        return .object(members)
    }

    package init() {}

    package func write(to directory: FilePath) throws {
        try TestSupport.write(configJSON.written(), to: directory.appending("config.json"))
        try TestSupport.write(
            safetensors(tensors), to: directory.appending("model.safetensors"))
    }

    /// Opens it, lends it, removes it.
    package func open<R>(_ body: (Checkpoint) throws -> R) throws -> R {
        try withDirectory { directory in
            try write(to: directory)
            return try body(Checkpoint(directory: directory))
        }
    }

    /// The error of opening it.
    package func refusal() throws -> PackError? {
        do {
            try open { _ in }
            return nil
        } catch let error as PackError {
            return error
        }
    }
}
