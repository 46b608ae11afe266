// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import SystemPackage
import TestSupport

/// Tables, variants of them, and what the reference libraries make of texts and tokens with each: written by
/// dev/tokenizer-oracle.
struct TokenizerCaseFile {
    enum Kind: Int {
        /// Text to tokens, with special tokens as characters or as tokens.
        case encode, encodeSpecial
        /// Tokens to text, without special tokens or with their names.
        case decode, decodeKeeping
    }

    struct Case {
        var kind: Kind
        var text: [UInt8]
        var ids: [UInt32]
    }

    struct Variant {
        var tables: Vocabulary
        var cases: [Case]
    }

    private(set) var variants: [Variant] = []

    struct Broken: Error { var offset: Int }

    private var bytes: [UInt8]
    private var at = 8

    static let fixtures: FilePath = FilePath(#filePath)
        .removingLastComponent().removingLastComponent().appending("Fixtures/text")

    /// The tables of a fixture as they came.
    static func tables(_ name: String) throws -> Vocabulary {
        try TokenizerCaseFile(fixtures.appending("\(name).cases")).variants[0].tables
    }

    static func tokenizer(_ name: String = "tokenizer.json") throws -> Tokenizer {
        try Tokenizer(tables(name))
    }

    init(_ path: FilePath) throws {
        bytes = try Self.read(path)
        guard bytes.starts(with: "MMFTEXT1".utf8) else { throw Broken(offset: 0) }
        var tables = Vocabulary()
        tables.source = try number() == 0 ? .json : .sentencePiece
        (tables.bos, tables.eos, tables.unknown) = (try optional(), try optional(), try optional())
        try appendPieces(to: &tables)
        var rank: UInt32 = 0
        for _ in 0..<(try number()) {
            let (left, right, result) = (try id(), try id(), try id())
            rank += try id()
            tables.merges.append(.init(left: left, right: right, result: result, rank: rank))
        }
        for _ in 0..<(try number()) {
            var variant = Variant(tables: tables, cases: [])
            variant.tables.addsSpacePrefix = try number() == 1
            variant.tables.prefixesOnlyIfMissing = try number() == 1
            try appendPieces(to: &variant.tables)
            for _ in 0..<(try number()) {
                guard let kind = Kind(rawValue: try number()) else { throw Broken(offset: at) }
                let text = try blob()
                var ids: [UInt32] = []
                for _ in 0..<(try number()) { ids.append(try id()) }
                variant.cases.append(Case(kind: kind, text: text, ids: ids))
            }
            variants.append(variant)
        }
        bytes = []
    }

    private mutating func appendPieces(to tables: inout Vocabulary) throws {
        for _ in 0..<(try number()) {
            guard let kind = Vocabulary.Kind(rawValue: Int32(try number())) else {
                throw Broken(offset: at)
            }
            tables.append(try blob(), kind)
        }
    }

    // MARK: Bytes

    static func read(_ path: FilePath) throws -> [UInt8] {
        let file = try FileDescriptor.open(path, .readOnly)
        return try file.closeAfter {
            let count = Int(try file.seek(offset: 0, from: .end))
            _ = try file.seek(offset: 0, from: .start)
            var bytes = [UInt8](repeating: 0, count: count)
            try bytes.withUnsafeMutableBytes { buffer in
                var filled = 0
                while filled < count {
                    let got = try file.read(into: .init(rebasing: buffer[filled...]))
                    if got == 0 { throw Broken(offset: filled) }
                    filled += got
                }
            }
            return bytes
        }
    }

    private mutating func number() throws -> Int {
        var (value, shift) = (0, 0)
        while at < bytes.count {
            let byte = Int(bytes[at])
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        throw Broken(offset: at)
    }

    private mutating func id() throws -> UInt32 { UInt32(try number()) }

    private mutating func optional() throws -> UInt32? {
        let value = try id()
        return value == 0 ? nil : value - 1
    }

    private mutating func blob() throws -> [UInt8] {
        let count = try number()
        guard count <= bytes.count - at else { throw Broken(offset: at) }
        defer { at += count }
        return Array(bytes[at..<at + count])
    }
}
