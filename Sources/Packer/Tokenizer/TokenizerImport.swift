// SPDX-License-Identifier: Apache-2.0

package import ModelStore
internal import SystemPackage

/// A checkpoint's tokenizer: its vocabulary, with the special tokens and habits that the files beside it name.
package struct TokenizerImport {
    package let vocabulary: Vocabulary
    /// "tokenizer.json" or "tokenizer.model".
    package let file: String
    /// What the files ask for that is survivable but not done.
    package let warnings: [String]

    /// Larger than any published vocabulary's file.
    static let fileLimit = 64 << 20

    /// Nil if the checkpoint has no tokenizer (such a model serves token ids only). tokenizer.json goes before tokenizer.model; a
    /// file that is there and not understood is an error, never a reason to take the other.
    package init?(_ checkpoint: Checkpoint) throws(PackError) {
        let directory = checkpoint.directory
        let size = checkpoint.config.vocabularySize
        let settings = try TokenizerSettings(directory, checkpoint.config)
        var draft: VocabularyDraft
        if let path = Self.find("tokenizer.json", directory) {
            let json = try Checkpoint.json(path, limit: Self.fileLimit)
            file = "tokenizer.json"
            draft = try TokenizerJSON(
                json: json, file: path.string, ignoresTemplate: settings.isLlama
            )
            .draft(limit: size)
        } else if let path = Self.find("tokenizer.model", directory) {
            let bytes = try InputFile.read(path, .sentencePiece, limit: Self.fileLimit)
            file = "tokenizer.model"
            draft = try SentencePiece(bytes, file: path.string).draft(limit: size)
        } else {
            try Self.refuseOthers(directory)
            return nil
        }
        try settings.apply(to: &draft)
        draft.fill()
        try draft.check()
        vocabulary = draft.vocabulary
        warnings = draft.warnings
    }

    private static func find(_ name: String, _ directory: FilePath) -> FilePath? {
        let path = directory.appending(name)
        return InputFile.exists(path) ? path : nil
    }

    /// Tokenizers of other families that a checkpoint may hold instead.
    private static func refuseOthers(_ directory: FilePath) throws(PackError) {
        for (name, kind) in [
            ("vocab.txt", "WordPiece"), ("vocab.json", "GPT-2 (ByteLevel) BPE"),
            ("spiece.model", "SentencePiece in T5's layout"), ("tekken.json", "Tekken"),
        ] {
            guard let path = find(name, directory) else { continue }
            throw .unsupported(
                file: path.string,
                what: "a \(kind) tokenizer; only tokenizer.json or tokenizer.model of the Llama "
                    + "kind is read. Remove the file to pack a model for token ids only")
        }
    }
}
