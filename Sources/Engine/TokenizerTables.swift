// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// A vocabulary as the packed file holds it, checked.
struct TokenizerTables: Sendable {
    /// GGUF's token types.
    enum Kind: Int32, Sendable {
        case normal = 1
        case unknown, control, userDefined, unused, byte
    }

    /// One merge: where `left` and `right` stand side by side they may become `result`; the lowest rank goes first.
    struct Merge: Sendable {
        var left, right, result, rank: UInt32
    }

    /// Every piece's bytes, one after the other.
    var bytes: [UInt8] = []
    /// Where each piece ends in `bytes`: [vocabulary].
    var ends: [Int] = []
    var kinds: [Kind] = []
    var merges: [Merge] = []
    var bos: UInt32?
    var eos: UInt32?
    var unknown: UInt32?
    var addsBOS = true
    /// Whether text is taken as if a space stood before it.
    var addsSpacePrefix = true

    var count: Int { ends.count }

    func range(_ id: Int) -> Range<Int> { (id == 0 ? 0 : ends[id - 1])..<ends[id] }
}

extension TokenizerTables {
    /// Reads the vocabulary; `nil` when the file has none.
    init?(_ metadata: Metadata, vocabulary: Int) throws(ModelError) {
        guard metadata.contains(FormatKeys.tokens) else { return nil }
        func read<T>(_ body: () throws(StoreError) -> T) throws(ModelError) -> T {
            do { return try body() } catch { throw .badTokenizer("\(error)") }
        }
        let model = try read { () throws(StoreError) in
            try metadata.string(forKey: FormatKeys.tokenizerModel)
        }
        guard model == "llama" else {
            throw .badTokenizer(
                "\(FormatKeys.tokenizerModel) is '\(model)', this program reads 'llama'")
        }
        var bytes: [UInt8] = []
        var ends: [Int] = []
        _ = try read { () throws(StoreError) in
            try metadata.forEachString(forKey: FormatKeys.tokens) { piece in
                bytes.append(contentsOf: piece)
                ends.append(bytes.count)
            }
        }
        guard ends.count == vocabulary else {
            throw .badTokenizer("it has \(ends.count) pieces, the model \(vocabulary) tokens")
        }
        let kinds = try read { () throws(StoreError) in
            try metadata.int32s(forKey: FormatKeys.tokenTypes)
        }
        guard kinds.count == vocabulary else {
            throw .badTokenizer(
                "\(FormatKeys.tokenTypes) has \(kinds.count) of \(vocabulary) values")
        }
        self.bytes = bytes
        self.ends = ends
        for (id, raw) in kinds.enumerated() {
            guard let kind = Kind(rawValue: raw) else {
                throw .badTokenizer("token \(id) is of the unknown type \(raw)")
            }
            self.kinds.append(kind)
        }
        let quadruples = try read { () throws(StoreError) in
            try metadata.uint32s(forKey: FormatKeys.merges)
        }
        guard quadruples.count % 4 == 0 else {
            throw .badTokenizer(
                "\(FormatKeys.merges) has \(quadruples.count) values, not a multiple of 4")
        }
        merges.reserveCapacity(quadruples.count / 4)
        for start in stride(from: 0, to: quadruples.count, by: 4) {
            let merge = Merge(
                left: quadruples[start], right: quadruples[start + 1],
                result: quadruples[start + 2], rank: quadruples[start + 3])
            guard max(merge.left, merge.right, merge.result) < UInt32(vocabulary) else {
                throw .badTokenizer("merge \(start / 4) names a token the model does not have")
            }
            merges.append(merge)
        }
        func special(_ key: String) throws(ModelError) -> UInt32? {
            guard metadata.contains(key) else { return nil }
            let id = try read { () throws(StoreError) in try metadata.uint32(forKey: key) }
            guard id < UInt32(vocabulary) else {
                throw .badTokenizer("\(key) is \(id), the model has \(vocabulary) tokens")
            }
            return id
        }
        bos = try special(FormatKeys.bosToken)
        eos = try special(FormatKeys.eosToken)
        unknown = try special(FormatKeys.unknownToken)
        if metadata.contains(FormatKeys.addBOS) {
            addsBOS = try read { () throws(StoreError) in
                try metadata.bool(forKey: FormatKeys.addBOS)
            }
        }
        if metadata.contains(FormatKeys.addSpacePrefix) {
            addsSpacePrefix = try read { () throws(StoreError) in
                try metadata.bool(forKey: FormatKeys.addSpacePrefix)
            }
        }
    }
}
