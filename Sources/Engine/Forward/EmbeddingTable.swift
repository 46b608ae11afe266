// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

/// The embedding matrix in the mapping, [rows, columns]: rows are looked up, never multiplied.
struct EmbeddingTable: @unchecked Sendable {
    private let columns: Int
    private let base: UnsafeRawPointer
    private let encoding: EmbeddingEncoding
    private let rowBytes: Int

    init(_ file: PackedFile, _ role: TensorRole) throws(StoreError) {
        columns = role.shape[1]
        encoding = try EmbeddingEncoding(file.metadata)
        rowBytes = encoding.rowBytes(columns)
        base = file.pointer(to: try file.tensor(role, encoding))
    }

    /// Widens row `token` into out: [columns].
    func read(_ token: Int, into out: UnsafeMutablePointer<Float>, with kernels: Kernels.Table) {
        let row = base + token * rowBytes
        switch encoding {
        case .f32: out.update(from: row.assumingMemoryBound(to: Float.self), count: columns)
        case .f16: kernels.pointee.widen_f16(row.assumingMemoryBound(to: UInt16.self), columns, out)
        case .bf16:
            kernels.pointee.widen_bf16(row.assumingMemoryBound(to: UInt16.self), columns, out)
        case .q6: ck_q6_decode(row.assumingMemoryBound(to: UInt8.self), columns, out)
        }
    }
}
