// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import Packer
internal import TestSupport

/// A table of kernels, by name, so that a failing test says which.
struct Table: Sendable, CustomStringConvertible {
    let name: String
    var description: String { name }
    var entries: ck_table { ck_named(name)!.pointee }

    static let scalar = Table(name: "scalar")
    /// Every table this CPU can run, scalar first.
    static let all: [Table] = (0..<8).compactMap { i in
        ck_runnable(i).map { Table(name: String(cString: $0.pointee.name)) }
    }
    /// All but scalar.
    static let others = Array(all.dropFirst())
}

/// T rows of activations in the layout the kernels read, made from row-major values.
struct Activations {
    let rows: [[Int8]]
    let columns: Int
    var values: [Int8]
    var sums: [Int32]

    init(_ rows: [[Int8]], columns: Int) {
        self.rows = rows
        self.columns = columns
        let padded = ck_padded_columns(columns)
        let block = Int(CK_BLOCK)
        values = [Int8](repeating: 0, count: rows.count * padded)
        sums = rows.map { $0.reduce(0) { $0 + Int32($1) } }
        for (t, row) in rows.enumerated() {
            let first = t / block * block
            let count = min(block, rows.count - first)
            for (k, value) in row.enumerated() {
                values[first * padded + (k / 4 * count + t - first) * 4 + k % 4] = value
            }
        }
    }
}

/// One quantised row as a kernel left it.
struct QuantisedRow: Equatable {
    var values: [Int8]
    var inverse: UInt32
    var sum: Int32

    /// Runs `body` with `count` rows to fill, each the `row`-th of its own block of `rows`; everything outside of the row
    /// must stay as it was.
    static func collect(
        n: Int, count: Int, rows: Int, row: Int, _ body: (UnsafePointer<ck_quantised_row>) -> Void
    ) -> [QuantisedRow] {
        let padded = ck_padded_columns(n)
        var values = [Int8](repeating: 99, count: count * rows * padded)
        var inverses = [Float](repeating: 0, count: count)
        var sums = [Int32](repeating: 0, count: count)
        values.withUnsafeMutableBufferPointer { values in
            inverses.withUnsafeMutableBufferPointer { inverses in
                sums.withUnsafeMutableBufferPointer { sums in
                    let out = (0..<count).map { j in
                        ck_quantised_row(
                            values: values.baseAddress! + j * rows * padded, rows: UInt32(rows),
                            row: UInt32(row), inverse: inverses.baseAddress! + j,
                            sum: sums.baseAddress! + j)
                    }
                    body(out)
                }
            }
        }
        return (0..<count).map { j in
            QuantisedRow(
                values: Array(values[j * rows * padded..<(j + 1) * rows * padded]),
                inverse: inverses[j].bitPattern, sum: sums[j])
        }
    }
}

extension Array where Element == Float {
    /// For comparing bit for bit; every NaN counts as the same.
    var bits: [UInt32] { map { $0.isNaN ? 0x7fc0_0000 : $0.bitPattern } }
}

/// The sum of n terms in the documented order; `add` adds term k to the lane it is given.
func orderedSum(_ n: Int, _ add: (inout Float, Int) -> Void) -> Float {
    var lanes = [Float](repeating: 0, count: 64)
    for k in 0..<n { add(&lanes[k % 64], k) }
    lanes = (0..<16).map { (lanes[$0] + lanes[16 + $0]) + (lanes[32 + $0] + lanes[48 + $0]) }
    for half in [8, 4, 2, 1] { for i in 0..<half { lanes[i] += lanes[i + half] } }
    return lanes[0]
}

extension SafetensorsFile {
    struct Missing: Error { let name: String }

    /// A float32 tensor's values.
    func floats(_ name: String) throws -> [Float] {
        guard let entry = self[name] else { throw Missing(name: name) }
        return withBytes(of: entry) { bytes in
            (0..<entry.count).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
        }
    }
}
