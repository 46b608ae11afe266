// SPDX-License-Identifier: Apache-2.0

package import ModelStore
import Packer
import SystemPackage

/// A whole small model as the writer takes it, to be spoilt one thing at a time.
package struct WholeModel {
    package var metadata: Facts =
        ModelShape(vocabulary: 4, hidden: 16, layers: 1, intermediate: 20, hasLowerBound: false)
        .facts(name: "x", embedding: .bf16) + [
            (FormatKeys.tokenizerModel, .string("llama")),
            (FormatKeys.tokens, .strings(["<unk>", "a", "b", "ab"])),
            (FormatKeys.scores, .floats([0, 0, 0, -1])),
            (FormatKeys.tokenTypes, .int32s([2, 1, 1, 1])),
            (FormatKeys.hgrnbit.merges, .uint32s([1, 2, 3, 0])),
            (FormatKeys.unknownToken, .uint32(0)),
            (FormatKeys.addBOS, .bool(false)), (FormatKeys.addSpacePrefix, .bool(true)),
            (FormatKeys.hgrnbit.tokenizerSource, .string("tokenizer.json")),
        ]
    package var tensors: [(plan: TensorPlan, bytes: [UInt8])] = []

    package init() throws {
        var made = MadeCheckpoint()
        (made.vocabulary, made.hidden, made.layers) = (4, 16, 1)
        (made.intermediate, made.bound) = (20, false)
        tensors = try made.open { checkpoint in
            try withDirectory { directory in
                let path = directory.appending("m.gguf")
                _ = try PackJob(checkpoint, to: path).run()
                let file = try PackedFile(path: path)
                return file.tensors.map { info in
                    let plan =
                        file.packed[info.name].map {
                            TensorPlan(
                                packed: info.name, rows: $0.rows, columns: $0.columns,
                                sourceType: $0.sourceType)
                        } ?? TensorPlan(name: info.name, type: info.type, shape: info.shape)
                    return (plan, Array(file.bytes(of: info)))
                }
            }
        }
    }

    /// What a refused unpacking left behind.
    package struct Left: Error { let names: [String] }

    package mutating func set(_ key: String, _ value: MetadataValue?) {
        guard let place = metadata.firstIndex(where: { $0.key == key }) else { return }
        if let value { metadata[place].value = value } else { metadata.remove(at: place) }
    }

    /// Puts another tensor in the place of one; zeros if its size is another.
    package mutating func put(_ plan: TensorPlan?, for name: String) {
        guard let place = tensors.firstIndex(where: { $0.plan.name == name }) else { return }
        guard let plan else {
            tensors.remove(at: place)
            return
        }
        tensors[place].plan = plan
        if plan.byteCount != tensors[place].bytes.count {
            tensors[place].bytes = [UInt8](repeating: 0, count: plan.byteCount)
        }
    }

    /// Writes it, opens it, unpacks it; expects that a refusal leaves nothing.
    package func unpack() throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            var writer = try PackedWriter(
                path: path, metadata: metadata, tensors: tensors.map(\.plan))
            for tensor in tensors { try tensor.bytes.withUnsafeBytes { try writer.write($0) } }
            try writer.finish()
            let file = try PackedFile(path: path)
            do {
                try UnpackJob(file, to: directory.appending("out")).run()
            } catch {
                guard names(in: directory) == ["m.gguf"] else {
                    throw Left(names: names(in: directory))
                }
                throw error
            }
            _ = try Checkpoint(directory: directory.appending("out"))
        }
    }
}
