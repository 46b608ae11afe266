// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

/// The embedding matrix in the mapping, [rows, columns]: rows are looked up, never multiplied.
struct EmbeddingTable: @unchecked Sendable {
    let rows: Int
    let columns: Int
    private let base: UnsafeRawPointer
    private let encoding: EmbeddingEncoding
    private let rowBytes: Int

    init(_ file: PackedFile, rows: Int, columns: Int) throws(ModelError) {
        let name = "token_embd.weight"
        guard let info = file[name] else { throw .missingTensor(name) }
        let key = FormatKeys.embeddingEncoding
        let text = try file.metadata.value(key) { m throws(StoreError) in try m.string(forKey: key)
        }
        guard let encoding = EmbeddingEncoding(rawValue: text) else {
            throw .badMetadata(
                "\(key) is '\(text.quoted)'; this version reads f32, f16, bf16 and q6")
        }
        let (type, rowBytes): (TensorType, Int) =
            switch encoding {
            case .f32: (.f32, columns * 4)
            case .f16: (.f16, columns * 2)
            case .bf16: (.bf16, columns * 2)
            case .q6: (.i8, ck_q6_row_bytes(columns))
            }
        guard info.type == type, info.byteCount == rows * rowBytes else {
            throw .wrongShape(
                name,
                expected: "\(encoding.rawValue) [\(rows), \(columns)], \(rows * rowBytes) bytes",
                found: "\(info.type) \(info.shape), \(info.byteCount) bytes")
        }
        self.rows = rows
        self.columns = columns
        self.encoding = encoding
        self.rowBytes = rowBytes
        base = file.pointer(to: info)
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
