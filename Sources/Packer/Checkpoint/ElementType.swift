// SPDX-License-Identifier: Apache-2.0

/// The element types of safetensors that this project meets. Weights are F32, F16 or BF16, or
/// U8 where they are packed; the other whole numbers stand in files of expected values only.
package enum ElementType: String, Sendable, CaseIterable {
    case f32 = "F32"
    case f16 = "F16"
    case bf16 = "BF16"
    case i8 = "I8"
    case u8 = "U8"
    case i64 = "I64"

    /// Bytes of one element.
    package var size: Int {
        switch self {
        case .f32: 4
        case .f16, .bf16: 2
        case .i8, .u8: 1
        case .i64: 8
        }
    }

    package var isFloat: Bool { [.f32, .f16, .bf16].contains(self) }

    /// The bits of infinity without sign: every larger magnitude is a NaN.
    package var infinity: UInt32 {
        switch self {
        case .f32: 0x7f80_0000
        case .f16: 0x7c00
        case .bf16: 0x7f80
        case .i8, .u8, .i64: 0
        }
    }

    /// The exact value of a stored bit pattern.
    package func value(ofBits bits: UInt32) -> Float {
        switch self {
        case .f32: Float(bitPattern: bits)
        case .f16: Float(Float16(bitPattern: UInt16(truncatingIfNeeded: bits)))
        case .bf16: Float(bitPattern: bits << 16)
        case .i8, .u8, .i64: preconditionFailure("weights are never whole numbers")
        }
    }

    /// The bits that `value` is stored as, rounded to nearest, ties to even. `value` is no NaN.
    package func bits(of value: Float) -> UInt32 {
        switch self {
        case .f32: return value.bitPattern
        case .f16: return UInt32(Float16(value).bitPattern)
        case .bf16:
            let bits = value.bitPattern
            // Cannot overflow: the largest pattern that is no NaN is 0xff800000.
            return (bits &+ 0x7fff &+ (bits >> 16 & 1)) >> 16
        case .i8, .u8, .i64: preconditionFailure("weights are never whole numbers")
        }
    }

    /// R of the specification: `value` rounded to this type, ties to even.
    package func rounded(_ value: Float) -> Float {
        self == .f32 ? value : self.value(ofBits: bits(of: value))
    }
}
