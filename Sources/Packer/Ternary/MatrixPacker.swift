// SPDX-License-Identifier: Apache-2.0

internal import CKernels

/// Packs one float matrix into the kernels' layout, all cores at once, without ever holding all its trits.
struct MatrixPacker {
    struct Result {
        var bytes: [UInt8]
        var nonzero: Int
    }

    let ternariser: Ternariser

    /// tensor: [rows, columns]. Result: ck_packed_bytes(rows, columns) bytes.
    func pack(_ tensor: CheckpointTensor, _ rule: TernaryRule) -> Result {
        let columns = tensor.columns
        return pack(tensor.rows, columns) { rows, out in
            ternariser.trits(
                of: tensor, rule, rows.lowerBound * columns..<rows.upperBound * columns, to: out)
        }
    }

    func pack(_ matrix: TernaryMatrix) -> Result {
        pack(matrix.rows, matrix.columns) { matrix.copy($0, ternariser, to: $1) }
    }

    /// - Parameter trits: writes the trits of some rows and tells how many are not zero; called by several threads.
    private func pack(
        _ rows: Int, _ columns: Int, _ trits: (Range<Int>, UnsafeMutablePointer<Int8>) -> Int
    ) -> Result {
        let tileRows = Int(CK_TILE_ROWS)
        // Pieces of whole tiles, of a quarter of a million trits or one tile.
        let pieceRows = max(1, (1 << 18) / max(1, columns * tileRows)) * tileRows
        let pieces = (rows + pieceRows - 1) / pieceRows
        var bytes = [UInt8](repeating: 0, count: ck_packed_bytes(rows, columns))
        var nonzero = [Int](repeating: 0, count: pieces)
        bytes.withUnsafeMutableBufferPointer { bytes in
            nonzero.withUnsafeMutableBufferPointer { nonzero in
                nonisolated(unsafe) let (bytes, nonzero, fill) = (bytes, nonzero, trits)
                ternariser.parallel.perform(pieces) { piece in
                    guard let out = bytes.baseAddress else { return }
                    let start = piece * pieceRows
                    let count = min(pieceRows, rows - start)
                    withUnsafeTemporaryAllocation(of: Int8.self, capacity: count * columns) {
                        guard let trits = $0.baseAddress else { return }
                        nonzero[piece] = fill(start..<start + count, trits)
                        ck_pack(trits, count, columns, out + ck_packed_bytes(start, columns))
                    }
                }
            }
        }
        return Result(bytes: bytes, nonzero: nonzero.reduce(0, +))
    }
}
