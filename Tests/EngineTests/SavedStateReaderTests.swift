// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import TestSupport
import Testing

@Suite("A saved state that comes in parts")
struct SavedStateReaderTests {
    /// Some state, and its bytes.
    private func saved(_ random: inout SeededGenerator) -> SavedState {
        let digest = String(
            repeating: "a", count: Int.random(in: 0...128, using: &random))
        let unread = Bool.random(using: &random) ? [UInt32.random(in: 0...9, using: &random)] : []
        let values = (0..<Int.random(in: 0...99, using: &random)).map { _ in
            Float.random(in: -1...1, using: &random)
        }
        let layout = StateLayout.allCases.randomElement(using: &random) ?? .recurrent
        let snapshot = StateSnapshot(
            modelDigest: digest, history: TokenHistory([1, 2]),
            values: layout == .halfKeysAndValues
                ? values.map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) } : values,
            layout: layout)
        return SavedState(
            modelDigest: digest,
            state: SessionState(snapshot: values.isEmpty ? nil : snapshot, unread: unread))
    }

    /// The bytes, cut anywhere.
    private func cut(_ bytes: [UInt8], _ random: inout SeededGenerator) -> [ArraySlice<UInt8>] {
        var parts: [ArraySlice<UInt8>] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            parts.append(rest.prefix(Int.random(in: 0...40, using: &random)))
            rest = rest.dropFirst(parts[parts.count - 1].count)
        }
        return parts
    }

    /// - Returns: the reader after all parts, or why it wants no more.
    private func read(
        _ parts: some Swift.Sequence<ArraySlice<UInt8>>
    ) -> Result<SavedStateReader, SavedStateError> {
        var reader = SavedStateReader()
        do throws(SavedStateError) {
            for part in parts { try reader.take(part) }
            return .success(reader)
        } catch { return .failure(error) }
    }

    /// - Returns: why the bytes are refused when they come at once.
    private func refusal(_ bytes: [UInt8]) -> SavedStateError? {
        do throws(SavedStateError) {
            _ = try SavedState(decoding: bytes)
            return nil
        } catch { return error }
    }

    @Test("is complete with its last byte, wherever it is cut, and tells all but its numbers")
    func anywhere() throws {
        var random = SeededGenerator(1)
        for _ in 0..<100 {
            let saved = saved(&random)
            let bytes = saved.encoded()
            let reader = try read(cut(bytes, &random)).get()
            #expect(reader.isComplete && reader.received == bytes.count)
            #expect(reader.byteCount == bytes.count && saved.byteCount == bytes.count)
            let header = try #require(reader.header)
            #expect(header.modelDigest == saved.modelDigest)
            #expect(header.unread == saved.state.unread)
            #expect(header.tokens == saved.state.history)
            let values = saved.state.snapshot?.values ?? []
            #expect(header.values == values.count)
            let place = try #require(reader.values)
            let isHalf = header.layout == .halfKeysAndValues
            #expect(
                Array(bytes[place])
                    == values.flatMap { value in
                        withUnsafeBytes(of: value.bitPattern.littleEndian) {
                            Array($0.dropFirst(isHalf ? 2 : 0))
                        }
                    })
            #expect(try SavedState(decoding: bytes).state.snapshot?.values ?? [] == values)
            var builder = StateBuilder(header)
            for part in cut(Array(bytes[place]), &random) {
                try part.withUnsafeBytes { try builder.take($0) }
            }
            let built = builder.state()
            #expect(built.snapshot?.values ?? [] == values && built.unread == header.unread)
            #expect(built.history == saved.state.history)
            for count in [bytes.count - 1, 48, bytes.count / 2] {
                #expect(try !read(cut(Array(bytes[..<count]), &random)).get().isComplete)
            }
        }
    }

    @Test(
        "is refused as it is when it comes at once, whatever byte is wrong and wherever it is cut")
    func damage() throws {
        var random = SeededGenerator(2)
        for _ in 0..<300 {
            var bytes = saved(&random).encoded()
            let place = Int.random(in: bytes.indices, using: &random)
            bytes[place] ^= UInt8.random(in: 1...255, using: &random)
            let whole = try #require(refusal(bytes))
            switch (read(cut(bytes, &random)), whole) {
            // Its header tells another length: others of its bytes are taken for what they are not.
            case (.success(let reader), .truncated): #expect(!reader.isComplete)
            case (.failure(.truncated(let length, let found)), .truncated(let told, _)):
                #expect(length == told && found > told)
            // A cut is where it would end.
            case (.failure(.checksum), .truncated(let told, let count)): #expect(told < count)
            // The length of the digest, or of what is unread, is another.
            case (.failure(.field(let name, let why)), .truncated):
                #expect(
                    (name, why) == ("the model's digest", "not UTF-8")
                        || (name, why) == ("a byte between the parts", "not 0"))
            case (.failure(let found), _): #expect(found == whole)
            case (.success, _): Issue.record("taken, though \(whole)")
            }
        }
    }

    @Test(
        "numbers that are not finite and padding that is not 0 are refused where the checksum fits")
    func flaws() {
        var random = SeededGenerator(3)
        func refusal(
            _ layout: StateLayout = .recurrent, _ change: (inout [UInt8]) -> Void
        ) -> SavedStateError? {
            let snapshot = StateSnapshot(
                modelDigest: "d", history: TokenHistory([1]), values: [1, 2, 3], layout: layout)
            let state = SessionState(snapshot: snapshot, unread: [])
            var bytes = Array(SavedState(modelDigest: "d", state: state).encoded().dropLast(8))
            change(&bytes)
            withUnsafeBytes(of: SavedState.checksum(bytes[...]).littleEndian) { bytes += $0 }
            guard case .failure(let error) = read(cut(bytes, &random)) else { return nil }
            return error
        }
        #expect(refusal { _ in } == nil)
        // The numbers begin at byte 56.
        for bits in [Float.infinity, -.infinity, .nan, .signalingNaN].map(\.bitPattern) {
            let error = refusal { bytes in
                withUnsafeBytes(of: bits.littleEndian) { bytes.replaceSubrange(60..<64, with: $0) }
            }
            #expect(error == .field("one of the values", "not a finite number"))
        }
        #expect(
            refusal { bytes in
                withUnsafeBytes(of: Float.greatestFiniteMagnitude.bitPattern.littleEndian) {
                    bytes.replaceSubrange(60..<64, with: $0)
                }
            } == nil)
        for (bits, isRefused): (UInt16, Bool) in [
            (0x7F80, true), (0xFF80, true), (0x7F81, true), (0x7F7F, false),
        ] {
            let error = refusal(.halfKeysAndValues) { bytes in
                withUnsafeBytes(of: bits.littleEndian) { bytes.replaceSubrange(58..<60, with: $0) }
            }
            #expect(
                error == (isRefused ? .field("one of the values", "not a finite number") : nil))
        }
        for place in [50, 69] {
            let error = refusal { $0[place] = 1 }
            #expect(error == .field("a byte between the parts", "not 0"))
        }
    }

    @Test(
        "one that tells of more tokens than an Int counts the numbers of is refused by their number"
    )
    func manyTokens() throws {
        let golden = try Golden("ll_gqa1_sharded", root: AttentionGolden.root)
        let model = try packed(golden.directory, as: "ll_gqa1_sharded")
        let context = try #require(model.memory.context)
        for tokens in [context + 1, Int.max >> 1] {
            let snapshot = StateSnapshot(
                modelDigest: model.digest, history: TokenHistory(count: tokens, digest: 1),
                values: [1], layout: .keysAndValues)
            let bytes = SavedState(
                modelDigest: model.digest, state: SessionState(snapshot: snapshot, unread: [])
            ).encoded()
            #expect(
                throws: SavedStateError.field(
                    "the number of tokens", "\(tokens), of \(context) at most")
            ) { try SavedState(decoding: bytes).state(for: model) }
        }
    }

    @Test("the checksum is of the bytes, not of how they come")
    func checksum() {
        var random = SeededGenerator(4)
        let bytes = (0..<4096).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        var sum = StateChecksum()
        for part in cut(bytes, &random) { sum.add(part) }
        #expect(sum.value == SavedState.checksum(bytes[...]))
        var other = StateChecksum()
        other.add(bytes.dropLast(8))
        #expect(other.value == SavedState.checksum(bytes.dropLast(8)))
        #expect(other.value != sum.value)
    }
}
