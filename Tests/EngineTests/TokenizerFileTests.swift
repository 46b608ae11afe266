// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import ModelStore
import SystemPackage
import Testing

@Suite("A tokenizer in a packed file")
struct TokenizerFileTests {
    typealias Facts = [(key: String, value: MetadataValue)]

    private static func facts(_ tables: Vocabulary) -> Facts {
        let pieces = tables.ends.indices.map { id in
            let begin = id == 0 ? 0 : tables.ends[id - 1]
            return String(decoding: tables.bytes[begin..<tables.ends[id]], as: UTF8.self)
        }
        return [
            (FormatKeys.tokenizerModel, .string("llama")), (FormatKeys.tokens, .strings(pieces)),
            (FormatKeys.tokenTypes, .int32s(tables.kinds.map(\.rawValue))),
            (FormatKeys.bosToken, .uint32(1)), (FormatKeys.eosToken, .uint32(2)),
            (FormatKeys.unknownToken, .uint32(0)), (FormatKeys.addBOS, .bool(true)),
            (FormatKeys.addSpacePrefix, .bool(true)),
            (FormatKeys.hgrnbit.tokenizerSource, .string(tables.source.rawValue)),
            (
                FormatKeys.hgrnbit.merges,
                .uint32s(tables.merges.flatMap { [$0.left, $0.right, $0.result, $0.rank] })
            ),
        ]
    }

    /// Writes a file with nothing but metadata and reads its tables.
    private func read(_ facts: Facts, vocabulary: Int? = nil) throws -> Vocabulary? {
        let path = FilePath(
            "/tmp/mmfreed-tokenizer-\(getpid())-\(UInt64.random(in: 0 ... .max)).gguf")
        defer { unlink(path.string) }
        let general: Facts = [
            (FormatKeys.architecture, .string(Format.architecture)),
            (FormatKeys.name, .string("test")),
            (FormatKeys.alignment, .uint32(UInt32(Format.alignment))),
            (FormatKeys.hgrnbit.formatVersion, .uint32(Format.version)),
        ]
        let writer = try PackedWriter(path: path, metadata: general + facts, tensors: [])
        try writer.finish()
        return try Vocabulary(PackedFile(path: path).metadata, size: vocabulary)
    }

    @Test("arrives as it was", arguments: ["tokenizer.json", "tokenizer.model"])
    func arrives(_ name: String) throws {
        let tables = try TokenizerCaseFile.tables(name)
        let read = try #require(try read(Self.facts(tables)))
        #expect(read.source == tables.source)
        #expect(
            read.bytes == tables.bytes && read.ends == tables.ends && read.kinds == tables.kinds)
        #expect(read.merges == tables.merges)
        #expect((read.bos, read.eos, read.unknown) == (1, 2, 0))
        #expect(read.addsBOS && read.addsSpacePrefix && !read.prefixesOnlyIfMissing)
        _ = try Tokenizer(read)
    }

    @Test("is absent from a file that serves token ids only")
    func absent() throws { #expect(try read([]) == nil) }

    @Test(
        "several end tokens and tokens of changed text arrive, in a version that older readers refuse"
    )
    func newer() throws {
        var tables = Self.small()
        tables.kinds[5] = .userDefined
        (tables.endTokens, tables.normalized, tables.unknown) = ([2, 4], [5], 0)
        let read = try #require(try read(tables.facts()))
        #expect(read == tables)
        #expect(tables.formatVersion == 2 && Self.small().formatVersion == 1)
        let tokenizer = try Tokenizer(read)
        #expect((0..<6).filter { tokenizer.isEnd($0) } == [2, 4])
    }

    private static func small() -> Vocabulary {
        var tables = Vocabulary()
        for piece in ["<unk>", "<s>", "</s>", "a", "b", "ab"] { tables.append(piece.utf8, .normal) }
        tables.merges = [.init(left: 3, right: 4, result: 5, rank: 0)]
        return tables
    }

    @Test("more types than the model has tokens, or more merges than 2^22, are not even read")
    func counts() throws {
        func refusal(_ facts: Facts, vocabulary: Int) throws -> String {
            do { _ = try read(facts, vocabulary: vocabulary) } catch let error as StoreError {
                return "\(error)"
            }
            return ""
        }
        let facts = Self.facts(Self.small())
        #expect(try refusal(facts, vocabulary: 6) == "")
        #expect(
            try refusal(facts, vocabulary: 5).contains(
                "\(FormatKeys.tokenTypes) holds 6 numbers; at most 5 fit"))
        let merges = [UInt32](repeating: 0, count: (1 << 24) + 4)
        let many =
            facts.filter { $0.key != FormatKeys.hgrnbit.merges } + [
                (FormatKeys.hgrnbit.merges, .uint32s(merges))
            ]
        #expect(
            try refusal(many, vocabulary: 6).contains(
                "\(FormatKeys.hgrnbit.merges) holds 16777220 numbers; at most 16777216 fit"))
    }

    @Test("pieces are 1024 bytes long at most, and those looked for in raw text 1 MiB together")
    func lengths() throws {
        func refusal(_ kind: Vocabulary.Kind, _ lengths: [Int]) -> String {
            var tables = Vocabulary()
            for length in lengths { tables.append([UInt8](repeating: 0x61, count: length), kind) }
            do { _ = try Tokenizer(tables) } catch { return "\(error)" }
            return ""
        }
        for kind in [Vocabulary.Kind.normal, .control, .userDefined, .unused] {
            #expect(refusal(kind, [1, 1024]) == "")
            #expect(refusal(kind, [1, 1025]).contains("token 1 is 1025 bytes long; at most 1024"))
        }
        let many = [Int](repeating: 1024, count: 1025)
        #expect(refusal(.control, many).contains("1049600 bytes together; at most 1048576"))
        #expect(refusal(.control, many.dropLast()) == "")
        #expect(refusal(.normal, many) == "")
    }

    @Test("is refused by the name of the key that is wrong")
    func refused() throws {
        func refusal(_ key: String, _ value: MetadataValue?) throws -> String {
            var facts = Self.facts(Self.small())
            facts.removeAll { $0.key == key }
            if let value { facts.append((key, value)) }
            do {
                let tables = try #require(try read(facts))
                _ = try Tokenizer(tables)
            } catch {
                return "\(error)"
            }
            return "accepted"
        }
        func expect(
            _ key: String, _ value: MetadataValue?, _ words: String,
            _ location: SourceLocation = #_sourceLocation
        ) throws {
            let found = try refusal(key, value)
            #expect(found.contains(words), sourceLocation: location)
            #expect(found.contains(key) || words.contains("token"), sourceLocation: location)
        }
        try expect(FormatKeys.tokenizerModel, .string("bert"), "only 'llama' and 'gpt2' are read")
        try expect(FormatKeys.tokenizerModel, nil, FormatKeys.tokenizerModel)
        try expect(FormatKeys.tokenTypes, nil, FormatKeys.tokenTypes)
        try expect(FormatKeys.tokenTypes, .int32s([1, 1]), "has 6 values")
        try expect(FormatKeys.tokenTypes, .int32s([1, 1, 1, 1, 9, 1]), "token 4 is of type 9")
        try expect(FormatKeys.tokenTypes, .strings(["x"]), "int32")
        try expect(FormatKeys.hgrnbit.merges, .uint32s([3, 4, 5]), "multiple of 4")
        try expect(
            FormatKeys.hgrnbit.merges, .uint32s([3, 4, 6, 0]), "names a token that is not there")
        try expect(FormatKeys.hgrnbit.merges, nil, FormatKeys.hgrnbit.merges)
        try expect(FormatKeys.eosToken, .uint32(6), "eos token is 6")
        try expect(FormatKeys.hgrnbit.tokenizerSource, .string("x"), "which is unknown")
        try expect(FormatKeys.addBOS, .uint32(1), "bool")
        #expect(try refusal(FormatKeys.addSpacePrefix, nil) == "accepted")
    }
}
