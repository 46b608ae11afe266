// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import ModelStore
internal import SystemPackage

/// What a packed file will hold: its facts and its tensors, in order, before any data.
struct PackedContents {
    let name: String
    let embedding: EmbeddingEncoding
    private let facts: Facts
    private let tensors: [TensorPlan]

    init(
        _ source: PackSource, name: String?, tokenizer: TokenizerImport?,
        embedding: PackJob.Embedding
    ) throws(PackError) {
        self.name = Self.name(wish: name, source)
        self.embedding =
            switch (embedding, try source.tensor(source.embedding).type) {
            case (.q6, _): .q6
            case (.keep, .f16): .f16
            case (.keep, .bf16): .bf16
            case (.keep, _): .f32
            }
        let keys = FormatKeys(architecture: source.architecture)
        facts =
            source.facts(
                name: self.name, version: tokenizer?.vocabulary.formatVersion ?? Format.version,
                embedding: self.embedding)
            + (tokenizer.map { $0.vocabulary.facts(keys) + $0.templates.facts(keys) } ?? [])
        tensors = try source.plans(self.embedding)
    }

    /// The file's writer, everything declared.
    func writer(to path: FilePath, replacing: Bool) throws(PackError) -> PackedWriter {
        do {
            return try PackedWriter(
                path: path, metadata: facts, tensors: tensors, replacing: replacing)
        } catch { throw .store(error) }
    }

    /// A name made of letters, digits, '.', '-' and '_': the wish, or the last part of config.json's `_name_or_path`. Where the
    /// checkpoint lies is no part of it: a copy elsewhere packs to the same bytes.
    private static func name(wish: String?, _ source: PackSource) -> String {
        for candidate in [wish, source.name] {
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
        return source.architecture
    }
}

extension TensorRole {
    /// The packed name without layer and ".weight": "attn_i", "ffn_down", "output".
    var kindName: String {
        let parts = packedName.split(separator: ".")
        return String(parts.first == "blk" && parts.count > 2 ? parts[2] : parts.first ?? "")
    }
}
