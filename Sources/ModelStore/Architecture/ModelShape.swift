// SPDX-License-Identifier: Apache-2.0

/// The sizes of an HGRNBit model, and what else its config.json says of it: all that decides which tensors there are and how
/// large they are. Unset, it is the original code's default, the 1.3B model.
package struct ModelShape: Sendable, Equatable {
    /// V: tokens.
    package var vocabulary: Int
    /// D: width of the residual stream.
    package var hidden: Int
    /// L: layers.
    package var layers: Int
    /// E: channels of the recurrence.
    package var inner: Int
    /// I: width of the gated feed-forward.
    package var intermediate: Int
    /// `num_heads` and `max_position_embeddings`: neither changes a result.
    package var heads = 1
    package var context = 2048
    /// `rms_norm_eps`; the norm inside each ternary product always uses 1e-6.
    package var epsilon: Float = 1e-6
    /// Whether the forget gates have a lower bound (all published models).
    package var hasLowerBound: Bool
    /// The checkpoint's head is its embedding (`tie_word_embeddings`); a packed file has a ternary head all the same.
    package var isTied = false

    /// - Parameter inner: as `hidden` if nil.
    package init(
        vocabulary: Int = 32000, hidden: Int = 2048, layers: Int = 24, inner: Int? = nil,
        intermediate: Int = 5632, hasLowerBound: Bool = true
    ) {
        self.vocabulary = vocabulary
        self.hidden = hidden
        self.layers = layers
        self.inner = inner ?? hidden
        self.intermediate = intermediate
        self.hasLowerBound = hasLowerBound
    }

    /// Floats in one conversation's recurrent state.
    package var stateCount: Int { layers * inner }
    /// Ternary weights, the output head included: multiply-free additions per token.
    package var ternaryWeights: Int {
        layers * (4 * inner * hidden + 3 * intermediate * hidden) + vocabulary * hidden
    }

    // MARK: In a packed file

    /// The keys of the sizes in the order of a file, and the most each may be.
    private static let sizes:
        [(key: String, path: any WritableKeyPath<ModelShape, Int> & Sendable, limit: Int)] = [
            (FormatKeys.hgrnbit.vocabularySize, \.vocabulary, Format.vocabularyLimit),
            (FormatKeys.hgrnbit.embeddingLength, \.hidden, 1 << 16),
            (FormatKeys.hgrnbit.blockCount, \.layers, 1 << 10),
            (FormatKeys.hgrnbit.feedForwardLength, \.intermediate, 1 << 20),
            (FormatKeys.hgrnbit.innerLength, \.inner, 1 << 17),
            (FormatKeys.hgrnbit.headCount, \.heads, 1 << 16),
            (FormatKeys.hgrnbit.contextLength, \.context, Int(Int32.max)),
        ]

    /// The most that a size may be.
    package static func limit(_ size: KeyPath<ModelShape, Int>) -> Int {
        sizes.first { $0.path as AnyKeyPath == size }?.limit ?? .max
    }

    /// The keys of a packed file that say what model it is, in order.
    package func facts(
        name: String, version: UInt32 = Format.version, embedding: EmbeddingEncoding
    ) -> Facts {
        [
            (FormatKeys.architecture, .string(Format.architecture)),
            (FormatKeys.name, .string(name)),
            (FormatKeys.alignment, .uint32(UInt32(Format.alignment))),
            (FormatKeys.hgrnbit.formatVersion, .uint32(version)),
        ] + Self.sizes.map { ($0.key, .uint32(UInt32(clamping: self[keyPath: $0.path]))) } + [
            (FormatKeys.hgrnbit.rmsEpsilon, .float(epsilon)),
            (FormatKeys.hgrnbit.useLowerBound, .bool(hasLowerBound)),
            (FormatKeys.hgrnbit.tieWordEmbeddings, .bool(isTied)),
            (FormatKeys.hgrnbit.embeddingEncoding, .string(embedding.rawValue)),
        ]
    }

    /// Reads and bounds what a file claims.
    package init(_ metadata: Metadata) throws(StoreError) {
        self.init()
        let architecture = try metadata.string(forKey: FormatKeys.architecture)
        guard architecture == Format.architecture else {
            throw .malformed(
                "\(FormatKeys.architecture) is '\(architecture.quoted)', not \(Format.architecture)"
            )
        }
        for size in Self.sizes {
            self[keyPath: size.path] = Int(try metadata.uint32(forKey: size.key))
        }
        epsilon = try metadata.float(forKey: FormatKeys.hgrnbit.rmsEpsilon)
        hasLowerBound = try metadata.bool(forKey: FormatKeys.hgrnbit.useLowerBound)
        isTied = try metadata.bool(forKey: FormatKeys.hgrnbit.tieWordEmbeddings)
        try check()
    }

    /// Refuses what is not run. The packer asks too, before it begins.
    package func check() throws(StoreError) {
        for size in Self.sizes {
            let value = self[keyPath: size.path]
            guard (1...size.limit).contains(value) else {
                throw .malformed("\(size.key) is \(value); it must be 1 to \(size.limit)")
            }
        }
        // Every slot has such a state: 320 KiB in the largest published model.
        let state = stateCount * MemoryLayout<Float>.size
        guard state <= Format.stateLimit else {
            throw .malformed(
                "\(layers) layers and a recurrence \(inner) wide make a conversation's state \(state) bytes; "
                    + "it must be at most \(Format.stateLimit)")
        }
        guard epsilon > 0, epsilon < 1 else {
            throw .malformed(
                "\(FormatKeys.hgrnbit.rmsEpsilon) is \(epsilon); it must be between 0 and 1")
        }
    }
}
