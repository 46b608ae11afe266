// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CKernels
import ModelStore
import SystemPackage

/// A published size, filled with random trits: as fast and as large as the real one.
enum PublishedShape: String, ExpressibleByArgument, CaseIterable {
    case m370 = "370M"
    case b1 = "1.3B"
    case b2 = "2.7B"
    /// BitNet b1.58 2B4T
    case bitnet = "2B4T"
    /// bitnet-embedding-0.6b
    case embedding = "embedding-0.6B"

    private var shape: Architecture {
        switch self {
        case .m370: return .hgrnbit(ModelShape(hidden: 1024, intermediate: 2816))
        case .b1: return .hgrnbit(ModelShape(hidden: 2048, intermediate: 5632))
        case .b2: return .hgrnbit(ModelShape(hidden: 2560, layers: 32, intermediate: 6912))
        case .bitnet:
            var shape = AttentionShape(.bitnet)
            (shape.vocabulary, shape.hidden, shape.layers) = (128_256, 2560, 30)
            (shape.intermediate, shape.heads, shape.keyHeads) = (6912, 20, 5)
            (shape.headSize, shape.context, shape.theta) = (128, 4096, 500_000)
            shape.isTied = true
            return .attention(shape)
        case .embedding:
            var shape = AttentionShape(.qwen3)
            (shape.vocabulary, shape.hidden, shape.layers) = (151_936, 1024, 28)
            (shape.intermediate, shape.heads, shape.keyHeads) = (3072, 16, 8)
            (shape.headSize, shape.context, shape.theta) = (128, 32_768, 1_000_000)
            (shape.epsilon, shape.innerEpsilon) = (1e-6, 1e-6)
            return .attention(shape)
        }
    }

    private var plans: [TensorPlan] {
        switch shape {
        case .hgrnbit(let shape): TensorLayout(shape).plans(.q6) { _ in "BF16" }
        case .attention(let shape): AttentionLayout(shape).plans(.q6) { _ in "BF16" }
        }
    }

    private var facts: Facts {
        let name = "random \(rawValue)"
        return switch shape {
        case .hgrnbit(let shape): shape.facts(name: name, embedding: .q6)
        case .attention(let shape): shape.facts(name: name, embedding: .q6)
        }
    }

    /// Writes a packed file of this shape.
    func write(to path: FilePath) throws(StoreError) {
        let tensors = plans
        var writer = try PackedWriter(
            path: path, metadata: facts, tensors: tensors, replacing: true)
        var random = Pattern()
        for tensor in tensors {
            if let packed = tensor.packed {
                try random.writeTrits(tensor.byteCount, to: &writer)
                // About what keeps activations at a sensible size.
                try writer.setScale(1.2 / Float(packed.columns).squareRoot(), of: tensor.name)
            } else if tensor.type == .f32 {
                try writer.write(random.floats(tensor.byteCount / 4, from: 0.25))
            } else {
                let values = random.floats(shape.hidden, from: -0.25)
                var row = [UInt8](repeating: 0, count: ck_q6_row_bytes(values.count))
                ck_q6_encode(values, values.count, &row)
                for _ in 0..<shape.vocabulary { try writer.write(row) }
            }
        }
        try writer.finish()
    }
}

/// Reproducible random bytes, a megabyte of each kind repeated.
private struct Pattern {
    private var state: UInt64 = 1
    private let trits: [UInt8]

    init() {
        var state: UInt64 = 1
        trits = (0..<1 << 20).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8((state >> 33) % 243)
        }
    }

    func writeTrits(_ count: Int, to writer: inout PackedWriter) throws(StoreError) {
        for start in stride(from: 0, to: count, by: trits.count) {
            try writer.write(Array(trits.prefix(count - start)))
        }
    }

    /// Numbers from `start` up, less than 0.5 above it.
    mutating func floats(_ count: Int, from start: Float) -> [Float] {
        (0..<count).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return start + Float(state >> 40) * 0x1p-25
        }
    }
}
