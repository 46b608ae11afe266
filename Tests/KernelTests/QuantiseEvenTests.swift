// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import Packer
internal import SystemPackage
internal import TestSupport
internal import Testing

@Suite("quantisation of activations, halves to even")
struct QuantiseEvenTests {
    func quantise(
        _ table: Table, _ x: [Float], outer: [Float]? = nil, weights: [[Float]]? = nil,
        rows: Int = 1, row: Int = 0
    ) -> [QuantisedRow] {
        let n = x.count
        let count = weights?.count ?? 1
        var scratch = [Float](repeating: 0, count: n)
        return (weights?.flatMap { $0 } ?? x).withUnsafeBufferPointer { all in
            (0..<count).map { all.baseAddress! + $0 * n }.withUnsafeBufferPointer { starts in
                QuantisedRow.collect(n: n, count: count, rows: rows, row: row) { out in
                    table.entries.norm_quantise_even(
                        x, n, outer, 1e-5, weights == nil ? nil : starts.baseAddress!, 1e-6, count,
                        out, &scratch)
                }
            }
        }
    }

    @Test("the authors' codes and scales are met, 315 ties and all", arguments: Table.all)
    func golden(_ table: Table) throws {
        let file = try SafetensorsFile(
            path: fixtures.appending("bitnet/act_quant_even/act_quant.safetensors"))
        let y = try file.floats("y")
        let scales = try file.floats("scale")
        let codes = file.withBytes(of: try #require(file["q"])) { $0.map { Int8(bitPattern: $0) } }
        var ties = 0
        for row in 0..<32 {
            let x = Array(y[row * 64..<(row + 1) * 64])
            let found = quantise(table, x)[0]
            #expect(Array(found.values[..<64]) == Array(codes[row * 64..<(row + 1) * 64]))
            #expect(found.inverse == scales[row].bitPattern)
            ties += x.count { abs($0 * scales[row]).truncatingRemainder(dividingBy: 1) == 0.5 }
        }
        #expect(ties == 315)
    }

    @Test("halves go to the even neighbour", arguments: Table.all)
    func rounding(_ table: Table) {
        let y: [Float] = [
            127, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 125.5, 126.5, 0.50000006, 1.4999999,
        ]
        let wanted: [Int8] = [127, 0, 0, 2, -2, 2, -2, 126, 126, 1, 1]
        #expect(Array(quantise(table, y)[0].values[..<11]) == wanted)
    }

    @Test("norms, scale and codes are as written, padding is zero", arguments: Table.all)
    func equations(_ table: Table) {
        var g = SeededGenerator(51)
        for n in Array(1...70) + [100, 128, 1000, 2560, 6912] {
            let x = g.floats(n, size: n % 3 == 0 ? 1e-6 : 5)
            let outer = n % 2 == 0 ? g.floats(n) : nil
            let weights = n % 5 == 0 ? nil : (0..<3).map { _ in g.floats(n, size: 2) }
            func norm(_ x: [Float], _ weight: [Float], _ epsilon: Float) -> [Float] {
                var out = x
                Table.scalar.entries.norm(x, n, weight, epsilon, &out)
                return out
            }
            let inside = outer.map { norm(x, $0, 1e-5) } ?? x
            let rows = weights.map { $0.map { norm(inside, $0, 1e-6) } } ?? [inside]
            let found = quantise(table, x, outer: outer, weights: weights)
            #expect(found.count == rows.count)
            for (y, found) in zip(rows, found) {
                let m = max(y.reduce(0) { max($0, abs($1)) }, 1e-5)
                let s = (1 / m) * 127
                let codes = y.map { Int8(($0 * s).rounded(.toNearestOrEven)) }
                #expect(found.inverse == s.bitPattern)
                #expect(Array(found.values[..<n]) == codes)
                #expect(found.values[n...].allSatisfy { $0 == 0 })
                #expect(found.sum == codes.reduce(0) { $0 + Int32($1) })
            }
        }
    }

    @Test("every table's codes equal scalar's at every place of a block", arguments: Table.others)
    func equalScalar(_ table: Table) {
        var g = SeededGenerator(52)
        for n in Array(1...70) + [333, 1024, 2560, 6912] {
            let x = n % 4 == 0 ? RowTests.special(n, &g) : g.floats(n, size: 3)
            let outer = n % 2 == 0 ? g.floats(n) : nil
            let weights = n % 3 == 0 ? nil : (0..<2).map { _ in g.floats(n) }
            let rows = n % 8 + 1
            func all(_ table: Table) -> [QuantisedRow] {
                quantise(table, x, outer: outer, weights: weights, rows: rows, row: n % rows)
            }
            #expect(all(table) == all(.scalar))
        }
    }

    @Test("values stay within ±127 whatever the largest is", arguments: Table.all)
    func range(_ table: Table) {
        var g = SeededGenerator(53)
        for _ in 0..<500 {
            let size = Float(
                sign: .plus, exponent: Int.random(in: -60...126, using: &g), significand: 1.7)
            let q = quantise(table, g.floats(40, size: size))[0]
            #expect(q.values.allSatisfy { abs(Int($0)) <= 127 })
        }
    }

    @Test("zero, tiny, infinite and NaN rows give zeros, not nonsense", arguments: Table.all)
    func degenerate(_ table: Table) {
        for value: Float in [0, 1e-30, .infinity, .nan] {
            let q = quantise(table, [Float](repeating: value, count: 37))[0]
            #expect(q.values.allSatisfy { $0 == 0 } && q.sum == 0)
        }
    }
}
