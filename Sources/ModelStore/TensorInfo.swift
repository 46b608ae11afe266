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
