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

    @Test("has the bytes that docs/format.md describes, as another program writes them")
    func bytes() {
        let expected =
            "4d4d465354415445010000000100000004000000010000000300000000000000c319a1e657eefdb5"
            + "03000000000000003061306200000000" + "0500000000000000"
            + "0000003f000080bf0000004000000000" + "d609d2e738e96c66"
        let found = saved.encoded().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        #expect(found.joined() == expected)
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
                expected: model.memory.numbers(after: 1), found: 3)
        ) { try shape.state(for: model) }
    }
}
