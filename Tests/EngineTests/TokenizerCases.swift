// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import SystemPackage
import TestSupport
import Testing

/// What Hugging Face `tokenizers` and SentencePiece make of many texts. `MMFREED_TOKENIZER_CASES` names more case files,
/// separated by colons; dev/tokenizer-oracle makes them.
@Suite("The tokenizer equals Hugging Face's and SentencePiece's")
struct TokenizerCases {
    static let files: [FilePath] = {
        let named = getenv("MMFREED_TOKENIZER_CASES").map { String(cString: $0) } ?? ""
        if !named.isEmpty { return named.split(separator: ":").map { FilePath(String($0)) } }
        return ["tokenizer.json", "tokenizer.model"].map {
            TokenizerCaseFile.fixtures.appending("\($0).cases")
        }
    }()

    @Test("every text becomes the same tokens, every row of tokens the same text", arguments: files)
    func cases(_ path: FilePath) throws {
        var counts: [TokenizerCaseFile.Kind: Int] = [:]
        for (number, variant) in try TokenizerCaseFile(path).variants.enumerated() {
            let tokenizer = try Tokenizer(variant.tables)
            var wrong = 0
            for item in variant.cases {
                let right: Bool
                switch item.kind {
                case .encode, .encodeSpecial:
                    let special = item.kind == .encodeSpecial
                    right =
                        try tokenizer.encode(
                            utf8: item.text, addBOS: false, parseSpecial: special) == item.ids
                case .decode, .decodeKeeping:
                    right = decodes(tokenizer, item)
                }
                counts[item.kind, default: 0] += 1
                guard !right else { continue }
                wrong += 1
                if wrong > 5 { continue }
                let ours = tokenizer.encode(
                    String(decoding: item.text, as: UTF8.self), addBOS: false,
                    parseSpecial: item.kind == .encodeSpecial)
                Issue.record(
                    """
                    variant \(number) \(item.kind): \(String(decoding: item.text, as: UTF8.self).debugDescription), \
                    theirs \(item.ids), ours \(ours), \
                    \(tokenizer.decode(item.ids, skipSpecial: item.kind == .decode).debugDescription)
                    """)
            }
            #expect(wrong == 0, "of \(variant.cases.count) cases in variant \(number)")
        }
        if getenv("MMFREED_TOKENIZER_CASES") != nil {
            print(path, counts.map { "\($0.key): \($0.value)" }.sorted().joined(separator: ", "))
        }
    }

    /// Whether the whole and the streaming decoder both give the case's text, byte for byte.
    private func decodes(_ tokenizer: Tokenizer, _ item: TokenizerCaseFile.Case) -> Bool {
        let skip = item.kind == .decode
        guard tokenizer.decode(item.ids, skipSpecial: skip).utf8.elementsEqual(item.text) else {
            return false
        }
        var stream = Detokenizer(tokenizer, continuing: false, skipSpecial: skip)
        var bytes: [UInt8] = []
        for id in item.ids { bytes += stream.append(id).utf8 }
        bytes += stream.finish().utf8
        return bytes == item.text
    }
}
