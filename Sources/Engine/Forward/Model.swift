// SPDX-License-Identifier: Apache-2.0

package import ModelStore

/// A packed model, bound: every name resolved and every shape checked, so that running it checks nothing.
///
/// Immutable and shared; it keeps the file mapped for as long as it lives.
package final class Model: Sendable {
    package let file: PackedFile
    package let shape: Architecture
    /// `nil` when the file carries no tokenizer: it serves token ids only.
    package let tokenizer: Tokenizer?
    /// What is remembered of tokens, and in which type.
    package let memory: SequenceMemory
    let program: Program

    /// The model's identity: a digest over everything of its file that decides its results.
    package var digest: String { file.modelDigest }

    /// - Parameter keyValues: how keys and values are stored; models without attention have none.
    package init(_ file: PackedFile, keyValues: KeyValueType = .f32) throws(ModelError) {
        self.file = file
        do throws(StoreError) {
            shape = try Architecture(file.metadata)
            memory = shape.memory(keyValues)
            program = try Program(file, shape, keyValues)
        } catch { throw .store(error) }
        tokenizer = try Tokenizer(file: file, vocabulary: shape.vocabulary)
        do { try file.map.checkUnchanged() } catch { throw .store(error) }
    }

    /// What has happened to the file since it was mapped; `nil` while results count. To be asked after computing and before
    /// anything is told of what came out: what was computed meanwhile may be of other bytes, or of zeros.
    package var damage: FileDamage? { file.damage }
}
