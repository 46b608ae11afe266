// SPDX-License-Identifier: Apache-2.0

package import ModelStore

extension Tokenizer {
    /// The vocabulary of a packed file; `nil` when it carries none and serves token ids only.
    package convenience init?(file: PackedFile) throws(ModelError) {
        let vocabulary = try ModelShape(file.metadata).vocabulary
        guard let tables = try TokenizerTables(file.metadata, vocabulary: vocabulary) else {
            return nil
        }
        guard tables.count == vocabulary else {
            throw .badTokenizer("it has \(tables.count) pieces, the model \(vocabulary) tokens")
        }
        try self.init(tables)
    }
}

extension TokenizerTables {
    /// Reads the tables as docs/format.md lays them down; `nil` when the file has none.
    ///
    /// - Parameter vocabulary: how many pieces there may be at most.
    package init?(_ metadata: Metadata, vocabulary: Int) throws(ModelError) {
        guard metadata.contains(FormatKeys.tokens) else { return nil }
        let model = try metadata.table(FormatKeys.tokenizerModel, Metadata.string(forKey:))
        guard model == "llama" else {
            throw .badTokenizer(
                "\(FormatKeys.tokenizerModel) is '\(model.quoted)'; only 'llama' is read")
        }
        self.init()
        if metadata.contains(FormatKeys.tokenizerSource) {
            let name = try metadata.table(FormatKeys.tokenizerSource, Metadata.string(forKey:))
            guard let source = Source(rawValue: name) else {
                throw .badTokenizer(
                    "\(FormatKeys.tokenizerSource) is '\(name.quoted)', which is unknown")
            }
            self.source = source
        }
        try readPieces(metadata, atMost: vocabulary)
        try readMerges(metadata)
        bos = try metadata.token(FormatKeys.bosToken)
        eos = try metadata.token(FormatKeys.eosToken)
        unknown = try metadata.token(FormatKeys.unknownToken)
        addsBOS = try metadata.flag(FormatKeys.addBOS) ?? true
        addsSpacePrefix = try metadata.flag(FormatKeys.addSpacePrefix) ?? true
        prefixesOnlyIfMissing = try metadata.flag(FormatKeys.prefixOnlyIfMissing) ?? false
    }

    private mutating func readPieces(
        _ metadata: Metadata, atMost limit: Int
    ) throws(ModelError) {
        let raw = try metadata.table(
            FormatKeys.tokenTypes, atMost: limit, Metadata.int32s(forKey:atMost:))
        var types: [Kind] = []
        types.reserveCapacity(raw.count)
        for (id, number) in raw.enumerated() {
            guard let kind = Kind(rawValue: number) else {
                throw .badTokenizer("token \(id) is of type \(number), which is unknown")
            }
            types.append(kind)
        }
        var pieces = TokenizerTables()
        pieces.reserve(pieces: raw.count)
        do {
            let found = try metadata.forEachString(forKey: FormatKeys.tokens) { piece in
                guard pieces.count < types.count else { return }
                pieces.append(piece, types[pieces.count])
            }
            guard found == types.count else {
                throw ModelError.badTokenizer(
                    "\(FormatKeys.tokens) has \(found) values, \(FormatKeys.tokenTypes) has "
                        + "\(types.count)")
            }
        } catch let error as ModelError {
            throw error
        } catch {
            throw .badTokenizer("\(FormatKeys.tokens): \(error)")
        }
        pieces.source = source
        self = pieces
    }

    private mutating func readMerges(_ metadata: Metadata) throws(ModelError) {
        let values = try metadata.table(
            FormatKeys.merges, atMost: 4 * Format.mergeLimit, Metadata.uint32s(forKey:atMost:))
        guard values.count % 4 == 0 else {
            throw .badTokenizer(
                "\(FormatKeys.merges) has \(values.count) values, which is not a multiple of 4")
        }
        merges.reserveCapacity(values.count / 4)
        for at in stride(from: 0, to: values.count, by: 4) {
            merges.append(
                Merge(
                    left: values[at], right: values[at + 1], result: values[at + 2],
                    rank: values[at + 3]))
        }
    }
}

extension Metadata {
    /// A value of the tokenizer's, with the store's refusal told as the model's.
    fileprivate func table<T>(
        _ key: String, _ read: (Metadata) -> (String) throws(StoreError) -> T
    ) throws(ModelError) -> T {
        do { return try read(self)(key) } catch { throw .badTokenizer("\(key): \(error)") }
    }

    /// An array of at most `limit` values.
    fileprivate func table<T>(
        _ key: String, atMost limit: Int,
        _ read: (Metadata) -> (String, Int) throws(StoreError) -> [T]
    ) throws(ModelError) -> [T] {
        do { return try read(self)(key, limit) } catch { throw .badTokenizer("\(key): \(error)") }
    }

    fileprivate func token(_ key: String) throws(ModelError) -> UInt32? {
        contains(key) ? try table(key, Metadata.uint32(forKey:)) : nil
    }

    fileprivate func flag(_ key: String) throws(ModelError) -> Bool? {
        contains(key) ? try table(key, Metadata.bool(forKey:)) : nil
    }
}
