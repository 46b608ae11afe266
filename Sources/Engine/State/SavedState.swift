// SPDX-License-Identifier: Apache-2.0
//
// A conversation's state as bytes, for callers to keep and for NAME.state beside a model. docs/format.md describes them. Whatever
// differs from what is expected is refused by name: a state that is not quite the right one gives answers that are not quite right.

package import ModelStore

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
    case otherKeyValueType(expected: KeyValueType, found: KeyValueType)

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
        case .otherKeyValueType(let expected, let found):
            "the saved state has keys and values in \(found.rawValue), those here are kept in \(expected.rawValue) (key_value_type), and none are converted"
        }
    }
}

extension StateLayout {
    /// Refuses keys and values of another type than those of a model's memory.
    ///
    /// - Throws: `otherKeyValueType`.
    package func check(_ memory: SequenceMemory) throws(SavedStateError) {
        if let found = keyValueType, let expected = memory.keyValueType, found != expected {
            throw .otherKeyValueType(expected: expected, found: found)
        }
    }
}

/// A session's state with the model it belongs to, and its bytes.
package struct SavedState: Sendable {
    package static let version: UInt32 = 1

    package let modelDigest: String
    package let state: SessionState

    package init(modelDigest: String, state: SessionState) {
        self.modelDigest = modelDigest
        self.state = state
    }

    /// Bytes of a state whose numbers take `numberBytes`.
    package static func byteCount(digest: Int, unread: Int, numberBytes: Int) -> Int {
        SavedStateHeader.fixedBytes + padded(digest) + padded(unread * 4) + padded(numberBytes) + 8
    }

    private var header: SavedStateHeader {
        SavedStateHeader(
            modelDigest: modelDigest, state, values: state.snapshot?.valueCount ?? 0)
    }

    /// What `encode` gives.
    package var byteCount: Int { header.byteCount }

    /// Gives all bytes in parts: of pages a token's numbers at a time; numbers that are there as float32, and are written so, all at once.
    package func encode(_ body: (UnsafeRawBufferPointer) -> Void) {
        let header = header
        var sum = StateChecksum()
        func give(_ bytes: UnsafeRawBufferPointer) {
            sum.add(bytes)
            body(bytes)
        }
        header.encoded.withUnsafeBytes(give)
        state.snapshot?.withNumbers(give)
        let padding = Self.padded(header.numberBytes) - header.numberBytes
        [UInt8](repeating: 0, count: padding).withUnsafeBytes(give)
        withUnsafeBytes(of: sum.value.littleEndian) { body($0) }
    }

    package func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        encode { bytes += $0 }
        return bytes
    }

    package init(decoding bytes: [UInt8]) throws(SavedStateError) {
        try self.init(decoding: bytes[...])
    }

    /// - Throws: `SavedStateError`, unless every byte is as `encode` would have given it.
    package init(decoding bytes: ArraySlice<UInt8>) throws(SavedStateError) {
        var reader = SavedStateReader()
        let start = bytes.prefix(SavedStateHeader.fixedBytes)
        try reader.take(start)
        let expected = reader.byteCount ?? SavedStateHeader.fixedBytes + 8
        guard bytes.count == expected else {
            throw .truncated(expected: expected, found: bytes.count)
        }
        try reader.take(bytes.dropFirst(start.count))
        guard let header = reader.header, let place = reader.values, reader.isComplete else {
            throw .truncated(expected: expected, found: bytes.count)
        }
        var values = [Float](repeating: 0, count: header.values)
        bytes.withUnsafeBytes {
            header.layout.put(UnsafeRawBufferPointer(rebasing: $0[place]), at: 0, in: &values)
        }
        header.layout.widen(&values)
        self.init(header, values: values)
    }

    /// - Parameter values: the numbers, which a `SavedStateReader` has found right.
    package init(_ header: SavedStateHeader, values: [Float]) {
        precondition(values.count == header.values)
        modelDigest = header.modelDigest
        state = SessionState(
            snapshot: values.isEmpty
                ? nil
                : StateSnapshot(
                    modelDigest: header.modelDigest, history: header.history, values: values,
                    layout: header.layout),
            unread: header.unread)
    }

    /// The state, if it is one of `model`.
    package func state(for model: Model) throws(SavedStateError) -> SessionState {
        try header.check(for: model)
        return state
    }

    static func padded(_ count: Int) -> Int { (count + 7) / 8 * 8 }

    package static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        var sum = StateChecksum()
        sum.add(bytes)
        return sum.value
    }
}
