// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import Glibc
internal import TestSupport
internal import Testing

/// exp in double, from the C library.
func exactExp(_ x: Double) -> Double { exp(x) }

@Suite("exp and log")
struct MathTests {
    /// Distance of `found` from `exact` in units of the last place of a float near `exact`.
    func ulps(_ found: Float, _ exact: Double) -> Double {
        abs(Double(found) - exact) / Double(Float(exact).ulp)
    }

    @Test("exp is within 0.9 ulp of the C library's")
    func expAccuracy() {
        var worst = 0.0
        for step in 0..<200_000 {
            let x = Float(-87.33 + Double(step) * (88.72 + 87.33) / 200_000)
            worst = max(worst, ulps(ck_exp(x), exp(Double(x))))
        }
        for exponent in -40..<0 {
            let x = Float(sign: .minus, exponent: exponent, significand: 1.37)
            worst = max(worst, ulps(ck_exp(x), exp(Double(x))), ulps(ck_exp(-x), exp(Double(-x))))
        }
        #expect(worst < 0.9)
    }

    @Test("exp saturates at both ends and passes NaN on")
    func expEnds() {
        #expect(ck_exp(0) == 1 && ck_exp(-0.0) == 1 && ck_exp(.leastNonzeroMagnitude) == 1)
        #expect(ck_exp(88.72284) == .infinity && ck_exp(.infinity) == .infinity)
        #expect(ck_exp(88.72283).isFinite)
        #expect(ck_exp(-87.33655) == 0 && ck_exp(-.infinity) == 0)
        #expect(ck_exp(-87.33654).isNormal)
        #expect(ck_exp(.nan).isNaN)
    }

    @Test("log is the nearest float, or next to it")
    func logAccuracy() {
        var worst = 0.0
        for step in 1..<100_000 {
            let x = Float(bitPattern: UInt32(step) &* 21_391)
            guard x.isFinite, x > 0, x != 1 else { continue }
            worst = max(worst, ulps(ck_log(x), log(Double(x))))
        }
        #expect(worst < 0.51)
        #expect(ck_log(1) == 0 && ck_log(0) == -.infinity && ck_log(.infinity) == .infinity)
        #expect(ck_log(-1).isNaN && ck_log(.nan).isNaN)
    }

    @Test("the tables' exp is ck_exp", arguments: Table.all)
    func sameEverywhere(_ table: Table) {
        var g = SeededGenerator(10)
        let x = g.floats(5000, size: 95) + RowTests.special(500, &g)
        var out = x
        table.entries.exp_shifted(x, x.count, 0, &out)
        #expect(out.bits == x.map { ck_exp($0) }.bits)
        let sum = table.entries.sum_exp(Array(x[..<5000]), 5000, 90)
        let exact = x[..<5000].reduce(0) { $0 + exp(Double($1) - 90) }
        #expect(abs(Double(sum) - exact) < 1e-5 * exact)
    }

    @Test("sums above limits are those of what is there", arguments: Table.all)
    func above(_ table: Table) {
        var g = SeededGenerator(12)
        let limits: [Float] = [0, -0.5, -1, -3, -7, -20, -200, -.infinity]
        for n in [1, 15, 16, 17, 63, 64, 65, 5_000] {
            var x = g.floats(n, size: 5).map { 1 - abs($0) }
            // Tempered, -3: one at a limit; and one that is no candidate.
            x[n / 2] = -0.5
            if n > 20 { x[20] = -.infinity }
            var sums = [Float](repeating: 77, count: limits.count)
            var (tempered, wanted) = (x, x)
            let total = table.entries.temper_above(x, n, 1, 0.5, &tempered, limits, &sums)
            table.entries.temper(x, n, 1, 0.5, &wanted)
            #expect(tempered == wanted)
            x = wanted
            let weights = x.map { ck_exp($0) }
            let whole = weights.reduce(0) { $0 + Double($1) }
            #expect(abs(total - whole) <= 5e-7 * whole)
            var again = sums
            table.entries.masses_above(weights, x, n, limits, &again)
            #expect(again.bits == sums.bits)
            for (limit, sum) in zip(limits, sums) {
                let exact = zip(x, weights).reduce(0.0) { $0 + ($1.0 >= limit ? Double($1.1) : 0) }
                #expect(abs(Double(sum) - exact) <= 1e-5 * exact)
                let precise = table.entries.mass_above(weights, x, n, limit)
                #expect(abs(precise - exact) <= 1e-14 * exact)
            }
        }
    }
}
