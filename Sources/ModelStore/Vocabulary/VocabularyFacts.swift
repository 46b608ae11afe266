// SPDX-License-Identifier: Apache-2.0

/// The `tokenizer.*` keys of a packed file, both ways; docs/format.md lays them down.
extension Vocabulary {
    /// The keys and values to write, in order.
    package var facts: Facts {
        var facts: Facts = [
            (FormatKeys.tokenizerModel, .string(Self.model)),
            (FormatKeys.tokens, .strings(tokens)),
            (FormatKeys.scores, .floats(scores)),
            (FormatKeys.tokenTypes, .int32s(kinds.map(\.rawValue))),
        ]
        for (key, id) in [
            (FormatKeys.bosToken, bos), (FormatKeys.eosToken, endTokens.first),
            (FormatKeys.unknownToken, unknown), (FormatKeys.paddingToken, padding),
        ] {
            if let id { facts.append((key, .uint32(id))) }
        }
        facts += [
            (FormatKeys.addBOS, .bool(addsBOS)),
            (FormatKeys.addSpacePrefix, .bool(addsSpacePrefix)),
            (FormatKeys.tokenizerSource, .string(source.rawValue)),
            (
                FormatKeys.merges,
                .uint32s(merges.flatMap { [$0.left, $0.right, $0.result, $0.rank] })
            ),
        ]
        // Only where they say something, so that most files keep to the usual keys.
        if prefixesOnlyIfMissing { facts.append((FormatKeys.prefixOnlyIfMissing, .bool(true))) }
        if endTokens.count > 1 { facts.append((FormatKeys.endTokens, .uint32s(endTokens))) }
        if !normalized.isEmpty { facts.append((FormatKeys.normalizedTokens, .uint32s(normalized))) }
        return facts
    }

    /// The least version of the format whose readers heed all of `facts`.
    package var formatVersion: UInt32 { endTokens.count > 1 || !normalized.isEmpty ? 2 : 1 }

    private static let model = "llama"

    /// Reads and checks the vocabulary of a file; `nil` when it has none.
    ///
    /// - Parameter wanted: how many pieces there must be, if that is known.
    package init?(_ metadata: Metadata, size wanted: Int?) throws(StoreError) {
        let size = wanted ?? Format.vocabularyLimit
        guard metadata.contains(FormatKeys.tokens) || metadata.contains(FormatKeys.tokenizerModel)
        else { return nil }
        let model = try metadata.string(forKey: FormatKeys.tokenizerModel)
        guard model == Self.model else {
            throw .malformed(
                "\(FormatKeys.tokenizerModel) is '\(model.quoted)'; only '\(Self.model)' is read")
        }
        self.init()
        if metadata.contains(FormatKeys.tokenizerSource) {
            let name = try metadata.string(forKey: FormatKeys.tokenizerSource)
            guard let source = Source(rawValue: name) else {
                throw .malformed(
                    "\(FormatKeys.tokenizerSource) is '\(name.quoted)', which is unknown")
            }
            self.source = source
        }
        try readPieces(metadata, atMost: size)
        try readMerges(metadata)
        func token(_ key: String) throws(StoreError) -> UInt32? {
            metadata.contains(key) ? try metadata.uint32(forKey: key) : nil
        }
        func flag(_ key: String, _ usual: Bool) throws(StoreError) -> Bool {
            metadata.contains(key) ? try metadata.bool(forKey: key) : usual
        }
        func ids(_ key: String) throws(StoreError) -> [UInt32]? {
            metadata.contains(key) ? try metadata.uint32s(forKey: key, atMost: size) : nil
        }
        bos = try token(FormatKeys.bosToken)
        let eos = try token(FormatKeys.eosToken)
        endTokens = try ids(FormatKeys.endTokens) ?? (eos.map { [$0] } ?? [])
        unknown = try token(FormatKeys.unknownToken)
        padding = try token(FormatKeys.paddingToken)
        normalized = try ids(FormatKeys.normalizedTokens) ?? []
        addsBOS = try flag(FormatKeys.addBOS, true)
        addsSpacePrefix = try flag(FormatKeys.addSpacePrefix, true)
        prefixesOnlyIfMissing = try flag(FormatKeys.prefixOnlyIfMissing, false)
        if let wanted, count != wanted {
            throw .malformed("it has \(count) pieces, the model \(wanted) tokens")
        }
        try check()
    }

    private mutating func readPieces(
        _ metadata: Metadata, atMost limit: Int
    ) throws(StoreError) {
        let raw = try metadata.int32s(forKey: FormatKeys.tokenTypes, atMost: limit)
        var types: [Kind] = []
        types.reserveCapacity(raw.count)
        for (id, number) in raw.enumerated() {
            guard let kind = Kind(rawValue: number) else {
                throw .malformed("token \(id) is of type \(number), which is unknown")
            }
            types.append(kind)
        }
        var pieces = Vocabulary(source: source)
        pieces.reserve(pieces: raw.count)
        let found = try metadata.forEachString(forKey: FormatKeys.tokens) { piece in
            guard pieces.count < types.count else { return }
            pieces.append(piece, types[pieces.count])
        }
        guard found == types.count else {
            throw .malformed(
                "\(FormatKeys.tokens) has \(found) values, \(FormatKeys.tokenTypes) has \(types.count)"
            )
        }
        // Nobody here needs them; whoever unpacks the file does.
        if metadata.contains(FormatKeys.scores) {
            let scores = try metadata.floats(forKey: FormatKeys.scores, atMost: limit)
            guard scores.count == types.count else {
                throw .malformed(
                    "\(FormatKeys.scores) has \(scores.count) values, \(FormatKeys.tokenTypes) has \(types.count)"
                )
            }
            pieces.scores = scores
        }
        self = pieces
    }

    private mutating func readMerges(_ metadata: Metadata) throws(StoreError) {
        let values = try metadata.uint32s(forKey: FormatKeys.merges, atMost: 4 * Format.mergeLimit)
        guard values.count % 4 == 0 else {
            throw .malformed(
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
