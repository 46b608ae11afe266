// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
internal import Packer

/// A ternary product of the models with attention: normalise where there is a norm inside, quantise to int8, multiply by trits, scale.
///
/// Source: transformers 5.24, integrations/bitnet.py, `AutoBitLinear` and `BitLinear`, read in float32; docs/bitnet.md.
struct TernaryProduct {
    private let norm: [Float]?
    private let epsilon: Float
    private let scale: Float
    /// [rows][columns]
    private let trits: [Int8]

    init(
        _ weights: AttentionWeights, _ product: AttentionLayout.Product
    ) throws(PackError) {
        norm = try weights.vector(product.norm)
        epsilon = weights.shape.innerEpsilon ?? 0
        (trits, scale) = try weights.matrix(product)
    }

    /// x: [columns]. Returns [rows].
    func callAsFunction(_ x: [Float]) -> [Float] {
        let row = QuantisedRow(norm.map { Arithmetic.rms(x, $0, epsilon) } ?? x)
        let factor = scale / row.scale
        let columns = x.count
        var out = [Float](repeating: 0, count: trits.count / columns)
        trits.withUnsafeBufferPointer { trits in
            row.values.withUnsafeBufferPointer { q in
                for n in 0..<out.count {
                    var sum: Int32 = 0
                    var k = 0
                    while k < columns {
                        sum &+= Int32(trits[n &* columns &+ k]) &* Int32(q[k])
                        k &+= 1
                    }
                    out[n] = Float(sum) * factor
                }
            }
        }
        return out
    }
}

/// A row of activations as int8: s = fl(fl(1/m) · 127), m the largest magnitude and at least 1e-5; x · s rounded half to even.
package struct QuantisedRow {
    package let values: [Int8]
    package let scale: Float

    package init(_ x: [Float]) {
        var largest: Float = 1e-5
        for value in x { largest = max(largest, abs(value)) }
        // Two roundings, as `127 / tensor` has them in torch.
        let scale = (1 / largest) * 127
        self.scale = scale
        values = x.map { Int8(max(-128, min(127, ($0 * scale).rounded(.toNearestOrEven)))) }
    }
}
