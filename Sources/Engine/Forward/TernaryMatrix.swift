// SPDX-License-Identifier: Apache-2.0

import CKernels

/// A packed ternary matrix in the mapping: y = scale · trits · q.
struct TernaryMatrix {
    /// First byte of the packed tiles (CKernels.h says how they are laid out).
    let packed: UnsafePointer<UInt8>
    let rows: Int
    let columns: Int
    /// The one scale of the whole matrix.
    let scale: Float

    var tiles: Int { ck_tiles(rows) }
    var bytes: Int { ck_packed_bytes(rows, columns) }
}
