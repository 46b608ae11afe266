// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
package import SystemPackage

/// A checkpoint of any architecture that is packed.
package enum PackSource: Sendable {
    case hgrnbit(Checkpoint)
    /// - masters: what to do with masters that are ternary already.
    case attention(AttentionCheckpoint, masters: TernaryMasters?)

    /// Opens the checkpoint in `directory`; config.json's model_type says which architecture it is of.
    package init(directory: FilePath, masters: TernaryMasters? = nil) throws(PackError) {
        let path = directory.appending("config.json")
        if InputFile.exists(path), AttentionConfig.family(try Checkpoint.json(path)) != nil {
            self = .attention(try AttentionCheckpoint(directory: directory), masters: masters)
        } else {
            self = .hgrnbit(try Checkpoint(directory: directory))
        }
    }

    package var directory: FilePath {
        switch self {
        case .hgrnbit(let checkpoint): checkpoint.directory
        case .attention(let checkpoint, _): checkpoint.directory
        }
    }

    package var vocabulary: Int { tokens.vocabulary }

    var files: [FilePath] {
        switch self {
        case .hgrnbit(let checkpoint): checkpoint.files
        case .attention(let checkpoint, _): checkpoint.files
        }
    }

    var warnings: [String] {
        switch self {
        case .hgrnbit(let checkpoint): checkpoint.warnings
        case .attention(let checkpoint, _): checkpoint.warnings
        }
    }

    /// Bytes of all tensors as stored.
    package var byteCount: Int {
        switch self {
        case .hgrnbit(let checkpoint): checkpoint.byteCount
        case .attention(let checkpoint, _): checkpoint.byteCount
        }
    }

    var parameterCount: Int {
        switch self {
        case .hgrnbit(let checkpoint): checkpoint.parameterCount
        case .attention(let checkpoint, _): checkpoint.parameterCount
        }
    }

    /// `_name_or_path`, if config.json has one.
    var name: String? {
        switch self {
        case .hgrnbit(let checkpoint): checkpoint.config.name
        case .attention(let checkpoint, _): checkpoint.config.name
        }
    }

    /// `general.architecture` of what it becomes.
    var architecture: String {
        switch self {
        case .hgrnbit: Format.architecture
        case .attention(let checkpoint, _): checkpoint.config.shape.family.rawValue
        }
    }

    /// What a tokenizer must fit.
    var tokens: TokenizerNeeds {
        switch self {
        case .hgrnbit(let checkpoint): TokenizerNeeds(checkpoint.config)
        case .attention(let checkpoint, _): checkpoint.config.tokens
        }
    }

    // MARK: - Tensors

    /// In the order of the packed file.
    var roles: [TensorRole] {
        switch self {
        case .hgrnbit(let checkpoint): checkpoint.layout.roles
        case .attention(let checkpoint, _): checkpoint.layout.roles
        }
    }

    var embedding: TensorRole {
        switch self {
        case .hgrnbit(let checkpoint): checkpoint.layout.embedding
        case .attention(let checkpoint, _): checkpoint.layout.embedding
        }
    }

    func tensor(_ role: TensorRole) throws(PackError) -> CheckpointTensor {
        switch self {
        case .hgrnbit(let checkpoint): try checkpoint.tensor(role)
        case .attention(let checkpoint, _): try checkpoint.tensor(role)
        }
    }

    /// The packed file's tensors in order.
    func plans(_ encoding: EmbeddingEncoding) throws(PackError) -> [TensorPlan] {
        func type(_ role: TensorRole) throws(PackError) -> String {
            try tensor(role).type.rawValue
        }
        return switch self {
        case .hgrnbit(let checkpoint): try checkpoint.layout.plans(encoding, sourceType: type)
        case .attention(let checkpoint, _): try checkpoint.layout.plans(encoding, sourceType: type)
        }
    }

    /// What the packed file says of the model.
    func facts(
        name: String, version: UInt32, embedding: EmbeddingEncoding
    ) -> Facts {
        switch self {
        case .hgrnbit(let checkpoint):
            checkpoint.config.shape.facts(name: name, version: version, embedding: embedding)
        case .attention(let checkpoint, _):
            checkpoint.config.shape.facts(name: name, version: version, embedding: embedding)
        }
    }
}

/// What a checkpoint's config.json says to its tokenizer.
package struct TokenizerNeeds: Sendable, Equatable {
    /// Rows of the embedding.
    package var vocabulary = 0
    package var bos: Int?
    /// Where answers end.
    package var ends: [Int] = []
    package var padding: Int?
    /// The tokenizer's class, where tokenizer_config.json names none.
    package var tokenizerClass: String?

    package init() {}

    init(_ config: CheckpointConfig) {
        vocabulary = config.shape.vocabulary
        (bos, ends, padding) = (config.bos, config.ends, config.padding)
        tokenizerClass = config.tokenizerClass
    }
}
