// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
internal import Packer

/// A ternary product of the models with attention: normalise where there is a norm inside, quantise to int8, multiply by trits, scale.
///
/// Source: transformers 5.24, integrations/bitnet.py, `AutoBitLinear` and `BitLinear`, read in float32; docs/bitnet.md. In bfloat16 they
/// are two functions: `BitLinear` (reciprocal scales) quantises in bfloat16, `AutoBitLinear` in float32, and rounds what it multiplies.
struct TernaryProduct {
    private let norm: [Float]?
    private let epsilon: Float
    private let scale: Float
    private let source: ScaleSource
    private let rounded: Precision
    /// [rows][columns]
    private let trits: [Int8]

    init(
        _ weights: AttentionWeights, _ product: AttentionLayout.Product, _ precision: Precision
    ) throws(PackError) {
        rounded = precision
        norm = try weights.vector(product.norm, precision)
        epsilon = weights.shape.innerEpsilon ?? 0
        source = weights.shape.scaleSource
        (trits, scale) = try weights.matrix(product, precision)
    }

    /// x: [columns]. Returns [rows].
    func callAsFunction(_ x: [Float]) -> [Float] {
        let x = norm.map { Arithmetic.rms(x, $0, epsilon, rounded) } ?? x
        if rounded == .bfloat16 {
            return source == .reciprocal ? bitLinear(x) : autoBitLinear(x)
        }
        let row = QuantisedRow(x)
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

    // MARK: In bfloat16

    /// `BitLinear`: every step is rounded, the quantiser's too.
    private func bitLinear(_ x: [Float]) -> [Float] {
        let largest = rounded(x.reduce(1e-5) { max($0, abs($1)) })
        let s = rounded(rounded(1 / largest) * 127)
        let q = x.map { max(-128, min(127, rounded($0 * s).rounded(.toNearestOrEven))) }
        // The stored scale is the reciprocal of ours.
        let divisor = rounded(rounded(1 / scale) * s)
        return sums(q).map { rounded(rounded(Float($0)) / divisor) }
    }

    /// `AutoBitLinear`: activations are quantised and read again in float32, and rounded then.
    private func autoBitLinear(_ x: [Float]) -> [Float] {
        let row = QuantisedRow(x)
        let factor = rounded(scale)
        let sums = sums(row.values.map { rounded(Float($0) / row.scale) })
        // Masters are multiplied as ±scale; else the scale comes after the product.
        return source == .masters
            ? sums.map { rounded(Float($0 * Double(factor))) }
            : sums.map { rounded(rounded(Float($0)) * factor) }
    }

    /// Σ x · trits, by row.
    private func sums(_ x: [Float]) -> [Double] {
        let columns = x.count
        return trits.withUnsafeBufferPointer { trits in
            x.withUnsafeBufferPointer { x in
                (0..<trits.count / columns).map { n in
                    var sum = 0.0
                    var k = 0
                    while k < columns {
                        sum += Double(trits[n &* columns &+ k]) * Double(x[k])
                        k &+= 1
                    }
                    return sum
                }
            }
        }
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
