// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@Suite("Ternarising agrees with the original code bit for bit")
struct TernariserTests {
    @Test(
        "single tensors: ties, neighbours of ties, zeros, outliers",
        arguments: Golden.ternarisations)
    func units(_ name: String) throws {
        let golden = try Golden(name)
        let weights = try SafetensorsFile(path: golden.directory.appending("weights.safetensors"))
        #expect(weights.entries.count >= 10)
        for entry in weights.entries {
            try check(CheckpointTensor(entry, in: weights), golden)
        }
    }

    @Test("whole checkpoints", arguments: Golden.models)
    func models(_ name: String) throws {
        let golden = try Golden(name)
        let checkpoint = try golden.checkpoint()
        #expect(golden.ternaryNames.count == checkpoint.config.shape.layers * 6 + 1)
        for tensor in golden.ternaryNames { try check(checkpoint.tensor(named: tensor), golden) }
    }

    private func check(_ tensor: CheckpointTensor, _ golden: Golden) throws {
        let ternariser = Ternariser()
        let rule = try ternariser.rule(for: tensor)
        let trits = ternariser.trits(of: tensor, rule)
        #expect(try trits == golden.trits(tensor.name), "\(tensor.name)")
        guard trits.contains(where: { $0 != 0 }) else { return }
        let scale = try golden.values("scale." + tensor.name)[0]
        if tensor.type == .f32 {
            #expect(abs(rule.scale / scale - 1) < 1e-6, "\(tensor.name)")
        } else {
            #expect(rule.scale == scale, "\(tensor.name)")
        }
    }

    @Test("already ternary tensors are kept and known as such")
    func alreadyTernary() throws {
        let checkpoint = try Golden("i_prequant_bf16").checkpoint()
        for role in checkpoint.config.roles where role.kind == .ternary {
            let rule = try Ternariser().rule(for: checkpoint.tensor(named: role.name))
            #expect(rule.alreadyTernary)
            #expect(rule.threshold == 1)
        }
    }

    @Test(
        "one comparison of bits is the definition, for every 16-bit weight",
        arguments: [
            ElementType.bf16, .f16,
        ])
    func comparison(_ type: ElementType) {
        for mean: Float in [1.1e-5, 0.0019, 0.0155, 0.02, 0.37, 1, 3.3, 900] {
            let mean = max(type.rounded(mean), type.rounded(1e-5))
            var scan = WeightScan()
            (scan.sum, scan.nonzero) = (Double(mean) * 100, 90)
            let rule = TernaryRule(type: type, count: 100, scan: scan)
            let multiplier = rule.widened ? 1 / mean : type.rounded(1 / mean)
            let weights = (UInt16.min...UInt16.max).filter {
                UInt32($0 & 0x7fff) < type.infinity
            }
            let wanted = weights.map { bits -> Int8 in
                let product = type.value(ofBits: UInt32(bits)) * multiplier
                let p = rule.widened ? product : type.rounded(product)
                return p > 0.5 ? 1 : p < -0.5 ? -1 : 0
            }
            var found = [Int8](repeating: 9, count: weights.count)
            let nonzero = weights.withUnsafeBufferPointer { weights in
                found.withUnsafeMutableBufferPointer { rule.trits(weights, to: $0.baseAddress!) }
            }
            #expect(found == wanted)
            #expect(nonzero == wanted.count { $0 != 0 })
        }
    }

    @Test("the number of cores changes nothing", arguments: [ElementType.f32, .bf16, .f16])
    func cores(_ type: ElementType) throws {
        var random = SeededGenerator(7)
        // Two pieces and a bit, so that there is something to add up in another order.
        let values = (0..<(2 << 18) + 77).map { _ in random.gaussian() * 0.02 }
        try withTensors([("w", type, [values.count], values)]) { file in
            let tensor = try #require(file["w"].map { CheckpointTensor($0, in: file) })
            let one = WeightScan(tensor, parallel: Parallel(workers: 1))
            for workers in [2, 3] {
                #expect(WeightScan(tensor, parallel: Parallel(workers: workers)) == one)
            }
            let exact = values.reduce(0.0) {
                $0 + abs(Double(type.rounded($1)))
            }
            #expect(abs(one.sum / exact - 1) < 1e-12)
        }
    }

    @Test(
        "NaN and infinity are refused with tensor and place",
        arguments: [
            ElementType.f32, .bf16, .f16,
        ])
    func notFinite(_ type: ElementType) throws {
        for bad in [Float.nan, .infinity, -.infinity] {
            var values = [Float](repeating: 0.5, count: 300)
            values[257] = bad
            try withTensors([("some.weight", type, [3, 100], values)]) { file in
                let tensor = try #require(
                    file["some.weight"].map { CheckpointTensor($0, in: file) })
                let error = #expect(throws: PackError.self) { try Ternariser().rule(for: tensor) }
                guard case .notFinite("some.weight", 257, _) = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
            }
        }
    }

    @Test("F16 weights too small for F16's reciprocal are done in F32")
    func tinyHalf() throws {
        let values = (0..<64).map { Float($0 % 5) * 2e-6 }
        try withTensors([("w", .f16, [8, 8], values)]) { file in
            let tensor = try #require(file["w"].map { CheckpointTensor($0, in: file) })
            let rule = try Ternariser().rule(for: tensor)
            #expect(rule.widened)
            #expect(rule.scale.isFinite && rule.scale > 9e-6)
        }
    }

    @Test("a matrix scaled row by row is noticed; ordinary and ternary ones are not")
    func rowScaled() throws {
        var random = SeededGenerator(3)
        let rows = 9
        let columns = 40
        let trits = (0..<rows * columns).map { _ in Float(Int(random.next() % 3) - 1) }
        let byRow = trits.enumerated().map { $1 * (0.01 + 0.003 * Float($0 / columns)) }
        let whole = trits.map { $0 * 0.02 }
        let gaussian = trits.map { _ in random.gaussian() }
        for (values, wanted) in [(byRow, true), (whole, false), (gaussian, false)] {
            for type in [ElementType.f32, .bf16, .f16] {
                try withTensors([("w", type, [rows, columns], values)]) { file in
                    let tensor = try #require(file["w"].map { CheckpointTensor($0, in: file) })
                    let rule = try Ternariser().rule(for: tensor)
                    #expect(Ternariser().isScaledByRow(tensor, rule) == wanted)
                }
            }
        }
    }

    @Test("data at odd addresses reads the same")
    func unaligned() throws {
        let values = (0..<640).map { Float($0 - 320) / 1000 }
        for type in [ElementType.f32, .bf16, .f16] {
            let tensors: [TensorSpec] = [("w", type, [10, 64], values)]
            let rules = try (0..<8).map { padding in
                try withTensors(tensors, headerPadding: padding) { file in
                    let tensor = try #require(file["w"].map { CheckpointTensor($0, in: file) })
                    return try Ternariser().rule(for: tensor)
                }
            }
            #expect(rules.allSatisfy { $0 == rules[0] })
        }
    }
}
