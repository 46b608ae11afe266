// SPDX-License-Identifier: Apache-2.0

/// The families of ternary models with attention; docs/bitnet.md says what each computes. Raw values are `general.architecture`.
package enum AttentionFamily: String, Sendable, CaseIterable {
    /// BitNet b1.58: relu² and a norm before each half's last product.
    case bitnet
    /// Llama with ternary products.
    case llama = "llama-bitnet"
    /// Qwen3 for embeddings: norms of queries and keys, one inside every product, no head.
    case qwen3 = "qwen3-bitnet"

    package var hasSubNorms: Bool { self == .bitnet }
    package var hasHeadNorms: Bool { self == .qwen3 }
    /// Whether it predicts tokens.
    package var hasHead: Bool { self != .qwen3 }
}

/// Which row of hidden states is a text's vector; the numbers are GGUF's `pooling_type`.
package enum Pooling: UInt32, Sendable, CaseIterable {
    case mean = 1
    case first, last
}

/// What the scales of a checkpoint's ternary matrices were made of: a record, since a packed file's are always factors.
package enum ScaleSource: String, Sendable, CaseIterable {
    /// `weight_scale`, as it is.
    case multiply
    /// 1 / `weight_scale`.
    case reciprocal
    /// The mean magnitude of float weights.
    case masters
}

/// The sizes and constants of a model with attention: all that decides which tensors there are, how large they are and what is
/// computed of them.
package struct AttentionShape: Sendable, Equatable {
    package var family: AttentionFamily
    /// V, D, L, I: tokens, width, layers, width of the gated feed-forward.
    package var vocabulary = 1
    package var hidden = 1
    package var layers = 1
    package var intermediate = 1
    /// H, G, d: heads, heads of keys and values, width of one.
    package var heads = 1
    package var keyHeads = 1
    package var headSize = 2
    /// Tokens of prompt and answer together, at most.
    package var context = 2048
    /// Of every norm that is not inside a product.
    package var epsilon: Float = 1e-5
    /// The base of the rotation's angles.
    package var theta: Float = 10000
    /// The epsilon of the norm inside every product; nil where there is none.
    package var innerEpsilon: Float?
    /// The head is the embedding.
    package var isTied = false
    package var scaleSource = ScaleSource.masters
    /// Embedding models: which row, and whether it is brought to length 1.
    package var pooling = Pooling.last
    package var normalizes = true

    package init(_ family: AttentionFamily) { self.family = family }

    /// Widths of a token's queries, and of its keys or values.
    package var queryWidth: Int { heads * headSize }
    package var keyWidth: Int { keyHeads * headSize }

    /// Ternary weights.
    package var ternaryWeights: Int {
        layers * (2 * hidden * (queryWidth + keyWidth) + 3 * hidden * intermediate)
    }
    /// Keys and values of a token.
    package var tokenNumbers: Int { layers * 2 * keyWidth }

    // MARK: In a packed file

    private typealias Size = (
        key: String, path: any WritableKeyPath<AttentionShape, Int> & Sendable, limit: Int
    )

    private static func sizes(_ keys: FormatKeys) -> [Size] {
        [
            (keys.vocabularySize, \.vocabulary, Format.vocabularyLimit),
            (keys.embeddingLength, \.hidden, 1 << 16),
            (keys.blockCount, \.layers, 1 << 10),
            (keys.feedForwardLength, \.intermediate, exactColumns),
            (keys.headCount, \.heads, 1 << 12),
            (keys.keyHeadCount, \.keyHeads, 1 << 12),
            (keys.keyLength, \.headSize, 1 << 12),
            // Angles are exact for so many positions.
            (keys.contextLength, \.context, 1 << 20),
        ]
    }

    /// Columns of a ternary matrix up to which a row's sum, at most 127 for each, is a float32 exactly.
    package static let exactColumns = 132_104

    package static func limit(_ size: KeyPath<AttentionShape, Int>) -> Int {
        sizes(.hgrnbit).first { $0.path as AnyKeyPath == size }?.limit ?? .max
    }

    private var keys: FormatKeys { FormatKeys(architecture: family.rawValue) }

    /// How rows become int8: s = fl(fl(1/m) · 127), half to even. No other is read.
    private static let rounding = "half_even"
    private static let factor = "reciprocal_times_127"

    /// The keys of a packed file that say what model it is, in order.
    package func facts(
        name: String, version: UInt32 = Format.version, embedding: EmbeddingEncoding
    ) -> Facts {
        var facts: Facts = [
            (FormatKeys.architecture, .string(family.rawValue)),
            (FormatKeys.name, .string(name)),
            (FormatKeys.alignment, .uint32(UInt32(Format.alignment))),
            (keys.formatVersion, .uint32(version)),
        ]
        facts += Self.sizes(keys).map {
            ($0.key, .uint32(UInt32(clamping: self[keyPath: $0.path])))
        }
        facts += [
            (keys.rmsEpsilon, .float(epsilon)), (keys.ropeBase, .float(theta)),
            (keys.activationRounding, .string(Self.rounding)),
            (keys.activationFactor, .string(Self.factor)),
            (keys.scaleSource, .string(scaleSource.rawValue)),
            (keys.embeddingEncoding, .string(embedding.rawValue)),
        ]
        if let innerEpsilon { facts.append((keys.innerEpsilon, .float(innerEpsilon))) }
        if family.hasHead {
            facts.append((keys.tieWordEmbeddings, .bool(isTied)))
        } else {
            facts.append((keys.poolingType, .uint32(pooling.rawValue)))
            facts.append((keys.normalizes, .bool(normalizes)))
        }
        return facts
    }

    /// Reads and bounds what a file claims.
    package init(_ metadata: Metadata) throws(StoreError) {
        let name = try metadata.string(forKey: FormatKeys.architecture)
        guard let family = AttentionFamily(rawValue: name) else {
            throw .malformed(
                "\(FormatKeys.architecture) is '\(name.quoted)', which has no attention")
        }
        self.init(family)
        let keys = keys
        for size in Self.sizes(keys) {
            self[keyPath: size.path] = Int(try metadata.uint32(forKey: size.key))
        }
        epsilon = try metadata.float(forKey: keys.rmsEpsilon)
        theta = try metadata.float(forKey: keys.ropeBase)
        func only(_ key: String, _ wanted: String) throws(StoreError) {
            let found = try metadata.string(forKey: key)
            guard found == wanted else {
                throw .malformed("\(key) is '\(found.quoted)'; this program computes '\(wanted)'")
            }
        }
        try only(keys.activationRounding, Self.rounding)
        try only(keys.activationFactor, Self.factor)
        let source = try metadata.string(forKey: keys.scaleSource)
        guard let source = ScaleSource(rawValue: source) else {
            throw .malformed("\(keys.scaleSource) is '\(source.quoted)', which is unknown")
        }
        scaleSource = source
        if metadata.contains(keys.innerEpsilon) {
            innerEpsilon = try metadata.float(forKey: keys.innerEpsilon)
        }
        if family.hasHead {
            isTied = try metadata.bool(forKey: keys.tieWordEmbeddings)
        } else {
            let number = try metadata.uint32(forKey: keys.poolingType)
            guard let pooling = Pooling(rawValue: number) else {
                throw .malformed("\(keys.poolingType) is \(number); 1, 2 and 3 are read")
            }
            self.pooling = pooling
            normalizes = try metadata.bool(forKey: keys.normalizes)
        }
        try check()
    }

    /// Refuses what is not computed. The packer asks too, before it begins.
    package func check() throws(StoreError) {
        for size in Self.sizes(keys) {
            let value = self[keyPath: size.path]
            guard (1...size.limit).contains(value) else {
                throw .malformed("\(size.key) is \(value); it must be 1 to \(size.limit)")
            }
        }
        guard heads % keyHeads == 0 else {
            throw .malformed(
                "\(heads) heads are no multiple of \(keyHeads) heads of keys and values")
        }
        guard headSize % 2 == 0 else {
            throw .malformed("heads are \(headSize) wide; the rotation pairs two halves")
        }
        guard !family.hasSubNorms || queryWidth == hidden else {
            throw .malformed(
                "\(heads) heads of \(headSize) are \(queryWidth) wide, but the norm behind attention \(hidden)"
            )
        }
        guard queryWidth <= Self.exactColumns else {
            throw .malformed("\(heads) heads of \(headSize) are wider than \(Self.exactColumns)")
        }
        for (name, value) in [("epsilon", epsilon), ("inner epsilon", innerEpsilon ?? epsilon)] {
            guard value > 0, value < 1 else {
                throw .malformed("the norms' \(name) is \(value); it must be between 0 and 1")
            }
        }
        guard theta.isFinite, theta >= 1 else {
            throw .malformed("\(keys.ropeBase) is \(theta); it must be 1 or more")
        }
    }
}
