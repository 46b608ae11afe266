// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import TestSupport
internal import Testing

@Suite("quantisation of activations")
struct QuantiseTests {
    /// Quantises y itself: with x = 1024 everywhere the norm divides by exactly 1024, so the weights come out as they are.
    func quantise(_ table: Table, _ y: [Float], rows: Int = 1, row: Int = 0) -> QuantisedRow {
        let x = [Float](repeating: 1024, count: y.count)
        var scratch = x
        return y.withUnsafeBufferPointer { y in
            QuantisedRow.collect(n: y.count, count: 1, rows: rows, row: row) { out in
                table.entries.norm_quantise(
                    x, y.count, nil, 0, [y.baseAddress!], 1, out, &scratch)
            }[0]
        }
    }

    @Test("the published kernel's rounding is met, ties and all", arguments: Table.all)
    func golden(_ table: Table) {
        let n = ActivationGolden.columns
        for (row, scale) in ActivationGolden.scales.enumerated() {
            let y = ActivationGolden.y[row * n..<(row + 1) * n].map { Float(bitPattern: $0) }
            let found = quantise(table, y)
            let wanted = Array(ActivationGolden.q[row * n..<(row + 1) * n])
            #expect(Array(found.values[..<n]) == wanted)
            #expect(found.inverse == scale)
            #expect(found.sum == wanted.reduce(0) { $0 + Int32($1) })
        }
    }

    @Test(
        "halves round away from zero, and what lies just below a half does not",
        arguments: Table.all)
    func rounding(_ table: Table) {
        let y: [Float] = [127, 0.5, -0.5, 1.5, -1.5, 0.49999997, -0.49999997, 125.5, 1.4999999]
        #expect(Array(quantise(table, y).values[..<9]) == [127, 1, -1, 2, -2, 0, 0, 126, 1])
    }

    @Test("values stay within ±127 whatever the largest is", arguments: Table.all)
    func range(_ table: Table) {
        var g = SeededGenerator(8)
        for _ in 0..<300 {
            let size = Float(
                sign: .plus, exponent: Int.random(in: -60...60, using: &g), significand: 1.7)
            let q = quantise(table, g.floats(40, size: size))
            #expect(q.values.allSatisfy { abs(Int($0)) <= 127 })
        }
    }

    @Test("zero, tiny, infinite and NaN rows give zeros, not nonsense", arguments: Table.all)
    func degenerate(_ table: Table) {
        for value: Float in [0, 1e-30, .infinity, .nan] {
            let q = quantise(table, [Float](repeating: value, count: 37))
            #expect(q.values.allSatisfy { $0 == 0 } && q.sum == 0)
        }
    }

    @Test("a row goes to its own place in the block, padding included", arguments: Table.all)
    func place(_ table: Table) {
        var g = SeededGenerator(9)
        for n in [1, 4, 19, 20, 21, 35, 64, 77, 100] {
            let y = g.floats(n)
            let padded = ck_padded_columns(n)
            let alone = quantise(table, y)
            #expect(alone.values[n...].allSatisfy { $0 == 0 })
            for rows in 2...8 {
                let row = rows / 2
                let q = quantise(table, y, rows: rows, row: row)
                #expect(q.sum == alone.sum)
                for k in 0..<padded {
                    for other in 0..<rows {
                        let found = q.values[(k / 4 * rows + other) * 4 + k % 4]
                        #expect(found == (other == row ? alone.values[k] : 99))
                    }
                }
            }
        }
    }

    @Test("rows that lie one after the other make a block", arguments: 1...Int(CK_BLOCK))
    func block(_ count: Int) {
        var g = SeededGenerator(10)
        for columns in [1, 4, 16, 19, 20, 21, 64, 100, 333] {
            let padded = ck_padded_columns(columns)
            let rows = (0..<count).map { _ in
                (0..<columns).map { _ in Int8.random(in: -127...127, using: &g) }
            }
            let apart = rows.flatMap { $0 + [Int8](repeating: 0, count: padded - columns) }
            // One byte more than the block takes, to see that it stays.
            var block = [Int8](repeating: 99, count: count * padded + 1)
            ck_make_block(apart, columns, count, &block)
            #expect(block == Activations(rows, columns: columns).values + [99])
        }
    }
}
