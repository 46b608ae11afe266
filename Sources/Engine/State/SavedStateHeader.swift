// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// What stands before the numbers of a saved state, and says how long all of it is.
package struct SavedStateHeader: Sendable, Equatable {
    static let magic = Array("MMFSTATE".utf8)
    static let fixedBytes = 48
    private static let maxDigestBytes = 128
    /// The most bytes that stand before the numbers.
    package static let mostBytes = fixedBytes + maxDigestBytes + 8

    package let modelDigest: String
    package let layout: StateLayout
    package let unread: [UInt32]
    /// Of what the state has read.
    package let history: TokenHistory
    /// How many numbers follow.
    package let values: Int

    /// The lengths that the first 48 bytes tell.
    struct Lengths {
        let layout: StateLayout
        let digest, unread, values: Int
        let history: TokenHistory

        var byteCount: Int {
            SavedState.byteCount(
                digest: digest, unread: unread, numberBytes: values * layout.byteCount)
        }
        var front: Int {
            SavedStateHeader.fixedBytes + SavedState.padded(digest) + SavedState.padded(unread * 4)
        }

        init(_ bytes: [UInt8]) throws(SavedStateError) {
            func number<T: FixedWidthInteger>(_ offset: Int, _: T.Type) -> T {
                bytes.withUnsafeBytes {
                    T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self))
                }
            }
            let version = number(8, UInt32.self)
            guard version == SavedState.version else { throw .version(version) }
            guard let layout = StateLayout(rawValue: number(12, UInt32.self)) else {
                throw .layout(number(12, UInt32.self))
            }
            let (digest, unread) = (number(16, UInt32.self), number(20, UInt32.self))
            let (tokens, tokensDigest) = (number(24, UInt64.self), number(32, UInt64.self))
            let values = number(40, UInt64.self)
            guard digest <= maxDigestBytes else {
                throw .field("the length of the model's digest", "\(digest)")
            }
            guard unread <= 1 else { throw .field("the number of unread tokens", "\(unread)") }
            guard values <= 1 << 40 else { throw .field("the number of values", "\(values)") }
            guard tokens <= UInt64(Int.max) >> 1 else {
                throw .field("the number of tokens", "\(tokens)")
            }
            guard (values == 0) == (tokens == 0), tokens != 0 || tokensDigest == 0 else {
                throw .field("the number of tokens", "\(tokens), with \(values) values")
            }
            guard values != 0 || layout == .recurrent else {
                throw .field("the layout", "\(layout), of no values")
            }
            (self.layout, self.digest, self.unread) = (layout, Int(digest), Int(unread))
            self.values = Int(values)
            history = TokenHistory(count: Int(tokens), digest: tokensDigest)
        }
    }

    /// - Parameter bytes: all that stands before the numbers.
    init(_ lengths: Lengths, _ bytes: [UInt8]) throws(SavedStateError) {
        let end = Self.fixedBytes + lengths.digest
        let next = Self.fixedBytes + SavedState.padded(lengths.digest)
        guard let digest = String(validating: bytes[Self.fixedBytes..<end], as: UTF8.self) else {
            throw .field("the model's digest", "not UTF-8")
        }
        guard bytes[end..<next].allSatisfy({ $0 == 0 }),
            bytes[(next + lengths.unread * 4)...].allSatisfy({ $0 == 0 })
        else { throw .field("a byte between the parts", "not 0") }
        modelDigest = digest
        layout = lengths.layout
        unread = (0..<lengths.unread).map { index in
            bytes.withUnsafeBytes {
                UInt32(
                    littleEndian: $0.loadUnaligned(
                        fromByteOffset: next + index * 4, as: UInt32.self))
            }
        }
        history = lengths.history
        values = lengths.values
    }

    init(modelDigest: String, _ state: SessionState, values: Int) {
        self.modelDigest = modelDigest
        layout = state.snapshot?.layout ?? .recurrent
        unread = state.unread
        history = state.snapshot?.history ?? TokenHistory()
        self.values = values
    }

    /// Of the whole state, its checksum included.
    package var byteCount: Int {
        SavedState.byteCount(
            digest: modelDigest.utf8.count, unread: unread.count, numberBytes: numberBytes)
    }

    /// Of the numbers.
    package var numberBytes: Int { values * layout.byteCount }

    /// All that stands before the numbers.
    var encoded: [UInt8] {
        let digest = Array(modelDigest.utf8)
        var bytes = Self.magic
        append(SavedState.version)
        append(layout.rawValue)
        append(UInt32(digest.count))
        append(UInt32(unread.count))
        append(UInt64(history.count))
        append(history.digest)
        append(UInt64(values))
        bytes += digest
        pad()
        for token in unread { append(token) }
        pad()
        return bytes

        func append(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
        }
        func pad() { while bytes.count % 8 != 0 { bytes.append(0) } }
    }

    /// All tokens of the conversation.
    package var tokens: TokenHistory {
        var tokens = history
        tokens.append(unread)
        return tokens
    }

    /// Whether the state can be one of `model`, from all that stands here.
    package func check(for model: Model) throws(SavedStateError) {
        guard modelDigest == model.digest else {
            throw .otherModel(expected: model.digest, found: modelDigest)
        }
        if values > 0 {
            let memory = model.memory
            try layout.check(memory)
            if let context = memory.context, history.count > context {
                throw .field("the number of tokens", "\(history.count), of \(context) at most")
            }
            let expected = memory.numbers(after: history.count)
            guard layout == StateLayout(memory), values == expected else {
                throw .otherShape(expected: expected, found: values)
            }
        }
        if let token = unread.first, token >= UInt32(model.shape.vocabulary) {
            throw .field(
                "the unread token", "\(token); the vocabulary has \(model.shape.vocabulary)")
        }
    }
}
