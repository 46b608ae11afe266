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
                let isEmbedding = tensor.name == TensorLayout(shape).embedding.packedName
                for _ in 0..<tensor.byteCount / 4 {
                    let value =
                        isEmbedding
                        ? Float.random(in: -1...1, using: &random)
                        : Float.random(in: 0.5...1.5, using: &random)
                    withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += $0 }
                }
            }
            try writer.write(bytes)
        }
        try writer.finish()
    }

    private static let shape = ModelShape(
        vocabulary: vocabulary, hidden: hidden, layers: layers, inner: inner,
        intermediate: intermediate, hasLowerBound: false)

    private static var tensors: [TensorPlan] {
        let all = TensorLayout(shape).plans(.f32) { _ in "F32" }
        // The last norms first: the order in which the random numbers are drawn.
        let vectors = all.prefix { $0.packed == nil }
        return vectors.suffix(2) + vectors.dropLast(2) + all.dropFirst(vectors.count)
    }

    private static var facts: Facts { shape.facts(name: "tiny", embedding: .f32) }

    /// <unk>, <s>, </s>, the 256 bytes, a space, the letters, and tokens nobody uses.
    private static var tokenizer: Facts {
        var tokens = Vocabulary()
        tokens.append("<unk>".utf8, .unknown)
        for name in ["<s>", "</s>"] { tokens.append(name.utf8, .control) }
        for byte in UInt8.min...UInt8.max { tokens.append(Vocabulary.byteToken(byte).utf8, .byte) }
        for piece in ["▁"] + "abcdefghijklmnopqrstuvwxyz".map({ String($0) }) + ["ab"] {
            tokens.append(piece.utf8, .normal)
        }
        while tokens.count < vocabulary { tokens.append("<unused\(tokens.count)>".utf8, .unused) }
        (tokens.bos, tokens.eos, tokens.unknown) = (1, eos, 0)
        // a + b → ab
        tokens.merges = [.init(left: 260, right: 261, result: 286, rank: 0)]
        return tokens.facts()
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
