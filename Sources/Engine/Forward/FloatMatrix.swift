// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

/// A matrix of floats in the mapping, [rows, columns]: an embedding, whose rows are looked up, or a head that is not ternary.
struct FloatMatrix: @unchecked Sendable {
    let rows: Int
    let columns: Int
    let base: UnsafeRawPointer
    private let encoding: EmbeddingEncoding
    private let rowBytes: Int

    init(_ file: PackedFile, _ role: TensorRole) throws(StoreError) {
        let encoding = try EmbeddingEncoding(file.metadata)
        self.init(role, encoding, at: file.pointer(to: try file.tensor(role, encoding)))
    }

    /// A head of its own, in any element type that it may have.
    init(dense file: PackedFile, _ role: TensorRole) throws(StoreError) {
        let info = try file.dense(role)
        let encoding: EmbeddingEncoding =
            switch info.type {
            case .f16: .f16
            case .bf16: .bf16
            default: .f32
            }
        self.init(role, encoding, at: file.pointer(to: info))
    }

    private init(_ role: TensorRole, _ encoding: EmbeddingEncoding, at base: UnsafeRawPointer) {
        rows = role.shape[0]
        columns = role.shape[1]
        self.encoding = encoding
        self.base = base
        rowBytes = encoding.rowBytes(columns)
    }

    var bytes: Int { rows * rowBytes }

    /// Widens row `row` into out: [columns].
    func read(_ row: Int, into out: UnsafeMutablePointer<Float>, with kernels: Kernels.Table) {
        let row = base + row * rowBytes
        switch encoding {
        case .f32: out.update(from: row.assumingMemoryBound(to: Float.self), count: columns)
        case .f16: kernels.pointee.widen_f16(row.assumingMemoryBound(to: UInt16.self), columns, out)
        case .bf16:
            kernels.pointee.widen_bf16(row.assumingMemoryBound(to: UInt16.self), columns, out)
        case .q6: ck_q6_decode(row.assumingMemoryBound(to: UInt8.self), columns, out)
        }
    }

    /// Rows `share` times `count` vectors x, [count][columns], into out: [count][rows].
    func multiply(
        _ share: Range<Int>, _ x: UnsafePointer<Float>, _ count: Int,
        into out: UnsafeMutablePointer<Float>, with kernels: Kernels.Table
    ) {
        kernels.pointee.dense(
            kernelEncoding, base, columns, share.lowerBound, share.upperBound, x, count, out, rows)
    }

    private var kernelEncoding: ck_encoding {
        switch encoding {
        case .f32: CK_F32
        case .f16: CK_F16
        case .bf16: CK_BF16
        case .q6: CK_Q6
        }
    }
}
