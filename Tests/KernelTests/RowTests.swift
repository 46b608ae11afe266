// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import TestSupport
internal import Testing

@Suite("row operations")
struct RowTests {
    /// Lengths worth trying: every short one, the ends of vectors, some long ones.
    static func lengths(_ g: inout SeededGenerator) -> [Int] {
        Array(1...70) + [127, 128, 129, 1000, 1024, 2816, 6912, 7000]
            + (0..<6).map { _ in Int.random(in: 71...7000, using: &g) }
    }

    /// Values that are not well-behaved, amid some that are.
    static func special(_ n: Int, _ g: inout SeededGenerator) -> [Float] {
        let odd: [Float] = [
            0, -0.0, .infinity, -.infinity, .nan, .leastNonzeroMagnitude, -0x1p-140,
            .greatestFiniteMagnitude, 88.72283,
            88.72284, -87.33654, -87.33655, 87, -87, 200, -200, 0.5, -0.5,
        ]
        return (0..<n).map { _ in
            g.next() % 3 == 0 ? odd[Int(g.next() % UInt64(odd.count))] : g.floats(1, size: 100)[0]
        }
    }

    @Test(
        "every table's row operations equal scalar's, bit for bit, at every length",
        arguments: Table.others)
    func equalScalar(_ table: Table) {
        var g = SeededGenerator(4)
        for n in Self.lengths(&g) {
            let bounded = n % 2 == 0
            let rows = Int.random(in: 1...8, using: &g)
            let row = Int.random(in: 0..<rows, using: &g)
            let x = n % 5 == 0 ? Self.special(n, &g) : g.floats(n, size: n % 3 == 0 ? 1e-6 : 9)
            let weights = (0..<3).map { _ in g.floats(n, size: 2) }
            let y = g.integers(2 * n, limit: 300_000)
            let gate = g.integers(n, limit: 100_000)
            func all(_ table: Table) -> [[UInt32]] {
                results(
                    of: table.entries, n: n, x: x, weights: weights, y: y, gate: gate,
                    bounded: bounded,
                    rows: rows, row: row)
            }
            let wanted = all(.scalar)
            let found = all(table)
            for (i, pair) in zip(wanted, found).enumerated() {
                #expect(pair.0 == pair.1, "operation \(i), n \(n), row \(row) of \(rows)")
            }
        }
    }

    /// What every row operation of a table makes of the same input, as bits.
    func results(
        of t: ck_table, n: Int, x: [Float], weights: [[Float]], y: [Int32], gate: [Int32],
        bounded: Bool,
        rows: Int, row: Int
    ) -> [[UInt32]] {
        var all: [[UInt32]] = []
        var scratch = [Float](repeating: 0, count: n)
        func quantised(_ count: Int, _ body: (UnsafePointer<ck_quantised_row>) -> Void) {
            for q in QuantisedRow.collect(n: n, count: count, rows: rows, row: row, body) {
                all.append(q.values.map { UInt32(bitPattern: Int32($0)) })
                all.append([q.inverse, UInt32(bitPattern: q.sum)])
            }
        }
        // A NaN's payload is not defined.
        func doubleBits(_ value: Double) -> [UInt32] {
            let bits = value.isNaN ? 0 : value.bitPattern
            return [UInt32(truncatingIfNeeded: bits), UInt32(bits >> 32)]
        }
        func floats(_ body: (UnsafeMutablePointer<Float>) -> Void) {
            var out = x
            body(&out)
            all.append(out.bits)
        }
        weights[0].withUnsafeBufferPointer { a in
            weights[1].withUnsafeBufferPointer { b in
                weights[2].withUnsafeBufferPointer { c in
                    let three = [a.baseAddress!, b.baseAddress!, c.baseAddress!]
                    quantised(3) { t.norm_quantise(x, n, weights[1], 1e-5, three, 3, $0, &scratch) }
                    quantised(1) { t.norm_quantise(x, n, nil, 0, three, 1, $0, &scratch) }
                }
            }
        }
        quantised(1) {
            t.gated_norm_quantise(
                y, 1e-3, n, weights[0], 1e-6, weights[1], weights[2], $0, &scratch)
        }
        floats { t.swiglu(y, 2e-4, gate, 3e-4, n, $0) }
        floats { t.relu2(y, 2e-4, gate, 3e-4, n, $0) }
        floats { state in
            var out = [Float](repeating: 0, count: n)
            t.recurrence(y, 1e-3, gate, 2e-3, bounded ? weights[0] : nil, state, state, &out, n)
            all.append(out.bits)
        }
        floats { other in
            var out = [Float](repeating: 0, count: n)
            t.recurrence(y, 1e-3, gate, 2e-3, bounded ? weights[0] : nil, x, other, &out, n)
            all.append(out.bits)
        }
        floats { t.add_scaled($0, y, 1e-4, n) }
        floats { t.scale($0, y, 1e-4, n) }
        floats { t.norm(x, n, weights[0], 1e-6, $0) }
        floats { t.exp_shifted(x, n, 0.25, $0) }
        floats { t.temper(x, n, 0.25, 0.7, $0) }
        floats {
            t.exp_shifted(x, n, 0.25, $0)
            t.drop_below($0, x, n, 0.1)
        }
        floats { t.widen_f16(y.map { UInt16(truncatingIfNeeded: $0) }, n, $0) }
        floats { t.widen_bf16(y.map { UInt16(truncatingIfNeeded: $0) }, n, $0) }
        all.append([t.sum_exp(x, n, 3)].bits)
        var above = [Float](repeating: 0, count: Int(CK_LIMITS))
        floats {
            let limits: [Float] = [6, 3, 1, 0, -1, -3, -6, -.infinity]
            let total = t.temper_above(x, n, 0.25, 0.7, $0, limits, &above)
            all.append(doubleBits(total))
        }
        all.append(above.bits)
        all.append(doubleBits(t.mass_above(x, weights[0], n, 0.1)))
        all.append([UInt32(t.argmax(x, n))])
        // Few, about half, and all of them.
        for low: Float in [4, 0, -.infinity] {
            var (picked, values) = (
                [UInt32](repeating: 0, count: n), [Float](repeating: 0, count: n)
            )
            let found = t.select(x, n, low, .infinity, 0.5, &picked, &values, n)
            all.append(picked.prefix(found) + values.prefix(found).map(\.bitPattern))
            let counted = t.select(x, n, low, 6, 0.5, &picked, &values, min(n, 20))
            all.append(picked.prefix(min(counted, n, 20)) + [UInt32(counted)])
        }
        all.append([
            UInt32(
                truncatingIfNeeded: x.withUnsafeBytes { bytes in
                    t.read_all(bytes.bindMemory(to: UInt8.self).baseAddress!, n * 4 / 64 * 64)
                })
        ])
        return all
    }

    @Test("sums are taken in the documented order", arguments: Table.all)
    func order(_ table: Table) {
        var g = SeededGenerator(5)
        for n in [1, 16, 17, 64, 65, 200, 1000] {
            let x = g.floats(n, size: 3)
            let w = g.floats(n)
            var out = [Float](repeating: 0, count: n)
            table.entries.norm(x, n, w, 1e-6, &out)
            let squares = orderedSum(n) { $0.addProduct(x[$1], x[$1]) }
            let r = 1 / (squares / Float(n) + 1e-6).squareRoot()
            #expect(out.bits == (0..<n).map { x[$0] * r * w[$0] }.bits)
        }
    }

    @Test(
        "the recurrence, its gates and its output follow the model's equations",
        arguments: Table.all)
    func recurrence(_ table: Table) {
        var g = SeededGenerator(6)
        let n = 333
        let i = g.integers(n, limit: 9000)
        let f = g.integers(n, limit: 9000)
        let bound = g.floats(n).map { abs($0) * 0.9 }
        let old = g.floats(n, size: 2)
        var state = old
        var out = old
        table.entries.recurrence(i, 1e-3, f, 1e-3, bound, old, &state, &out, n)
        func sigmoid(_ x: Double) -> Double { 1 / (1 + exactExp(-x)) }
        for k in 0..<n {
            let gate = sigmoid(Double(f[k]) * 1e-3)
            let lower = Double(bound[k])
            let x = Double(i[k]) * 1e-3
            let kept = lower + (1 - lower) * gate
            let wanted = kept * Double(old[k]) + x * sigmoid(x) * (1 - kept)
            #expect(abs(Double(state[k]) - wanted) <= 2e-6 * (1 + abs(wanted)))
            #expect(abs(Double(out[k]) - wanted * sigmoid(wanted)) <= 4e-6 * (1 + abs(wanted)))
        }
    }

    @Test("relu2 squares what is positive of the gate, in three roundings", arguments: Table.all)
    func relu2(_ table: Table) {
        var g = SeededGenerator(11)
        for n in [1, 15, 16, 17, 333] {
            let gate = g.integers(n, limit: 9000)
            let up = g.integers(n, limit: 9000)
            var out = [Float](repeating: 0, count: n)
            table.entries.relu2(gate, 1e-3, up, 3e-3, n, &out)
            let wanted = (0..<n).map { k in
                let positive = max(Float(gate[k]) * 1e-3, 0)
                return positive * positive * (Float(up[k]) * 3e-3)
            }
            #expect(out == wanted)
            table.entries.relu2(gate, .nan, up, 1, n, &out)
            #expect(out.allSatisfy { $0.isNaN })
        }
    }

    @Test("swiglu scales gate and up apart", arguments: Table.all)
    func swiglu(_ table: Table) {
        var g = SeededGenerator(12)
        let gate = g.integers(333, limit: 9000)
        let up = g.integers(333, limit: 9000)
        var out = [Float](repeating: 0, count: 333)
        table.entries.swiglu(gate, 1e-3, up, 3e-3, 333, &out)
        for k in 0..<333 {
            let x = Double(gate[k]) * 1e-3
            let wanted = x / (1 + exactExp(-x)) * Double(up[k]) * 3e-3
            #expect(abs(Double(out[k]) - wanted) <= 1e-6 * (1e-3 + abs(wanted)))
        }
    }

    @Test("gates stay right where exp overflows", arguments: Table.all)
    func saturation(_ table: Table) {
        let y: [Int32] = [-2_000_000, -200, -90, 0, 90, 200, 2_000_000]
        let n = y.count
        var state = [Float](repeating: 1, count: n)
        var out = state
        // f = sigmoid(y): 0 below, 1 above; v = silu(0) (1 - f) = 0.
        table.entries.recurrence(
            [Int32](repeating: 0, count: n), 1, y, 1, nil, state, &state, &out, n)
        #expect(state[0] < 1e-37 && state[2] < 1e-37 && state[3] == 0.5)
        #expect(state[4...].allSatisfy { $0 == 1 })
        // v = silu(y) (1 - 1/2).
        state = [Float](repeating: 0, count: n)
        table.entries.recurrence(
            y, 1, [Int32](repeating: 0, count: n), 1, nil, state, &state, &out, n)
        #expect(state[0...2].allSatisfy { $0 <= 0 && $0 > -1e-35 })
        #expect(state[3] == 0 && state[4] == 45 && state[6] == 1_000_000)
    }

    @Test("argmax takes the lowest index of equals, and passes over NaN", arguments: Table.all)
    func argmax(_ table: Table) {
        let t = table.entries
        var x = [Float](repeating: 1, count: 300)
        #expect(t.argmax(x, 300) == 0)
        x[290] = 2
        #expect(t.argmax(x, 300) == 290)
        x[33] = 2
        #expect(t.argmax(x, 300) == 33)
        x[0] = .nan
        #expect(t.argmax(x, 300) == 33)
        #expect(t.argmax([Float](repeating: .nan, count: 40), 40) == 0)
        #expect(t.argmax([Float](repeating: -.infinity, count: 40), 40) == 0)
        #expect(t.argmax([-3], 1) == 0)
    }

    @Test("select counts all and writes what fits", arguments: Table.all)
    func select(_ table: Table) {
        var x = [Float](repeating: 0, count: 100)
        for k in [3, 17, 18, 99] { x[k] = 5 }
        x[50] = .nan
        var indices = [UInt32](repeating: 77, count: 4)
        var values = [Float](repeating: 77, count: 4)
        #expect(table.entries.select(x, 100, 5, 5, 7, &indices, &values, 4) == 4)
        #expect(indices == [3, 17, 18, 99])
        #expect(values == [-2, -2, -2, -2])
        (indices, values) = ([77, 77, 77, 77], [77, 77, 77, 77])
        #expect(table.entries.select(x, 100, 5, 5, 7, &indices, &values, 2) == 4)
        #expect(indices == [3, 17, 77, 77])
        #expect(values == [-2, -2, 77, 77])
    }

    @Test("select takes what a filter takes", arguments: Table.all)
    func selectMany(_ table: Table) {
        var g = SeededGenerator(8)
        for n in [1, 15, 16, 17, 64, 1000, 5003] {
            var x = (0..<n).map { _ in Float.random(in: -1...1, using: &g) }
            // Whole vectors of hits, and whole vectors without.
            if n > 200 { for k in 32..<64 { x[k] = k < 48 ? 2 : -2 } }
            for (low, high): (Float, Float) in [
                (-3, 3), (-0.5, .infinity), (-.infinity, 0.1), (0.5, 0.6), (0.9, 1), (3, 4), (1, 0),
            ] {
                let wanted = x.indices.filter { low <= x[$0] && x[$0] <= high }
                for capacity in [n, wanted.count, wanted.count / 2] {
                    var indices = [UInt32](repeating: 77, count: capacity + 16)
                    var values = [Float](repeating: 77, count: capacity + 16)
                    let found = table.entries.select(
                        x, n, low, high, 0.25, &indices, &values, capacity)
                    #expect(found == wanted.count)
                    let fit = min(found, capacity)
                    #expect(indices.prefix(fit).elementsEqual(wanted.prefix(fit).map(UInt32.init)))
                    #expect(
                        values.prefix(fit).elementsEqual(wanted.prefix(fit).map { x[$0] - 0.25 }))
                    #expect(indices.suffix(16).allSatisfy { $0 == 77 })
                    #expect(values.suffix(16).allSatisfy { $0 == 77 })
                }
            }
        }
    }

    @Test("drop_below leaves what is at the limit", arguments: Table.all)
    func drop(_ table: Table) {
        var x: [Float] = [1, 2, 3, 4]
        table.entries.drop_below(&x, [0.5, 0.49, -1, 7], 4, 0.5)
        #expect(x == [1, 0, 0, 4])
    }

    @Test("temper divides, and what is no number is least likely", arguments: Table.all)
    func temper(_ table: Table) {
        let x: [Float] = [3, 1, -.infinity, .nan, 3]
        var out = [Float](repeating: 0, count: 5)
        table.entries.temper(x, 5, 3, 0.5, &out)
        #expect(out == [0, -4, -.infinity, -.infinity, 0])
    }

    @Test("read_all sums every word", arguments: Table.all)
    func readAll(_ table: Table) {
        var g = SeededGenerator(7)
        for vectors in [1, 3, 4, 5, 100] {
            let words = (0..<vectors * 8).map { _ in g.next() }
            let sum = words.withUnsafeBytes {
                table.entries.read_all($0.bindMemory(to: UInt8.self).baseAddress!, vectors * 64)
            }
            #expect(sum == words.reduce(0, &+))
        }
    }

    @Test("halves and bfloats widen exactly: all 65536 of each", arguments: Table.all)
    func widen(_ table: Table) {
        let all = (0...UInt16.max).map { $0 }
        var out = [Float](repeating: 0, count: all.count)
        table.entries.widen_bf16(all, all.count, &out)
        #expect(out.map(\.bitPattern) == all.map { UInt32($0) << 16 })
        table.entries.widen_f16(all, all.count, &out)
        for h in all {
            let exponent = Int(h >> 10 & 31)
            let fraction = Float(h & 1023)
            let sign: Float = h >> 15 == 1 ? -1 : 1
            if exponent == 31 {
                #expect(fraction == 0 ? out[Int(h)] == sign * .infinity : out[Int(h)].isNaN)
            } else {
                let size: Float = exponent == 0 ? fraction : fraction + 1024
                let wanted =
                    sign * Float(sign: .plus, exponent: max(exponent, 1) - 25, significand: size)
                #expect(out[Int(h)].bitPattern == wanted.bitPattern)
            }
        }
    }

    @Test("dot_peak runs at least what it was asked for", arguments: Table.all)
    func dotPeak(_ table: Table) {
        #expect(table.entries.dot_peak(10_000) >= 10_000)
    }
}
