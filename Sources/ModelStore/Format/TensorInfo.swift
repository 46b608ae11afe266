// SPDX-License-Identifier: Apache-2.0

/// The element types a packed file uses; raw values are GGUF's.
package enum TensorType: UInt32, Sendable {
    case f32 = 0
    case f16 = 1
    case i8 = 24
    case i32 = 26
    case bf16 = 30

    /// Bytes of one element.
    package var size: Int {
        switch self {
        case .f32, .i32: 4
        case .f16, .bf16: 2
        case .i8: 1
        }
    }

    /// What other programs' files hold, so that a refusal can say so. Source: ggml.h, `enum ggml_type`.
    static let othersNames: [UInt32: String] = [
        2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
        12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
        19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 25: "I16", 27: "I64",
        28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
    ]
}

/// One tensor of a packed file.
package struct TensorInfo: Sendable, Equatable {
    package let name: String
    package let type: TensorType
    /// Outermost dimension first: [rows, columns] for a matrix. (GGUF stores them the other way round.)
    package let shape: [Int]
    /// From the beginning of the file.
    package let offset: Int
    package let byteCount: Int
}

/// A ternary matrix stored as an I8 tensor of packed tiles.
package struct PackedMatrix: Sendable, Equatable {
    package let info: TensorInfo
    package let rows: Int
    package let columns: Int
    /// The one scale of the whole matrix: weight = scale · trit.
    package let scale: Float
    /// The element type the matrix had in the checkpoint: "F32", "F16" or "BF16".
    package let sourceType: String
}
