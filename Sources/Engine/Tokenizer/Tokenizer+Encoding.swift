// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// Bytes given as text that are not UTF-8.
package struct InvalidUTF8: Error, Equatable, CustomStringConvertible {
    /// Where the first ill-formed sequence begins.
    package let offset: Int

    package init(offset: Int) { self.offset = offset }

    package var description: String { "the text is not UTF-8 at byte \(offset)" }
}

extension Tokenizer {
    /// The tokens of a text; none for an empty one.
    ///
    /// Memory and time are those of the text: about 40 bytes for each scalar of its longest word, O(n log n).
    ///
    /// - Parameters:
    ///   - addBOS: put the beginning-of-text token first, where there is one.
    ///   - parseSpecial: take "<s>" and the like for the tokens they name, as Hugging Face does unless told otherwise. Leave
    ///     it off for text from outside: it lets a text end itself.
    package func encode(_ text: String, addBOS: Bool, parseSpecial: Bool = false) -> [UInt32] {
        var text = text
        return text.withUTF8 { encode(valid: $0, addBOS: addBOS, parseSpecial: parseSpecial) }
    }

    /// The same for bytes from outside.
    package func encode(
        utf8: some Sequence<UInt8>, addBOS: Bool, parseSpecial: Bool = false
    ) throws(InvalidUTF8) -> [UInt32] {
        let bytes = Array(utf8)
        do {
            _ = try UTF8Span(validating: bytes.span)
        } catch {
            throw InvalidUTF8(offset: error.byteOffsets.lowerBound)
        }
        return bytes.withUnsafeBufferPointer {
            encode(valid: $0, addBOS: addBOS, parseSpecial: parseSpecial)
        }
    }

    private func encode(
        valid text: UnsafeBufferPointer<UInt8>, addBOS: Bool, parseSpecial: Bool
    ) -> [UInt32] {
        precondition(text.count < Int(Int32.max), "2 GiB of text and more have no use here")
        if let byteLevel {
            return encode(text, byteLevel, addBOS: addBOS, parseSpecial: parseSpecial)
        }
        var encoding = TokenizerEncoding(self)
        encoding.ids.reserveCapacity(text.count / 3 + 2)
        if addBOS, let bos { encoding.ids.append(bos) }
        // Hugging Face cuts the text at every token it finds and treats what lies between as texts of their own, each with
        // its own space in front. SentencePiece does not cut at user-defined tokens.
        let cutsAtUserDefined = !userDefined.isEmpty
        guard parseSpecial || cutsAtUserDefined else {
            encoding.add(text, isFirst: true)
            return encoding.ids
        }
        var begin = 0
        var at = 0
        while at < text.count {
            var found = parseSpecial ? specials.match(text, at: at) : nil
            if cutsAtUserDefined, let other = userDefined.match(text, at: at),
                other.count > found?.count ?? 0
            {
                found = other
            }
            guard let found else {
                at += 1
                continue
            }
            encoding.add(.init(rebasing: text[begin..<at]), isFirst: begin == 0)
            encoding.ids.append(found.id)
            at += found.count
            begin = at
        }
        encoding.add(.init(rebasing: text[begin...]), isFirst: begin == 0)
        return encoding.ids
    }
}

/// One text being encoded.
private struct TokenizerEncoding {
    private let tokenizer: Tokenizer
    private let inlinesUserDefined: Bool
    private var word = MergeWord()
    var ids: [UInt32] = []

    init(_ tokenizer: Tokenizer) {
        self.tokenizer = tokenizer
        inlinesUserDefined = !tokenizer.inlined.isEmpty
    }

    /// Text without special tokens in it. isFirst: nothing stands before it.
    mutating func add(_ text: UnsafeBufferPointer<UInt8>, isFirst: Bool) {
        guard !text.isEmpty else { return }
        let prefixed = addsPrefix(to: text, isFirst: isFirst)
        guard inlinesUserDefined else { return add(text, prefixed: prefixed) }
        let space = Tokenizer.spaceBytes
        var normalised = prefixed ? space : []
        normalised.reserveCapacity(text.count + text.count / 2)
        for byte in text {
            if byte == 0x20 { normalised += space } else { normalised.append(byte) }
        }
        normalised.withUnsafeBufferPointer { add($0, prefixed: false) }
    }

    private mutating func add(_ text: UnsafeBufferPointer<UInt8>, prefixed: Bool) {
        let splits = tokenizer.splitsAtSpaces
        var afterSpace = true
        if prefixed { append(Tokenizer.space) }
        var at = 0
        while at < text.count {
            if inlinesUserDefined, let found = tokenizer.inlined.match(text, at: at) {
                finishWord()
                ids.append(found.id)
                at += found.count
                afterSpace = true
                continue
            }
            var scalar = UTF8Scalars.next(text, &at)
            if scalar == 0x20 { scalar = Tokenizer.space }
            let isSpace = scalar == Tokenizer.space
            if isSpace, splits, !afterSpace { finishWord() }
            afterSpace = isSpace
            append(scalar)
        }
        finishWord()
    }

    private func addsPrefix(to text: UnsafeBufferPointer<UInt8>, isFirst: Bool) -> Bool {
        guard tokenizer.tables.addsSpacePrefix else { return false }
        guard tokenizer.tables.prefixesOnlyIfMissing else { return true }
        var at = 0
        let first = UTF8Scalars.next(text, &at)
        return isFirst && first != 0x20 && first != Tokenizer.space
    }

    private mutating func append(_ scalar: UInt32) {
        let id = tokenizer.symbols[scalar]
        guard id == TokenizerSymbols.none else { return word.append(id) }
        let first = word.count
        // Always a scalar: the text is well formed.
        for byte in UTF8.encode(Unicode.Scalar(scalar) ?? "\u{FFFD}") ?? .init() {
            let token = tokenizer.byteTokens[Int(byte)]
            guard token != MergeWord.none else {
                word.cut(to: first)
                return word.append(MergeWord.none)
            }
            word.append(token)
        }
    }

    private mutating func finishWord() {
        let unknown = tokenizer.tables.unknown
        var afterUnknown = false
        word.finish(tokenizer.merges) { id in
            // Unknown symbols in a row are one unknown token.
            if id != MergeWord.none {
                ids.append(id)
            } else if !afterUnknown, let unknown {
                ids.append(unknown)
            }
            afterUnknown = id == MergeWord.none
        }
    }
}
