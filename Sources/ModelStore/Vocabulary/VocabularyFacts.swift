// SPDX-License-Identifier: Apache-2.0

/// The `tokenizer.*` keys of a packed file, both ways; docs/format.md lays them down.
extension Vocabulary {
    /// The keys and values to write, in order.
    ///
    /// - Parameter keys: the architecture's.
    package func facts(_ keys: FormatKeys = .hgrnbit) -> Facts {
        var facts: Facts = [
            (FormatKeys.tokenizerModel, .string(byteLevel == nil ? Self.model : Self.byteModel))
        ]
        if let byteLevel {
            facts += [
                (FormatKeys.preTokenizer, .string(byteLevel.rawValue)),
                (FormatKeys.tokens, .strings(tokens)),
                (FormatKeys.tokenTypes, .int32s(kinds.map(\.rawValue))),
                (
                    FormatKeys.mergeTexts,
                    .strings(merges.map { "\(text(Int($0.left))) \(text(Int($0.right)))" })
                ),
            ]
        } else {
            facts += [
                (FormatKeys.tokens, .strings(tokens)), (FormatKeys.scores, .floats(scores)),
                (FormatKeys.tokenTypes, .int32s(kinds.map(\.rawValue))),
            ]
        }
        for (key, id) in [
            (FormatKeys.bosToken, bos), (FormatKeys.eosToken, endTokens.first),
            (FormatKeys.unknownToken, unknown), (FormatKeys.paddingToken, padding),
        ] {
            if let id { facts.append((key, .uint32(id))) }
        }
        facts.append((FormatKeys.addBOS, .bool(addsBOS)))
        if byteLevel == nil {
            facts += [
                (FormatKeys.addSpacePrefix, .bool(addsSpacePrefix)),
                (keys.tokenizerSource, .string(source.rawValue)),
                (
                    keys.merges,
                    .uint32s(merges.flatMap { [$0.left, $0.right, $0.result, $0.rank] })
                ),
            ]
        }
        // Only where they say something, so that most files keep to the usual keys.
        if prefixesOnlyIfMissing { facts.append((keys.prefixOnlyIfMissing, .bool(true))) }
        if endTokens.count > 1 { facts.append((keys.endTokens, .uint32s(endTokens))) }
        if !normalized.isEmpty { facts.append((keys.normalizedTokens, .uint32s(normalized))) }
        if let suffix { facts.append((keys.suffixToken, .uint32(suffix))) }
        return facts
    }

    /// The least version of the format whose readers heed all of `facts`.
    package var formatVersion: UInt32 { endTokens.count > 1 || !normalized.isEmpty ? 2 : 1 }

    private static let model = "llama"
    private static let byteModel = "gpt2"

    /// Reads and checks the vocabulary of a file; `nil` when it has none.
    ///
    /// - Parameter wanted: how many pieces there must be, if that is known.
    package init?(_ metadata: Metadata, size wanted: Int?) throws(StoreError) {
        let size = wanted ?? Format.vocabularyLimit
        guard metadata.contains(FormatKeys.tokens) || metadata.contains(FormatKeys.tokenizerModel)
        else { return nil }
        let keys = metadata.own
        let model = try metadata.string(forKey: FormatKeys.tokenizerModel)
        guard [Self.model, Self.byteModel].contains(model) else {
            throw .malformed(
                "\(FormatKeys.tokenizerModel) is '\(model.quoted)'; only '\(Self.model)' and "
                    + "'\(Self.byteModel)' are read")
        }
        self.init()
        if metadata.contains(keys.tokenizerSource) {
            let name = try metadata.string(forKey: keys.tokenizerSource)
            guard let source = Source(rawValue: name) else {
                throw .malformed("\(keys.tokenizerSource) is '\(name.quoted)', which is unknown")
            }
            self.source = source
        }
        try readPieces(metadata, atMost: size)
        if model == Self.byteModel {
            let name = try metadata.string(forKey: FormatKeys.preTokenizer)
            guard let kind = ByteLevel(rawValue: name) else {
                throw .malformed(
                    "\(FormatKeys.preTokenizer) is '\(name.quoted)'; read are "
                        + ByteLevel.allCases.map { "'\($0.rawValue)'" }.joined(separator: ", "))
            }
            byteLevel = kind
            try readMergeTexts(metadata)
        } else {
            try readMerges(metadata, keys)
        }
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
        endTokens = try ids(keys.endTokens) ?? (eos.map { [$0] } ?? [])
        unknown = try token(FormatKeys.unknownToken)
        padding = try token(FormatKeys.paddingToken)
        normalized = try ids(keys.normalizedTokens) ?? []
        suffix = try token(keys.suffixToken)
        addsBOS = try flag(FormatKeys.addBOS, byteLevel == nil)
        addsSpacePrefix = try flag(FormatKeys.addSpacePrefix, byteLevel == nil)
        prefixesOnlyIfMissing = try flag(keys.prefixOnlyIfMissing, false)
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

    private mutating func readMerges(
        _ metadata: Metadata, _ keys: FormatKeys
    ) throws(StoreError) {
        let values = try metadata.uint32s(forKey: keys.merges, atMost: 4 * Format.mergeLimit)
        guard values.count % 4 == 0 else {
            throw .malformed(
                "\(keys.merges) has \(values.count) values, which is not a multiple of 4")
        }
        merges.reserveCapacity(values.count / 4)
        for at in stride(from: 0, to: values.count, by: 4) {
            merges.append(
                Merge(
                    left: values[at], right: values[at + 1], result: values[at + 2],
                    rank: values[at + 3]))
        }
    }

    /// "left right", in the order of their ranks.
    private mutating func readMergeTexts(_ metadata: Metadata) throws(StoreError) {
        var ids: [ByteString: UInt32] = [:]
        ids.reserveCapacity(count)
        // Of two pieces that read the same the first counts; added tokens are never made by merges.
        for id in 0..<count where kinds[id] == .normal {
            let piece = ByteString(Array(piece(id)))
            if ids[piece] == nil { ids[piece] = UInt32(id) }
        }
        var found: [Merge] = []
        var broken: Int?
        let key = FormatKeys.mergeTexts
        let total = try metadata.forEachString(forKey: key) { bytes in
            guard broken == nil, found.count < Format.mergeLimit else { return }
            guard let space = bytes.firstIndex(of: 0x20),
                let left = ids[ByteString(Array(bytes[..<space]))],
                let right = ids[ByteString(Array(bytes[(space + 1)...]))],
                let result = ids[ByteString(Array(bytes[..<space]) + bytes[(space + 1)...])]
            else {
                broken = found.count
                return
            }
            found.append(
                Merge(left: left, right: right, result: result, rank: UInt32(found.count)))
        }
        guard total <= Format.mergeLimit else {
            throw .malformed(
                "the key \(key) holds \(total) merges; at most \(Format.mergeLimit) are allowed")
        }
        if let broken {
            throw .malformed(
                "\(key): merge \(broken) is not two pieces that make a third of the vocabulary")
        }
        merges = found
    }
}
