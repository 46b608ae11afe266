// SPDX-License-Identifier: Apache-2.0

import ModelStore
package import SystemPackage

/// A model of random weights, small enough to be made and run in no time: it writes gibberish, always the same.
package enum TinyModel {
    package static let vocabulary = 304
    package static let hidden = 80
    package static let inner = 80
    package static let intermediate = 160
    package static let layers = 2
    package static let eos: UInt32 = 2
    /// The token of a byte: "<0x00>" is 3.
    package static func byte(_ value: UInt8) -> UInt32 { 3 + UInt32(value) }

    /// Packs the model of `seed` to `path`; without a tokenizer it serves token ids only.
    package static func write(
        to path: FilePath, seed: UInt64 = 1, hasTokenizer: Bool = true, scale: Float = 0.05,
        replacing: Bool = false
    ) throws {
        var random = SeededGenerator(seed)
        var writer = try PackedWriter(
            path: path, metadata: facts + (hasTokenizer ? tokenizer : []), tensors: tensors,
            replacing: replacing)
        for tensor in tensors {
            var bytes: [UInt8] = []
            if tensor.packed != nil {
                // A byte is five trits in base three: every value below 3^5 is one.
                bytes = (0..<tensor.byteCount).map { _ in UInt8.random(in: 0...242, using: &random)
                }
                try writer.setScale(scale, of: tensor.name)
            } else {
                let isEmbedding = tensor.name == "token_embd.weight"
                for _ in 0..<tensor.byteCount / 4 {
                    let value =
                        isEmbedding
                        ? Float.random(in: -1...1, using: &random)
                        : Float.random(in: 0.5...1.5, using: &random)
                    withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += $0 }
                }
            }
            try bytes.withUnsafeBytes { try writer.write($0) }
        }
        try writer.finish()
    }

    private static var tensors: [TensorPlan] {
        func vector(_ name: String, _ shape: Int...) -> TensorPlan {
            TensorPlan(name: name + ".weight", type: .f32, shape: shape)
        }
        func matrix(_ name: String, _ rows: Int, _ columns: Int) -> TensorPlan {
            TensorPlan(packed: name + ".weight", rows: rows, columns: columns, sourceType: "F32")
        }
        let blocks = (0..<layers).map { "blk.\($0)." }
        var all = [vector("output_norm", hidden), vector("output_head_norm", hidden)]
        for b in blocks {
            all += ["attn_norm", "attn_i_norm", "attn_f_norm", "attn_g_norm"].map {
                vector(b + $0, hidden)
            }
            all += [vector(b + "attn_gate_norm", inner), vector(b + "attn_output_norm", inner)]
            all += [vector(b + "ffn_norm", hidden), vector(b + "ffn_gate_up_norm", hidden)]
            all.append(vector(b + "ffn_down_norm", intermediate))
        }
        for b in blocks {
            all += ["attn_i", "attn_f", "attn_g"].map { matrix(b + $0, inner, hidden) }
            all += [
                matrix(b + "attn_output", hidden, inner),
                matrix(b + "ffn_gate_up", 2 * intermediate, hidden),
                matrix(b + "ffn_down", hidden, intermediate),
            ]
        }
        return all + [
            matrix("output", vocabulary, hidden), vector("token_embd", vocabulary, hidden),
        ]
    }

    private static var facts: [(key: String, value: MetadataValue)] {
        func size(_ value: Int) -> MetadataValue { .uint32(UInt32(value)) }
        return [
            (FormatKeys.architecture, .string(Format.architecture)),
            (FormatKeys.name, .string("tiny")),
            (FormatKeys.alignment, size(Format.alignment)),
            (FormatKeys.formatVersion, .uint32(Format.version)),
            (FormatKeys.vocabularySize, size(vocabulary)),
            (FormatKeys.embeddingLength, size(hidden)),
            (FormatKeys.blockCount, size(layers)),
            (FormatKeys.feedForwardLength, size(intermediate)),
            (FormatKeys.innerLength, size(inner)), (FormatKeys.headCount, size(1)),
            (FormatKeys.contextLength, size(2048)), (FormatKeys.rmsEpsilon, .float(1e-6)),
            (FormatKeys.useLowerBound, .bool(false)),
            (FormatKeys.tieWordEmbeddings, .bool(false)),
            (FormatKeys.embeddingEncoding, .string("f32")),
        ]
    }

    /// <unk>, <s>, </s>, the 256 bytes, a space, the letters, and tokens nobody uses.
    private static var tokenizer: [(key: String, value: MetadataValue)] {
        func hex(_ byte: Int) -> String {
            (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }
        let letters = "abcdefghijklmnopqrstuvwxyz".map { String($0) }
        var tokens = ["<unk>", "<s>", "</s>"]
        tokens += (0..<256).map { "<0x\(hex($0))>" }
        tokens += ["▁"] + letters + ["ab"]
        var types: [Int32] = [2, 3, 3]
        types += [Int32](repeating: 6, count: 256) + [Int32](repeating: 1, count: 28)
        while tokens.count < vocabulary {
            tokens.append("<unused\(tokens.count)>")
            types.append(5)
        }
        return [
            (FormatKeys.tokenizerModel, .string("llama")),
            (FormatKeys.tokens, .strings(tokens)),
            (FormatKeys.scores, .floats(tokens.map { _ in 0 })),
            (FormatKeys.tokenTypes, .int32s(types)),
            (FormatKeys.bosToken, .uint32(1)), (FormatKeys.eosToken, .uint32(eos)),
            (FormatKeys.unknownToken, .uint32(0)), (FormatKeys.addBOS, .bool(true)),
            (FormatKeys.addSpacePrefix, .bool(true)),
            (FormatKeys.tokenizerSource, .string("tokenizer.json")),
            // a + b → ab
            (FormatKeys.merges, .uint32s([260, 261, 286, 0])),
        ]
    }
}

/// A directory of tiny models, by name and seed, that is gone after `body`.
package func withModels<R>(
    _ seeds: [String: UInt64] = ["tiny": 1], _ body: (FilePath) async throws -> R
) async throws -> R {
    let directory = try makeTemporaryDirectory()
    defer { try? removeFile(directory) }
    for (name, seed) in seeds { try TinyModel.write(to: model(name, in: directory), seed: seed) }
    return try await body(directory)
}

package func model(_ name: String, in directory: FilePath) -> FilePath {
    directory.appending(name + ".gguf")
}
