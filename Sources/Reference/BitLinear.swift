// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
internal import Packer

/// The only matrix operation of the model: normalise, quantise to int8, multiply by trits, scale.
///
/// Source: matmulfreellm, mmfreelm/ops/fusedbitnet.py `FusedBitLinear`, whose norm uses 1e-6 whatever
/// the configuration says.
///
/// Trits and scale come from the packer's own `Ternariser`: this is no second opinion on them. The golden files are.
struct BitLinear {
    let norm: [Float]
    let scale: Float
    /// [rows][columns]
    let trits: [Int8]

    init(_ checkpoint: Checkpoint, _ product: TensorLayout.Product) throws(PackError) {
        norm = try checkpoint.tensor(product.norm).floats()
        let weight = try checkpoint.tensor(product.weight)
        let ternariser = Ternariser()
        let rule = try ternariser.rule(for: weight)
        trits = ternariser.trits(of: weight, rule)
        scale = rule.scale
        weight.release()
    }

    /// x: [columns]. Returns [rows].
    func callAsFunction(_ x: [Float]) -> [Float] {
        let y = Arithmetic.rms(x, norm, 1e-6)
        var largest: Float = 1e-5
        for value in y { largest = max(largest, abs(value)) }
        let a = 127 / largest
        var q = [Int8](repeating: 0, count: y.count)
        for k in 0..<y.count {
            // Half away from zero, as the CUDA kernel rounds.
            q[k] = Int8(max(-128, min(127, (y[k] * a).rounded(.toNearestOrAwayFromZero))))
        }
        let columns = x.count
        var out = [Float](repeating: 0, count: columns == 0 ? 0 : trits.count / columns)
        trits.withUnsafeBufferPointer { trits in
            q.withUnsafeBufferPointer { q in
                for row in 0..<out.count {
                    var sum: Int32 = 0
                    var k = 0
                    let start = row * columns
                    while k < columns {
                        sum &+= Int32(trits[start &+ k]) &* Int32(q[k])
                        k &+= 1
                    }
                    out[row] = Float(sum) * (scale / a)
                }
            }
        }
        return out
    }
}
