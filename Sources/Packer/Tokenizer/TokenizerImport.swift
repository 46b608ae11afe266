// SPDX-License-Identifier: Apache-2.0

package import ModelStore
package import SystemPackage

/// A checkpoint's tokenizer: its vocabulary, with the special tokens and habits that the files beside it name.
package struct TokenizerImport {
    package let vocabulary: Vocabulary
    package let templates: PackedTemplates
    /// "tokenizer.json" or "tokenizer.model".
    package let file: String
    /// What the files ask for that is survivable but not done.
    package let warnings: [String]

    /// Larger than any published vocabulary's file.
    static let fileLimit = 64 << 20

    /// Nil if the checkpoint has no tokenizer (such a model serves token ids only). tokenizer.json goes before tokenizer.model, as
    /// in transformers, unless the settings make that begin anew; a file that is there and not understood is an error, never a
    /// reason to take the other.
    package init?(_ checkpoint: Checkpoint) throws(PackError) {
        try self.init(checkpoint.directory, TokenizerNeeds(checkpoint.config))
    }

    /// - Parameter needs: what config.json says.
    package init?(_ directory: FilePath, _ needs: TokenizerNeeds) throws(PackError) {
        let size = needs.vocabulary
        let settings = try TokenizerSettings(directory, needs)
        var draft: VocabularyDraft
        let json = try Self.find("tokenizer.json", directory).map { path throws(PackError) in
            TokenizerJSON(
                json: try Checkpoint.json(path, limit: Self.fileLimit), file: path.string,
                ignoresTemplate: settings.isLlama)
        }
        let model = Self.find("tokenizer.model", directory)
        if let json, model == nil || !settings.isLlama || !settings.isRebuilt {
            file = "tokenizer.json"
            draft = try json.draft(limit: size)
            if let model, let other = try? Self.pieces(model, limit: size),
                !draft.vocabulary.agrees(with: other.vocabulary)
            {
                draft.warnings.append(
                    "tokenizer.json and tokenizer.model hold different pieces or merges: tokenizer.json counts"
                )
            }
        } else if let model {
            file = "tokenizer.model"
            draft = try Self.pieces(model, limit: size)
            if let json, !settings.isModern {
                draft.vocabulary.source = .json
                try json.addTokens(to: &draft)
            }
        } else {
            try Self.refuseOthers(directory)
            return nil
        }
        try settings.apply(to: &draft)
        draft.fill()
        try draft.check()
        vocabulary = draft.vocabulary
        let (templates, more) = try settings.chatTemplates()
        self.templates = templates
        warnings = draft.warnings + more
    }

    private static func pieces(_ path: FilePath, limit: Int) throws(PackError) -> VocabularyDraft {
        let bytes = try InputFile.read(path, .sentencePiece, limit: Self.fileLimit)
        return try SentencePiece(bytes, file: path.string).draft(limit: limit)
    }

    private static func find(_ name: String, _ directory: FilePath) -> FilePath? {
        let path = directory.appending(name)
        return InputFile.exists(path) ? path : nil
    }

    /// Tokenizers of other families that a checkpoint may hold instead, and what is left of one that is not there.
    private static func refuseOthers(_ directory: FilePath) throws(PackError) {
        for (name, kind) in [
            ("vocab.txt", "WordPiece"), ("vocab.json", "GPT-2 (ByteLevel) BPE"),
            ("spiece.model", "SentencePiece in T5's layout"), ("tekken.json", "Tekken"),
        ] {
            guard let path = find(name, directory) else { continue }
            throw .unsupported(
                file: path.string,
                what: "a \(kind) tokenizer; only tokenizer.json, or tokenizer.model of the Llama "
                    + "kind, is read. Remove the file to pack a model for token ids only")
        }
        let names = (try? Directory.names(in: directory)) ?? []
        guard let left = names.first(where: { $0.hasPrefix("tokenizer") || isSettings($0) }) else {
            return
        }
        throw .unsupported(
            file: directory.appending(left).string,
            what:
                "neither tokenizer.json nor tokenizer.model lies beside it; download one, or remove "
                + "this file to pack a model for token ids only")
    }

    private static func isSettings(_ name: String) -> Bool {
        ["special_tokens_map.json", "added_tokens.json"].contains(name)
    }
}

extension Vocabulary {
    /// Whether texts become the same tokens by the pieces and merges of both, added tokens left aside.
    fileprivate func agrees(with model: Vocabulary) -> Bool {
        guard
            (0..<model.count).allSatisfy({ $0 < count && piece($0).elementsEqual(model.piece($0)) })
        else { return false }
        func pair(_ merge: Merge) -> UInt64 { UInt64(merge.left) << 32 | UInt64(merge.right) }
        let ranks = Dictionary(model.merges.map { (pair($0), $0.rank) }) { first, _ in first }
        guard merges.count == model.merges.count else { return false }
        var last: UInt32 = 0
        for merge in merges {
            guard let rank = ranks[pair(merge)], rank >= last else { return false }
            last = rank
        }
        return true
    }
}
