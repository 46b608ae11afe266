// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import Testing

@Suite("A saved state")
struct SavedStateTests {
    private let saved = SavedState(
        modelDigest: "0a0b",
        state: SessionState(
            snapshot: StateSnapshot(
                modelDigest: "0a0b", history: TokenHistory([1, 2, 3]), values: [0.5, -1, 2]),
            unread: [5]))

    @Test("is read as it was written: model, tokens, numbers, the unread token")
    func roundTrip() throws {
        let read = try SavedState(decoding: saved.encoded())
        #expect(read.modelDigest == "0a0b")
        #expect(read.state.snapshot?.values == [0.5, -1, 2])
        #expect(read.state.snapshot?.history == TokenHistory([1, 2, 3]))
        #expect(read.state.unread == [5])
        #expect(read.state.history == TokenHistory([1, 2, 3, 5]))
        let empty = SavedState(modelDigest: "d", state: .empty)
        #expect(try SavedState(decoding: empty.encoded()).state.isEmpty)
    }

    @Test("is refused with any bit changed, cut anywhere, or with a byte more")
    func damage() {
        let bytes = saved.encoded()
        for at in bytes.indices {
            for bit in 0..<8 {
                var other = bytes
                other[at] ^= 1 << bit
                #expect(throws: SavedStateError.self) { try SavedState(decoding: other) }
            }
            #expect(throws: SavedStateError.self) {
                try SavedState(decoding: Array(bytes[..<at]))
            }
        }
        #expect(throws: SavedStateError.self) { try SavedState(decoding: bytes + [0]) }
    }

    @Test("names what differs: no state, its version, its length, its checksum, its model")
    func names() throws {
        var bytes = saved.encoded()
        func refusal(_ bytes: [UInt8]) -> SavedStateError? {
            do {
                _ = try SavedState(decoding: bytes)
                return nil
            } catch { return error }
        }
        #expect(refusal([1, 2, 3]) == .notAState)
        #expect(refusal(Array(bytes.dropLast())) == .truncated(expected: 88, found: 87))
        bytes[80] ^= 1
        #expect(refusal(bytes) == .checksum)
        bytes[8] = 9
        #expect(refusal(bytes) == .version(9))
        let model = try GoldenModel("b_bf16").model
        #expect(throws: SavedStateError.otherModel(expected: model.digest, found: "0a0b")) {
            try saved.state(for: model)
        }
        let shape = SavedState(modelDigest: model.digest, state: saved.state)
        #expect(
            throws: SavedStateError.otherShape(
                expected: model.shape.memory.floats(after: 1), found: 3)
        ) { try shape.state(for: model) }
    }
}
