// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The few functions the model is made of, written as their definitions. Sums in Double.
enum Arithmetic {
    /// x · w / sqrt(mean(x²) + epsilon).   x, w: [n].
    static func rms(
        _ x: [Float], _ weight: [Float], _ epsilon: Float, _ rounded: Precision = .float32
    ) -> [Float] {
        var squares = 0.0
        for value in x { squares += Double(value) * Double(value) }
        let factor = Float(1 / (squares / Double(x.count) + Double(epsilon)).squareRoot())
        var out = x
        for k in 0..<x.count { out[k] = rounded(rounded(x[k] * factor) * weight[k]) }
        return out
    }

    static func sigmoid(_ x: Float) -> Float { Float(1 / (1 + exp(-Double(x)))) }

    static func silu(_ x: Float) -> Float { x * sigmoid(x) }

    /// Rows of the table [L][D] that bound the forget gates from below: softmax over the layers for
    /// each channel, summed up to the layer, less the first layer's share. Row 0 is zero.
    static func lowerBounds(_ values: [Float], layers: Int, width: Int) -> [[Float]] {
        var table = [[Float]](repeating: [Float](repeating: 0, count: width), count: layers)
        for channel in 0..<width {
            let column = (0..<layers).map { Double(values[$0 * width + channel]) }
            let largest = column.max() ?? 0
            let powers = column.map { exp($0 - largest) }
            let total = powers.reduce(0, +)
            var sum = 0.0
            for layer in 0..<layers {
                sum += powers[layer] / total
                table[layer][channel] = Float(sum - powers[0] / total)
            }
        }
        return table
    }
}
