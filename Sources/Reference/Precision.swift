// SPDX-License-Identifier: Apache-2.0

/// What the result of every operation is rounded to. float32 is the definition of the models (docs/bitnet.md); bfloat16 is how the
/// authors' code is mostly run: eager PyTorch, which sums in float32 and rounds what each operation gives.
package enum Precision: Sendable {
    case float32, bfloat16

    /// The value as this precision has it: to the nearest, ties to even.
    func callAsFunction(_ x: Float) -> Float {
        switch self {
        case .float32: return x
        case .bfloat16:
            guard x.isFinite else { return x }
            let bits = x.bitPattern
            return Float(bitPattern: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) & 0xFFFF_0000)
        }
    }

    func callAsFunction(_ values: [Float]) -> [Float] {
        self == .float32 ? values : values.map { self($0) }
    }
}
