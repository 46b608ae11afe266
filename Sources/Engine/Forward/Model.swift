// SPDX-License-Identifier: Apache-2.0

package import ModelStore

/// The sizes of a model.
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
    /// config.json's `rms_norm_eps`; the norm inside each ternary product always uses 1e-6.
    package var epsilon: Float
    /// Whether the forget gates have a lower bound (all published models).
    package var hasLowerBound: Bool

    /// Floats in one conversation's recurrent state.
    package var stateCount: Int { layers * inner }
    /// Ternary weights, the output head included: multiply-free additions per token.
    package var ternaryWeights: Int {
        layers * (4 * inner * hidden + 3 * intermediate * hidden) + vocabulary * hidden
    }
}

/// A packed model, bound: every name resolved and every shape checked, so that running it checks nothing.
///
/// Immutable and shared; it keeps the file mapped for as long as it lives.
package final class Model: Sendable {
    package let file: PackedFile
    package let shape: ModelShape
    /// `nil` when the file carries no tokenizer: it serves token ids only.
    package let tokenizer: Tokenizer?
    let weights: Weights

    /// The model's identity: a digest over everything that decides its results.
    package var digest: String { file.modelDigest }

    package init(_ file: PackedFile) throws(ModelError) {
        self.file = file
        shape = try ModelShape(file.metadata)
        weights = try Weights(file, shape)
        tokenizer = try Tokenizer(file: file)
        do { try file.map.checkUnchanged() } catch { throw .store(error) }
    }

    /// What has happened to the file since it was mapped; `nil` while results count. To be asked after computing and before
    /// anything is told of what came out: what was computed meanwhile may be of other bytes, or of zeros.
    package var damage: FileDamage? { file.damage }
}

extension ModelShape {
    /// Reads and bounds the sizes a file claims.
    package init(_ metadata: Metadata) throws(ModelError) {
        func size(_ key: String, atMost limit: Int) throws(ModelError) -> Int {
            let value = try metadata.value(key) { m throws(StoreError) in
                Int(try m.uint32(forKey: key))
            }
            guard value > 0, value <= limit else {
                throw .badMetadata("\(key) is \(value); it must be 1 to \(limit)")
            }
            return value
        }
        vocabulary = try size(FormatKeys.vocabularySize, atMost: Format.vocabularyLimit)
        hidden = try size(FormatKeys.embeddingLength, atMost: 1 << 17)
        layers = try size(FormatKeys.blockCount, atMost: 1 << 12)
        inner = try size(FormatKeys.innerLength, atMost: 1 << 18)
        intermediate = try size(FormatKeys.feedForwardLength, atMost: 1 << 20)
        // Every slot has such a state: 320 KiB in the largest published model.
        let state = layers * inner * MemoryLayout<Float>.size
        guard state <= Format.stateLimit else {
            throw .badMetadata(
                "\(FormatKeys.blockCount) is \(layers) and \(FormatKeys.innerLength) \(inner): a "
                    + "conversation's state is \(state) bytes; it must be at most \(Format.stateLimit)"
            )
        }
        epsilon = try metadata.value(FormatKeys.rmsEpsilon) { m throws(StoreError) in
            try m.float(forKey: FormatKeys.rmsEpsilon)
        }
        guard epsilon > 0, epsilon < 1 else {
            throw .badMetadata("\(FormatKeys.rmsEpsilon) is \(epsilon); it must be between 0 and 1")
        }
        hasLowerBound = try metadata.value(FormatKeys.useLowerBound) { m throws(StoreError) in
            try m.bool(forKey: FormatKeys.useLowerBound)
        }
    }
}

extension Metadata {
    /// A metadata value, with the store's refusal told as the model's.
    func value<T>(
        _ key: String, _ read: (Metadata) throws(StoreError) -> T
    ) throws(ModelError) -> T {
        do { return try read(self) } catch { throw .badMetadata("metadata \(key): \(error)") }
    }
}
