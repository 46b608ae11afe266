// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import TestSupport
internal import Testing

/// Keys and values of one head at positions 0..<count, in pages whose every other float is NaN.
struct Context {
    let d: Int
    let count: Int
    let keys: [[Float]]
    let values: [[Float]]
    /// Where keys and values begin in a page: odd places, since a page holds other layers and heads too.
    let keysAt = 3
    var valuesAt: Int { 16 * d + 7 }
    var pages: Int { (count + 15) / 16 }

    init(d: Int, count: Int, size: Float = 1, _ g: inout SeededGenerator) {
        self.d = d
        self.count = count
        keys = (0..<count).map { _ in g.floats(d, size: size) }
        values = (0..<count).map { _ in g.floats(d, size: 3) }
    }

    /// What a table makes of it for [heads][d] queries.
    func attend(_ t: ck_table, _ q: [Float], scale: Float) -> [Float] {
        let heads = q.count / d
        let page = 32 * d + 11
        let storage = UnsafeMutablePointer<Float>.allocate(capacity: pages * page)
        defer { storage.deallocate() }
        storage.initialize(repeating: .nan, count: pages * page)
        for position in 0..<count {
            let start = storage + position / 16 * page
            ck_store_key(start + keysAt, keys[position], d, position)
            for e in 0..<d { start[valuesAt + position % 16 * d + e] = values[position][e] }
        }
        let starts = (0..<pages).map { UnsafePointer(storage + $0 * page) }
        // One float more than each takes, to see that it stays.
        var scores = [Float](repeating: 77, count: heads * pages * 16 + 1)
        var out = [Float](repeating: 77, count: heads * d + 1)
        t.attend(q, heads, d, starts, keysAt, valuesAt, count, scale, &scores, &out)
        #expect(scores.last == 77 && out.last == 77)
        return Array(out.dropLast())
    }
}

@Suite("attention")
struct AttentionTests {
    /// Heads, their size, positions: ragged vectors, page ends, groups that do not fit registers.
    static let shapes: [(heads: Int, d: Int, count: Int)] =
        [1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 100, 700].flatMap { count in
            [(1, 2), (1, 128), (2, 64), (3, 32), (4, 128), (4, 20), (5, 6), (7, 34), (8, 16)].map {
                ($0, $1, count)
            }
        }

    @Test(
        "outputs are the values, weighted with the softmax of scaled scores", arguments: Table.all)
    func attention(_ table: Table) {
        var g = SeededGenerator(21)
        for (heads, d, count) in Self.shapes {
            let context = Context(d: d, count: count, size: 2, &g)
            let q = g.floats(heads * d, size: 2)
            let scale = 1 / Float(d).squareRoot()
            let found = context.attend(table.entries, q, scale: scale)
            for h in 0..<heads {
                let scores = context.keys.map { key in
                    Double(scale)
                        * (0..<d).reduce(0.0) { $0 + Double(q[h * d + $1]) * Double(key[$1]) }
                }
                let largest = scores.max()!
                let weights = scores.map { exactExp($0 - largest) }
                let sum = weights.reduce(0, +)
                for e in 0..<d {
                    let wanted =
                        zip(weights, context.values).reduce(0.0) { $0 + $1.0 * Double($1.1[e]) }
                        / sum
                    #expect(
                        abs(Double(found[h * d + e]) - wanted) < 5e-6,
                        "head \(h) of \(heads), d \(d), \(count) positions")
                }
            }
        }
    }

    @Test("every table's attention equals scalar's, bit for bit", arguments: Table.others)
    func equalScalar(_ table: Table) {
        var g = SeededGenerator(22)
        for (heads, d, count) in Self.shapes {
            let context = Context(d: d, count: count, size: 2, &g)
            let q = g.floats(heads * d, size: 2)
            let wanted = context.attend(Table.scalar.entries, q, scale: 0.3)
            let found = context.attend(table.entries, q, scale: 0.3)
            #expect(found.bits == wanted.bits, "\(heads) heads, d \(d), \(count) positions")
        }
    }

    @Test(
        "scores and outputs are single chains, sums are in the documented order",
        arguments: Table.all)
    func order(_ table: Table) {
        var g = SeededGenerator(23)
        for (d, count) in [(16, 1), (24, 70), (128, 150)] {
            let context = Context(d: d, count: count, size: 2, &g)
            let q = g.floats(d)
            var weights = context.keys.map { key in
                (0..<d).reduce(into: Float(0)) { $0.addProduct(q[$1], key[$1]) } * 0.25
            }
            let largest = weights.max()!
            weights = weights.map { ck_exp($0 - largest) }
            let sum = orderedSum(count) { $0 += weights[$1] }
            let wanted = (0..<d).map { e in
                (0..<count).reduce(into: Float(0)) {
                    $0.addProduct(weights[$1], context.values[$1][e])
                } / sum
            }
            #expect(context.attend(table.entries, q, scale: 0.25).bits == wanted.bits)
        }
    }

    @Test("heads that share keys do not touch each other's outputs", arguments: Table.all)
    func heads(_ table: Table) {
        var g = SeededGenerator(24)
        let context = Context(d: 40, count: 53, &g)
        let q = g.floats(11 * 40)
        let together = context.attend(table.entries, q, scale: 1)
        let apart = (0..<11).flatMap {
            context.attend(table.entries, Array(q[$0 * 40..<($0 + 1) * 40]), scale: 1)
        }
        #expect(together.bits == apart.bits)
    }

    @Test("a NaN in a query or in a key makes all of the head's outputs NaN", arguments: Table.all)
    func nan(_ table: Table) {
        var g = SeededGenerator(25)
        let context = Context(d: 20, count: 40, &g)
        var q = g.floats(40)
        let whole = context.attend(table.entries, q, scale: 1)
        q[25] = .nan
        let broken = context.attend(table.entries, q, scale: 1)
        #expect(broken[..<20] == whole[..<20])
        #expect(broken[20...].allSatisfy { $0.isNaN })
        q[25] = .infinity  // scores of ±infinity: their differences are not numbers
        #expect(context.attend(table.entries, q, scale: 1)[20...].allSatisfy { $0.isNaN })
    }
}
