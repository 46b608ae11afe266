// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import TestSupport
internal import Testing

/// How keys and values are stored.
enum Stored: String, CaseIterable, CustomTestStringConvertible {
    case f32, bf16

    var encoding: ck_encoding { self == .f32 ? CK_F32 : CK_BF16 }
    var size: Int { self == .f32 ? 4 : 2 }
    var testDescription: String { rawValue }

    /// What is read again of a number.
    func kept(_ x: Float) -> Float {
        self == .f32 ? x : Float(bitPattern: UInt32(ck_bf16(x)) << 16)
    }
}

/// Keys and values of one head at positions 0..<count, in pages whose every other number is NaN.
struct Context {
    let d: Int
    let count: Int
    var keys: [[Float]]
    var values: [[Float]]
    var stored = Stored.f32
    /// Where keys and values begin in a page: odd places, since a page holds other layers and heads too.
    let keysAt = 3
    var valuesAt: Int { 16 * d + 7 }
    var pages: Int { (count + 15) / 16 }

    init(
        _ stored: Stored = .f32, d: Int, count: Int, size: Float = 1, _ g: inout SeededGenerator
    ) {
        self.stored = stored
        self.d = d
        self.count = count
        keys = (0..<count).map { _ in g.floats(d, size: size) }
        values = (0..<count).map { _ in g.floats(d, size: 3) }
    }

    /// What a table makes of it for [heads][d] queries.
    func attend(_ t: ck_table, _ q: [Float], scale: Float) -> [Float] {
        let heads = q.count / d
        let page = 32 * d + 11
        let storage = UnsafeMutableRawPointer.allocate(
            byteCount: pages * page * stored.size, alignment: 4)
        defer { storage.deallocate() }
        storage.initializeMemory(as: UInt8.self, repeating: 0xFF, count: pages * page * stored.size)
        for position in 0..<count {
            let start = storage + position / 16 * page * stored.size
            ck_store_key(
                stored.encoding, start + keysAt * stored.size, keys[position], d, position)
            ck_store_value(
                stored.encoding, start + valuesAt * stored.size, values[position], d, position)
        }
        let starts = (0..<pages).map { UnsafeRawPointer(storage + $0 * page * stored.size) }
        // One float more than each takes, to see that it stays.
        var scores = [Float](repeating: 77, count: heads * pages * 16 + 1)
        var out = [Float](repeating: 77, count: heads * d + 1)
        t.attend(
            stored.encoding, q, heads, d, starts, keysAt, valuesAt, count, scale, &scores, &out)
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

    @Test(
        "every table's attention equals scalar's, bit for bit", arguments: Table.others,
        Stored.allCases)
    func equalScalar(_ table: Table, _ stored: Stored) {
        var g = SeededGenerator(22)
        for (heads, d, count) in Self.shapes {
            let context = Context(stored, d: d, count: count, size: 2, &g)
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

    @Test(
        "attention over bfloat16 is attention over the rounded keys and values, bit for bit",
        arguments: Table.all)
    func rounded(_ table: Table) {
        var g = SeededGenerator(26)
        for (heads, d, count) in Self.shapes {
            let context = Context(.bf16, d: d, count: count, size: 2, &g)
            var exact = context
            exact.stored = .f32
            exact.keys = context.keys.map { $0.map(Stored.bf16.kept) }
            exact.values = context.values.map { $0.map(Stored.bf16.kept) }
            let q = g.floats(heads * d, size: 2)
            let wanted = exact.attend(table.entries, q, scale: 0.3)
            let found = context.attend(table.entries, q, scale: 0.3)
            #expect(found.bits == wanted.bits, "\(heads) heads, d \(d), \(count) positions")
        }
    }

    @Test("a float becomes the nearest bfloat16, the even one in the middle")
    func nearest() {
        let cases: [(Float, UInt16)] = [
            (0, 0), (-0.0, 0x8000), (1, 0x3F80), (-2.5, 0xC020),
            // 1 + 2^-8 and 1 + 3 · 2^-8 lie in the middle; a bit more or less does not.
            (0x1.01p0, 0x3F80), (0x1.03p0, 0x3F82), (0x1.010002p0, 0x3F81), (0x1.02fffep0, 0x3F81),
            // The largest float is nearer to the next power of two, which is infinity.
            (.greatestFiniteMagnitude, 0x7F80), (0x1.fep127, 0x7F7F), (.infinity, 0x7F80),
            (-.infinity, 0xFF80), (0x1p-133, 0x0001), (0x1p-134, 0), (0x1.8p-133, 0x0002),
        ]
        for (x, wanted) in cases { #expect(ck_bf16(x) == wanted, "\(x)") }
        for bits: UInt32 in [0x7F80_0001, 0x7FFF_FFFF, 0xFF80_0001, 0x7FC0_0000] {
            #expect(Stored.bf16.kept(Float(bitPattern: bits)).isNaN, "\(bits)")
        }
        for bits in UInt16.min ... .max where bits & 0x7FFF <= 0x7F80 {
            let float = Float(bitPattern: UInt32(bits) << 16)
            #expect(ck_bf16(float) == bits)
        }
    }

    @Test(
        "heads that share keys do not touch each other's outputs", arguments: Table.all,
        Stored.allCases)
    func heads(_ table: Table, _ stored: Stored) {
        var g = SeededGenerator(24)
        let context = Context(stored, d: 40, count: 53, &g)
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
