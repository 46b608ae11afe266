// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import TestSupport
internal import Testing

@Suite("dense rows")
struct DenseTests {
    static let encodings = [CK_F32, CK_F16, CK_BF16, CK_Q6]

    /// Rows of n values in one encoding, and the floats that they stand for.
    struct Matrix {
        let encoding: ck_encoding
        let rows: Int
        let n: Int
        var bytes: [UInt8] = []
        var values: [Float] = []

        init(_ encoding: ck_encoding, rows: Int, n: Int, _ g: inout SeededGenerator) {
            self.encoding = encoding
            self.rows = rows
            self.n = n
            for _ in 0..<rows {
                let row = g.floats(n, size: 2)
                var read = row
                switch encoding {
                case CK_F32:
                    row.withUnsafeBytes { bytes += $0 }
                case CK_F16, CK_BF16:
                    // Any sixteen bits but infinities and NaN; signs, subnormals and zeros with them.
                    let halves = (0..<n).map { _ in UInt16(truncatingIfNeeded: g.next()) & 0xbbff }
                    halves.withUnsafeBytes { bytes += $0 }
                    if encoding == CK_F16 {
                        Table.scalar.entries.widen_f16(halves, n, &read)
                    } else {
                        Table.scalar.entries.widen_bf16(halves, n, &read)
                    }
                default:
                    var encoded = [UInt8](repeating: 0, count: ck_q6_row_bytes(n))
                    ck_q6_encode(row, n, &encoded)
                    // What pads the last block is not looked at.
                    let used = (n + 63) / 64 * 64 == n ? 48 : (n % 64 + 3) / 4 * 3
                    for i in used..<48 { encoded[encoded.count - 52 + i] = 0xa5 }
                    ck_q6_decode(encoded, n, &read)
                    bytes += encoded
                }
                values += read
            }
        }

        /// Products of rows begin..<end with T vectors as [T][rows + 2]; what is not theirs stays 77.
        func times(_ x: [Float], _ t: ck_table, _ rows: Range<Int>) -> [Float] {
            let vectors = x.count / n
            var out = [Float](repeating: 77, count: vectors * (self.rows + 2))
            t.dense(
                encoding, bytes, n, rows.lowerBound, rows.upperBound, x, vectors, &out,
                self.rows + 2)
            return out
        }
    }

    static let lengths = [1, 3, 15, 16, 17, 20, 63, 64, 65, 100, 128, 1000, 1024, 1025, 2100, 2560]

    @Test("every product is the sum in the order of float sums", arguments: Table.all)
    func products(_ table: Table) {
        var g = SeededGenerator(41)
        for (round, n) in Self.lengths.enumerated() {
            for encoding in Self.encodings {
                let vectors = [1, 2, 3, 8, 9, 19][round % 6]
                let m = Matrix(encoding, rows: 5, n: n, &g)
                let x = g.floats(vectors * n)
                let found = m.times(x, table.entries, 1..<4)
                for t in 0..<vectors {
                    for r in 0..<7 {
                        guard 1..<4 ~= r else {
                            #expect(found[t * 7 + r] == 77)
                            continue
                        }
                        let wanted = orderedSum(n) {
                            $0.addProduct(m.values[r * n + $1], x[t * n + $1])
                        }
                        #expect(
                            found[t * 7 + r] == wanted,
                            "\(encoding.rawValue), n \(n), \(t) of \(vectors)"
                        )
                    }
                }
            }
        }
    }

    @Test("sums are within 1e-6 of the exact ones, relative to their terms", arguments: Table.all)
    func accuracy(_ table: Table) {
        var g = SeededGenerator(42)
        for encoding in Self.encodings {
            let m = Matrix(encoding, rows: 3, n: 2560, &g)
            let x = g.floats(2560)
            let found = m.times(x, table.entries, 0..<3)
            for r in 0..<3 {
                var sum = 0.0
                var size = 0.0
                for k in 0..<2560 {
                    let term = Double(m.values[r * 2560 + k]) * Double(x[k])
                    sum += term
                    size += abs(term)
                }
                #expect(abs(Double(found[r]) - sum) <= 1e-6 * size)
            }
        }
    }

    @Test("every table's products equal scalar's, bit for bit", arguments: Table.others)
    func equalScalar(_ table: Table) {
        var g = SeededGenerator(43)
        for round in 0..<120 {
            let n = round < 70 ? round + 1 : Int.random(in: 1...4000, using: &g)
            let m = Matrix(Self.encodings[round % 4], rows: 6, n: n, &g)
            let x = g.floats((round % 5 == 0 ? 1 : Int.random(in: 1...20, using: &g)) * n)
            let middle = round % 7
            let wanted = m.times(x, Table.scalar.entries, 0..<middle)
            #expect(m.times(x, table.entries, 0..<middle).bits == wanted.bits)
        }
    }

    @Test(
        "every table's products with the longest rows of q6 that fit the decoded block, and one block more, equal scalar's",
        arguments: Table.others, [8192, 8256])
    func longest(_ table: Table, _ n: Int) {
        var g = SeededGenerator(46)
        let m = Matrix(CK_Q6, rows: 6, n: n, &g)
        for vectors in [1, 2, 7, 8, 9, 20] {
            let x = g.floats(vectors * n)
            let wanted = m.times(x, Table.scalar.entries, 1..<6)
            #expect(m.times(x, table.entries, 1..<6).bits == wanted.bits, "\(vectors) vectors")
        }
    }

    @Test("every code of q6 is read as it decodes, under scales of any kind", arguments: Table.all)
    func codes(_ table: Table) {
        var g = SeededGenerator(44)
        let scales: [UInt16] = [
            0x3c00, 0xbc00, 0x0001, 0x8001, 0x03ff, 0x7bff, 0x0000, 0x8000, 0x7c00, 0xfc00, 0x7e00,
        ]
        for (round, scale) in (scales + scales.reversed()).enumerated() {
            var block = (0..<52).map { _ in UInt8(truncatingIfNeeded: g.next()) }
            let halves = [scale, scales[round % scales.count]]
            for h in 0..<2 {
                block[48 + 2 * h] = UInt8(halves[h] & 255)
                block[49 + 2 * h] = UInt8(halves[h] >> 8)
            }
            var decoded = [Float](repeating: 0, count: 64)
            ck_q6_decode(block, 64, &decoded)
            // 64 vectors of one 1 each; what an infinite or NaN scale makes of the zeros is NaN.
            let finite = halves.allSatisfy { $0 & 0x7c00 != 0x7c00 }
            for vectors in [1, 64] {
                for first in stride(from: 0, to: 64, by: vectors) {
                    var x = [Float](repeating: 0, count: vectors * 64)
                    for t in 0..<vectors { x[t * 64 + first + t] = 1 }
                    var out = [Float](repeating: 77, count: vectors)
                    table.entries.dense(CK_Q6, block, 64, 0, 1, x, vectors, &out, 1)
                    for t in 0..<vectors {
                        #expect(finite ? out[t] == decoded[first + t] : out[t].isNaN)
                    }
                }
            }
        }
    }

    @Test(
        "the number of vectors changes no product, of ordinary, subnormal, huge and infinite elements",
        arguments: Table.all)
    func batch(_ table: Table) {
        var g = SeededGenerator(45)
        for (encoding, n) in Self.encodings.flatMap({ [($0, 1100), ($0, 1088)] }) {
            let m = Matrix(encoding, rows: 4, n: n, &g)
            let sizes: [Float] = [1, 0x1p-133, 1e29, 3e29, 3e38]
            var x = (0..<17).flatMap { g.floats(n, size: sizes[$0 % sizes.count]) }
            x[16 * n + 700] = .infinity
            let together = m.times(x, table.entries, 0..<4)
            for t in 0..<17 {
                let alone = m.times(Array(x[t * n..<(t + 1) * n]), table.entries, 0..<4)
                let wanted = together[t * 6..<(t + 1) * 6]
                // Whether a product is NaN is defined; which NaN is not.
                #expect(alone.map(\.isNaN) == wanted.map(\.isNaN))
                #expect(
                    alone.filter { !$0.isNaN }.bits == wanted.filter { !$0.isNaN }.bits,
                    "vector \(t) of \(n)")
            }
        }
    }
}
