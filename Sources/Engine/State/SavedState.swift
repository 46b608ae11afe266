// SPDX-License-Identifier: Apache-2.0
//
// A conversation's state as bytes, for callers to keep and for NAME.state beside a model. docs/format.md describes them. Whatever
// differs from what is expected is refused by name: a state that is not quite the right one gives answers that are not quite right.

import ModelStore

/// Why saved bytes are no state, or not one of this model.
package enum SavedStateError: Error, Equatable, CustomStringConvertible {
    case notAState
    case version(UInt32)
    case layout(UInt32)
    case truncated(expected: Int, found: Int)
    case checksum
    /// A field that cannot be as it is: which, and why.
    case field(String, String)
    case otherModel(expected: String, found: String)
    case otherShape(expected: Int, found: Int)

    package var description: String {
        switch self {
        case .notAState: "these bytes are no saved state: they do not begin with MMFSTATE"
        case .version(let found):
            "the saved state has the format version \(found), this program reads \(SavedState.version)"
        case .layout(let found):
            "the saved state has the layout version \(found), this program reads \(StateLayout.allCases.map { "\($0.rawValue)" }.joined(separator: " and "))"
        case .truncated(let expected, let found):
            "the saved state has \(found) bytes, its header asks for \(expected)"
        case .checksum: "the saved state is damaged: its checksum does not match"
        case .field(let name, let why): "the saved state cannot be used: \(name) is \(why)"
        case .otherModel(let expected, let found):
            "the saved state is of the model with the digest \(found), not \(expected)"
        case .otherShape(let expected, let found):
            "the saved state has \(found) numbers, the model's has \(expected)"
        }
    }
}

/// A session's state with the model it belongs to, and its bytes.
package struct SavedState: Sendable {
    package static let version: UInt32 = 1
    private static let magic = Array("MMFSTATE".utf8)
    private static let headerBytes = 48
    private static let maxDigestBytes = 128

    package let modelDigest: String
    package let state: SessionState

    package init(modelDigest: String, state: SessionState) {
        self.modelDigest = modelDigest
        self.state = state
    }

    /// Bytes of a state of `values` numbers.
    package static func byteCount(digest: Int, unread: Int, values: Int) -> Int {
        headerBytes + padded(digest) + padded(unread * 4) + padded(values * 4) + 8
    }

    package func encoded() -> [UInt8] {
        let digest = Array(modelDigest.utf8)
        let values = state.snapshot?.values ?? []
        let history = state.snapshot?.history ?? TokenHistory()
        var bytes: [UInt8] = []
        bytes.reserveCapacity(
            Self.byteCount(
                digest: digest.count, unread: state.unread.count, values: values.count))
        bytes += Self.magic
        append(Self.version)
        append((state.snapshot?.layout ?? .recurrent).rawValue)
        append(UInt32(digest.count))
        append(UInt32(state.unread.count))
        append(UInt64(history.count))
        append(history.digest)
        append(UInt64(values.count))
        bytes += digest
        pad()
        for token in state.unread { append(token) }
        pad()
        values.withUnsafeBytes { bytes += $0 }
        pad()
        append(Self.checksum(bytes[...]))
        return bytes

        func append(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
        }
        func pad() { while bytes.count % 8 != 0 { bytes.append(0) } }
    }

    /// - Throws: `SavedStateError`, unless every byte is as `encoded` would have written it.
    package init(decoding bytes: [UInt8]) throws(SavedStateError) {
        guard bytes.starts(with: Self.magic) else { throw .notAState }
        guard bytes.count >= Self.headerBytes + 8 else {
            throw .truncated(expected: Self.headerBytes + 8, found: bytes.count)
        }
        func number<T: FixedWidthInteger>(_ offset: Int, _: T.Type) -> T {
            bytes.withUnsafeBytes {
                T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self))
            }
        }
        let version = number(8, UInt32.self)
        guard version == Self.version else { throw .version(version) }
        let layout = number(12, UInt32.self)
        guard let layout = StateLayout(rawValue: layout) else { throw .layout(layout) }
        let (digestCount, unreadCount) = (number(16, UInt32.self), number(20, UInt32.self))
        let (tokens, tokensDigest) = (number(24, UInt64.self), number(32, UInt64.self))
        let valueCount = number(40, UInt64.self)
        guard digestCount <= Self.maxDigestBytes else {
            throw .field("the length of the model's digest", "\(digestCount)")
        }
        guard unreadCount <= 1 else {
            throw .field("the number of unread tokens", "\(unreadCount)")
        }
        guard valueCount <= 1 << 30 else { throw .field("the number of values", "\(valueCount)") }
        guard tokens <= UInt64(Int.max) >> 1 else {
            throw .field("the number of tokens", "\(tokens)")
        }
        let expected = Self.byteCount(
            digest: Int(digestCount), unread: Int(unreadCount), values: Int(valueCount))
        guard bytes.count == expected else {
            throw .truncated(expected: expected, found: bytes.count)
        }
        guard Self.checksum(bytes.dropLast(8)) == number(expected - 8, UInt64.self) else {
            throw .checksum
        }
        var offset = Self.headerBytes
        let end = offset + Int(digestCount)
        guard let digest = String(validating: bytes[offset..<end], as: UTF8.self) else {
            throw .field("the model's digest", "not UTF-8")
        }
        offset += Self.padded(Int(digestCount))
        let unread = (0..<Int(unreadCount)).map { number(offset + $0 * 4, UInt32.self) }
        offset += Self.padded(Int(unreadCount) * 4)
        let values = [Float](unsafeUninitializedCapacity: Int(valueCount)) { buffer, count in
            bytes.withUnsafeBytes { bytes in
                UnsafeMutableRawBufferPointer(buffer).copyMemory(
                    from: .init(rebasing: bytes[offset..<offset + Int(valueCount) * 4]))
            }
            count = Int(valueCount)
        }
        guard values.withUnsafeBufferPointer({ $0.isFinite }) else {
            throw .field("one of the values", "not a finite number")
        }
        let history = TokenHistory(count: Int(tokens), digest: tokensDigest)
        guard values.isEmpty == (tokens == 0), tokens != 0 || tokensDigest == 0 else {
            throw .field("the number of tokens", "\(tokens), with \(valueCount) values")
        }
        modelDigest = digest
        state = SessionState(
            snapshot: values.isEmpty
                ? nil
                : StateSnapshot(
                    modelDigest: digest, history: history, values: values, layout: layout),
            unread: unread)
        guard encoded() == bytes else { throw .field("a byte between the parts", "not 0") }
    }

    /// The state, if it is one of `model`.
    package func state(for model: Model) throws(SavedStateError) -> SessionState {
        guard modelDigest == model.digest else {
            throw .otherModel(expected: model.digest, found: modelDigest)
        }
        if let snapshot = state.snapshot {
            let memory = model.shape.memory
            let expected = memory.floats(after: snapshot.tokens)
            guard snapshot.layout == StateLayout(memory), snapshot.values.count == expected else {
                throw .otherShape(expected: expected, found: snapshot.values.count)
            }
            if let context = memory.context, snapshot.tokens > context {
                throw .field("the number of tokens", "\(snapshot.tokens), of \(context) at most")
            }
        }
        if let token = state.unread.first, token >= UInt32(model.shape.vocabulary) {
            throw .field(
                "the unread token", "\(token); the vocabulary has \(model.shape.vocabulary)")
        }
        return state
    }

    private static func padded(_ count: Int) -> Int { (count + 7) / 8 * 8 }

    /// Four lanes over 64-bit words, little-endian, as in `StateSnapshot`. The bytes are a multiple of eight.
    package static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        func mix(_ sum: UInt64, _ word: UInt64) -> UInt64 {
            let x = sum &+ word &* 0xC2B2_AE3D_27D4_EB4F
            return (x << 31 | x >> 33) &* 0x9E37_79B1_85EB_CA87
        }
        var lanes: InlineLanes = (1, 2, 3, 4)
        bytes.withUnsafeBytes { bytes in
            func word(_ index: Int) -> UInt64 {
                UInt64(
                    littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
            }
            let count = bytes.count / 8
            var index = 0
            while index + 4 <= count {
                lanes.0 = mix(lanes.0, word(index))
                lanes.1 = mix(lanes.1, word(index + 1))
                lanes.2 = mix(lanes.2, word(index + 2))
                lanes.3 = mix(lanes.3, word(index + 3))
                index += 4
            }
            while index < count {
                lanes.0 = mix(lanes.0, word(index))
                index += 1
            }
        }
        var sum = UInt64(bytes.count)
        for word in [lanes.0, lanes.1, lanes.2, lanes.3] { sum = mix(sum, word) }
        return sum ^ sum >> 29
    }

    private typealias InlineLanes = (UInt64, UInt64, UInt64, UInt64)
}
