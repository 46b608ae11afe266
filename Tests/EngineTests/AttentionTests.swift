// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import Packer
import Reference
import TestSupport
import Testing

/// Expected values come from the authors' code in float32; Tests/Fixtures/bitnet says how.
@Suite("Models with attention in the engine")
struct AttentionEngineTests {
    private struct Case {
        let golden: Golden
        let model: Model
        let shape: AttentionShape
        let tokens: [UInt32]

        init(_ name: String, _ keyValues: KeyValueType = .f32) throws {
            golden = try Golden(name, root: AttentionGolden.root)
            let exact = try packed(golden.directory, as: name)
            model = keyValues == .f32 ? exact : try Model(exact.file, keyValues: keyValues)
            guard case .attention(let shape) = model.shape else { throw Wrong() }
            self.shape = shape
            tokens = golden.ints("input_ids").map { UInt32($0) }
        }

        struct Wrong: Error {}
    }

    /// Tokens of a model's vocabulary, always the same.
    private func tokens(_ count: Int, _ model: Model) -> [UInt32] {
        var state: UInt64 = 7
        return (0..<count).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt32(Int(state >> 33) % model.shape.vocabulary)
        }
    }

    @Test(
        "hidden states, keys, values, logits and vectors are within rounding of the authors'",
        arguments: AttentionGolden.models, Kernels.runnable)
    func golden(_ name: String, _ kernels: String) throws {
        let given = try Case(name)
        func check(_ found: [Float], _ wanted: String) throws {
            let distance = AttentionGolden.distance(found, try given.golden.values(wanted))
            #expect(distance <= 2e-5, "\(wanted)")
        }
        let run = try Run(given.model, kernels: kernels)
        try run.feed(given.tokens, wants: .hidden)
        try check(run.hidden.flatMap { $0 }, "hidden")
        // [tokens][layers][2][heads · d]; in the file [heads, tokens, d].
        let (state, shape) = (run.state, given.shape)
        for layer in 0..<shape.layers {
            for (part, letter) in ["k", "v"].enumerated()
            where given.golden.expected["k.0"] != nil {
                var values: [Float] = []
                for head in 0..<shape.keyHeads {
                    for token in given.tokens.indices {
                        let first =
                            ((token * shape.layers + layer) * 2 + part) * shape.keyWidth
                            + head * shape.headSize
                        values += state[first..<first + shape.headSize]
                    }
                }
                try check(values, "\(letter).\(layer)")
            }
        }
        guard given.model.shape.hasHead else {
            for (name, kind) in [
                ("embedding", PooledVector.Kind(shape.pooling)), ("embedding_mean", .mean),
            ] {
                var vector = PooledVector(kind)
                for (place, row) in run.hidden.enumerated()
                where kind.needs(place, of: run.hidden.count) {
                    row.withUnsafeBufferPointer { vector.add($0) }
                }
                let isFinite = vector.finish(normalizes: shape.normalizes)
                #expect(isFinite)
                let wanted = try given.golden.values(name)
                let worst = zip(vector.values, wanted).map { abs($0 - $1) }.max() ?? .infinity
                #expect(worst <= 2e-6 && vector.values.count == wanted.count, "\(name)")
            }
            return
        }
        let again = try Run(given.model, kernels: kernels)
        let greedy = given.golden.ints("greedy").map { UInt32($0) }
        #expect(try again.greedy(after: given.tokens, count: greedy.count) == greedy)
        let logits = again.logits.prefix(given.tokens.count).flatMap { $0 }
        #expect(given.golden.excess(logits, try given.golden.values("logits")) <= 0)
    }

    @Test(
        "the bits are the same for any chunks, threads, neighbours and kernels",
        arguments: AttentionGolden.models, KeyValueType.allCases)
    func sameBits(_ name: String, _ keyValues: KeyValueType) throws {
        let model = try Case(name, keyValues).model
        let tokens = tokens(75, model)
        let wants: Wants = model.shape.hasHead ? .logits : .hidden
        let expected = try Run(model, kernels: "scalar", threads: 1)
        for token in tokens { try expected.feed([token], wants: wants) }
        for tuning in ["shares=1,few=16K,many=16K,fused=no", "shares=64,fused=yes"] {
            let run = try Run(model, tuning: tuning)
            for start in stride(from: 0, to: tokens.count, by: 8) {
                try run.feed(Array(tokens[start...].prefix(8)), wants: wants)
            }
            #expect(run.logits == expected.logits && run.hidden == expected.hidden, "\(tuning)")
        }
        for (chunk, threads) in [(1, 2), (3, 3), (7, 2), (16, 1), (31, 3), (75, 2)] {
            for kernels in Kernels.runnable {
                let run = try Run(model, kernels: kernels, threads: threads)
                for start in stride(from: 0, to: tokens.count, by: chunk) {
                    try run.feed(Array(tokens[start...].prefix(chunk)), wants: wants)
                }
                #expect(run.logits == expected.logits, "\(kernels), chunks of \(chunk)")
                #expect(run.hidden == expected.hidden, "\(kernels), chunks of \(chunk)")
                #expect(run.state == expected.state, "\(kernels), chunks of \(chunk)")
            }
        }
    }

    @Test(
        "sequences in one batch give what each gives alone", arguments: AttentionGolden.models,
        KeyValueType.allCases)
    func batched(_ name: String, _ keyValues: KeyValueType) throws {
        let model = try Case(name, keyValues).model
        let tokens = tokens(40, model)
        let wants: Wants = model.shape.hasHead ? .logits : .hidden
        let alone = try (0..<5).map { first in
            let run = try Run(model)
            try run.feed(Array(tokens[first...]), wants: wants)
            return run
        }
        let evaluator = try Evaluator(
            model: model, workers: WorkerPool(threads: 2), maxRows: 64,
            kernels: Kernels.fromEnvironment())
        let states = try StatePool(slots: 5, model: model)
        for step in 0..<35 {
            try evaluator.run(
                (0..<5).map { BatchRow(slot: $0, token: tokens[$0 + step], wants: wants) },
                states: states)
            for slot in 0..<5 {
                if wants == .logits {
                    #expect(
                        evaluator.withLogits(row: slot) { Array($0) } == alone[slot].logits[step])
                } else {
                    #expect(
                        evaluator.withHidden(row: slot) { Array($0) } == alone[slot].hidden[step])
                }
            }
        }
    }

    @Test(
        "a state is forked at any token, within a batch or between two, and none disturbs another",
        arguments: KeyValueType.allCases)
    func forks(_ keyValues: KeyValueType) throws {
        let model = try Case("bn_odd_packed", keyValues).model
        let tokens = tokens(60, model)
        func expected(_ parts: ArraySlice<UInt32>...) throws -> [Float] {
            let run = try Run(model)
            for part in parts { try run.feed(Array(part), wants: .nothing) }
            return run.state
        }
        let evaluator = try Evaluator(
            model: model, workers: WorkerPool(threads: 2), maxRows: 128,
            kernels: Kernels.fromEnvironment())
        for depth in [1, 5, 15, 16, 17, 31, 32, 40] {
            let states = try StatePool(slots: 4, model: model)
            var rows = tokens[..<depth].map { BatchRow(slot: 0, token: $0, wants: .nothing) }
            // Slot 0 goes on, 1 and 2 leave it at the same token, 3 leaves 1 two tokens later; all in one batch.
            rows.append(BatchRow(from: 0, to: 1, token: tokens[50], wants: .nothing))
            rows.append(BatchRow(from: 0, to: 2, token: tokens[51], wants: .nothing))
            rows.append(BatchRow(slot: 0, token: tokens[52], wants: .nothing))
            rows.append(BatchRow(slot: 1, token: tokens[53], wants: .nothing))
            rows.append(BatchRow(from: 1, to: 3, token: tokens[54], wants: .nothing))
            rows.append(BatchRow(slot: 1, token: tokens[55], wants: .nothing))
            try evaluator.run(rows, states: states)
            let before = tokens[..<depth]
            #expect(try states.values(0) == expected(before, tokens[52...52]))
            #expect(
                try states.values(1) == expected(before, [tokens[50]], [tokens[53]], [tokens[55]]))
            #expect(try states.values(2) == expected(before, tokens[51...51]))
            #expect(
                try states.values(3) == expected(before, [tokens[50]], [tokens[53]], [tokens[54]]))

            let history = TokenHistory(before + tokens[52...52])
            let snapshot = states.save(0, history: history)
            let values = snapshot.values
            // Two go on from the same snapshot, and so does the slot it was taken of.
            try states.restore(1, snapshot)
            try states.restore(2, snapshot)
            for slot in [0, 1, 2] {
                try evaluator.run(
                    [BatchRow(slot: slot, token: tokens[56 + slot], wants: .nothing)],
                    states: states)
            }
            for slot in [0, 1, 2] {
                #expect(
                    try states.values(slot)
                        == expected(before, [tokens[52]], [tokens[56 + slot]]))
            }
            #expect(snapshot.values == values)
        }
    }

    @Test("a slot that is given up keeps no pages; a snapshot of it does")
    func freed() throws {
        let model = try Case("bn_odd_packed").model
        let tokens = tokens(40, model)
        let states = try StatePool(slots: 1, model: model)
        let evaluator = try Evaluator(
            model: model, workers: WorkerPool(threads: 1), maxRows: 64,
            kernels: Kernels.fromEnvironment())
        try evaluator.run(
            tokens.map { BatchRow(slot: 0, token: $0, wants: .nothing) }, states: states)
        let (values, snapshot) = (states.values(0), states.save(0, history: TokenHistory(tokens)))
        states.free(0)
        #expect(states.values(0).isEmpty && snapshot.values == values)
    }

    @Test(
        "a saved state is read again as the same numbers, and goes on with the same bits",
        arguments: KeyValueType.allCases)
    func saved(_ keyValues: KeyValueType) throws {
        let model = try Case("ll_gqa1_sharded", keyValues).model
        let tokens = tokens(41, model)
        let whole = try Run(model)
        try whole.feed(tokens, wants: .logits)
        let first = try Run(model)
        try first.feed(Array(tokens[..<21]), wants: .nothing)
        let bytes = SavedState(
            modelDigest: model.digest,
            state: SessionState(snapshot: first.snapshot, unread: [tokens[21]])
        ).encoded()
        #expect(
            bytes.count
                == SavedState.byteCount(
                    digest: 64, unread: 1, numberBytes: first.state.count * keyValues.byteCount))
        let state = try SavedState(decoding: bytes).state(for: model)
        let snapshot = try #require(state.snapshot)
        #expect(snapshot.values == first.state && snapshot.tokens == 21)
        let second = try Run(model)
        try second.restore(snapshot)
        try second.feed(Array(tokens[21...]), wants: .logits)
        #expect(second.logits == Array(whole.logits[21...]))
        let other = try Case("bn_odd_packed", keyValues).model
        #expect(throws: SavedStateError.self) {
            _ = try SavedState(decoding: bytes).state(for: other)
        }
        let type: KeyValueType = keyValues == .f32 ? .bf16 : .f32
        let same = try Case("ll_gqa1_sharded", type).model
        #expect(throws: SavedStateError.otherKeyValueType(expected: type, found: keyValues)) {
            _ = try SavedState(decoding: bytes).state(for: same)
        }
    }

    @Test(
        "a state that is built of its bytes as they come goes on with the same bits, in pages of its own",
        arguments: KeyValueType.allCases, [1, 7, 1000, 1 << 20])
    func built(_ keyValues: KeyValueType, _ part: Int) throws {
        let model = try Case("ll_gqa1_sharded", keyValues).model
        let tokens = tokens(41, model)
        let first = try Run(model)
        try first.feed(Array(tokens[..<37]), wants: .nothing)
        let bytes = SavedState(
            modelDigest: model.digest,
            state: SessionState(snapshot: first.snapshot, unread: [tokens[37]])
        ).encoded()
        var reader = SavedStateReader()
        try reader.take(bytes)
        let (header, place) = (try #require(reader.header), try #require(reader.values))
        var builder = try StateBuilder(header, for: model)
        for start in stride(from: place.lowerBound, to: place.upperBound, by: part) {
            try bytes[start..<min(place.upperBound, start + part)].withUnsafeBytes {
                try builder.take($0)
            }
        }
        let state = builder.state()
        let snapshot = try #require(state.snapshot)
        #expect(state.unread == [tokens[37]] && snapshot.history == TokenHistory(tokens[..<37]))
        #expect(snapshot.sharedPages.ids.count == 3, "37 tokens, 16 to a page")
        #expect(snapshot.values == first.state)
        let states = try StatePool(slots: 1, model: model)
        try states.restore(0, snapshot)
        let again = states.save(0, history: snapshot.history)
        #expect(again.sharedPages.ids == snapshot.sharedPages.ids)
        let second = try Run(model)
        try second.restore(snapshot)
        try first.feed(Array(tokens[37...]), wants: .logits)
        try second.feed(Array(tokens[37...]), wants: .logits)
        #expect(second.logits == first.logits)
        let other = try Case("bn_odd_packed", keyValues).model
        #expect(
            throws: SavedStateError.otherModel(expected: other.digest, found: model.digest)
        ) { _ = try StateBuilder(header, for: other) }
    }

    @Test(
        "keys and values in bfloat16 are those of float32, each rounded when it is written",
        arguments: AttentionGolden.models)
    func rounded(_ name: String) throws {
        let (exact, half) = (try Case(name), try Case(name, .bf16))
        let tokens = tokens(40, exact.model)
        let wants: Wants = exact.model.shape.hasHead ? .logits : .hidden
        let (wanted, found) = (try Run(exact.model), try Run(half.model))
        try wanted.feed(tokens, wants: wants)
        try found.feed(tokens, wants: wants)
        // The first layer's, which no attention has touched.
        let shape = exact.shape
        for token in tokens.indices {
            let first = token * shape.layers * 2 * shape.keyWidth
            let layer = first..<first + 2 * shape.keyWidth
            #expect(found.state[layer].map { Self.nearest($0, of: 8) } == Array(found.state[layer]))
            #expect(found.state[layer] == wanted.state[layer].map { Self.nearest($0, of: 8) }[...])
        }
        // What it costs: most of it is int8 codes that fall on the other side of a half.
        let results =
            wants == .logits ? (found.logits, wanted.logits) : (found.hidden, wanted.hidden)
        let distance = AttentionGolden.distance(
            results.0.flatMap { $0 }, results.1.flatMap { $0 })
        #expect(distance > 0 && distance < 0.1, "\(distance) of the largest")
        #expect(found.snapshot.byteCount * 2 == wanted.snapshot.byteCount)
    }

    /// The nearest number of so many binary digits, to even: by its definition, not by bits.
    private static func nearest(_ x: Float, of digits: Int) -> Float {
        guard x != 0 else { return x }
        let unit = Double(sign: .plus, exponent: x.exponent - digits + 1, significand: 1)
        return Float((Double(x) / unit).rounded(.toNearestOrEven) * unit)
    }

    @Test(
        "a head in q6 gives the logits that the reference computes of its rows",
        arguments: ["bn_odd_packed", "ll_gqa1_sharded"])
    func smallHead(_ name: String) throws {
        let given = try Case(name)
        let model = try packed(given.golden.directory, as: "\(name)-q6", embedding: .q6)
        let run = try Run(model)
        try run.feed(given.tokens, wants: .logits)
        let reference = try AttentionModel(.packed(AttentionFile(model.file)))
        var state = reference.freshState
        let wanted = try reference.run(given.tokens.map { Int($0) }, state: &state).logits
        for (found, wanted) in zip(run.logits, wanted) {
            #expect(AttentionGolden.distance(found, wanted) <= 2e-5)
        }
    }
}
