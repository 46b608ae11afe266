// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The rotation of queries and keys by their position: element k of a head is paired with k + d/2. Angles are float32 products,
/// as transformers computes them.
package struct Rotation {
    /// [d/2]
    package let frequencies: [Float]

    package init(theta: Float, headSize: Int) {
        frequencies = (0..<headSize / 2).map { i in
            let exponent = Float(2 * i) / Float(headSize)
            return 1 / Float(pow(Double(theta), Double(exponent)))
        }
    }

    /// Cosines and sines at a position, [d/2] each.
    package func table(_ position: Int) -> (cosines: [Float], sines: [Float]) {
        let angles = frequencies.map { Double(Float(position) * $0) }
        return (angles.map { Float(cos($0)) }, angles.map { Float(sin($0)) })
    }

    /// x: [heads · d], in place.
    func rotate(_ x: inout [Float], position: Int, _ rounded: Precision) {
        let table = table(position)
        let (c, s) = (rounded(table.cosines), rounded(table.sines))
        let half = frequencies.count
        for head in stride(from: 0, to: x.count, by: 2 * half) {
            for i in 0..<half {
                let (a, b) = (x[head + i], x[head + half + i])
                x[head + i] = rounded(rounded(a * c[i]) - rounded(b * s[i]))
                x[head + half + i] = rounded(rounded(b * c[i]) + rounded(a * s[i]))
            }
        }
    }
}
