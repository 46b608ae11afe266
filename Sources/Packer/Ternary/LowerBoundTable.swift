// SPDX-License-Identifier: Apache-2.0

/// The forget gates' lower bounds, folded once: softmax over the layers for each channel, summed up
/// to the layer, less the first layer's share.
///
/// Source: matmulfreellm, mmfreelm/models/hgrn_bit/modeling_hgrn_bit.py `HGRNBitModel.forward`.
enum LowerBoundTable {
    /// values: [layers][width]. Returns [layers][width]; row 0 is all zero.
    static func folded(_ values: [Float], layers: Int, width: Int) -> [Float] {
        var table = [Float](repeating: 0, count: layers * width)
        for channel in 0..<width {
            let column = (0..<layers).map { Double(values[$0 * width + channel]) }
            let largest = column.max() ?? 0
            let powers = column.map { exponential($0 - largest) }
            let total = powers.reduce(0, +)
            var sum = 0.0
            for layer in 1..<max(1, layers) {
                sum += powers[layer] / total
                table[layer * width + channel] = Float(sum)
            }
        }
        return table
    }

    /// e to the power x, for x <= 0, to about 2e-16.
    ///
    /// Not the C library's: its last bit depends on the processor, and the same checkpoint must
    /// pack to the same bytes everywhere.
    static func exponential(_ x: Double) -> Double {
        if x < -700 { return 0 }
        let k = (x * 1.4426950408889634).rounded()
        // ln 2 in two parts, the first with room for a product that is exact.
        let r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10
        var term = 1.0
        var sum = 1.0
        for n in 1...17 {
            term *= r / Double(n)
            sum += term
        }
        return sum * Double(sign: .plus, exponent: Int(k), significand: 1)
    }
}
