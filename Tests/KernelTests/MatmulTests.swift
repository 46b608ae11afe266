// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import TestSupport
internal import Testing

@Suite("products")
struct MatmulTests {
    /// y of `table`, [batch][stride], in one call or split at `split`; what no call may touch is -1.
    func product(
        _ table: Table, _ packed: [UInt8], rows: Int, _ x: Activations, stride: Int, split: Int = 0
    ) -> [Int32] {
        var y = [Int32](repeating: -1, count: x.rows.count * stride)
        let tiles = ck_tiles(rows)
        for range in [0..<split, split..<tiles] {
            table.entries.matmul(
                packed, x.columns, range.lowerBound, range.upperBound, x.values, x.sums,
                x.rows.count, &y, stride)
        }
        return y
    }

    func pack(_ trits: [Int8], rows: Int, columns: Int) -> [UInt8] {
        var packed = [UInt8](repeating: 0, count: ck_packed_bytes(rows, columns))
        ck_pack(trits, rows, columns, &packed)
        return packed
    }

    func randomRows(_ batch: Int, _ columns: Int, _ g: inout SeededGenerator) -> [[Int8]] {
        (0..<batch).map { _ in g.integers(columns, limit: 127).map { Int8($0) } }
    }

    @Test("the scalar table gives the sums of the definition")
    func scalarIsTheDefinition() {
        var g = SeededGenerator(1)
        for (rows, columns, batch) in [
            (1, 1, 1), (16, 20, 8), (17, 21, 9), (33, 64, 3), (50, 131, 19),
        ] {
            let trits = g.trits(rows * columns)
            let x = Activations(randomRows(batch, columns, &g), columns: columns)
            let packed = pack(trits, rows: rows, columns: columns)
            let stride = 16 * ck_tiles(rows)
            let y = product(.scalar, packed, rows: rows, x, stride: stride)
            for t in 0..<batch {
                for r in 0..<rows {
                    var sum: Int32 = 0
                    for k in 0..<columns {
                        sum += Int32(trits[r * columns + k]) * Int32(x.rows[t][k])
                    }
                    #expect(y[t * stride + r] == sum)
                }
            }
        }
    }

    @Test(
        "every table equals scalar over random shapes, however the tiles are split",
        arguments: Table.others)
    func equalsScalar(_ table: Table) {
        var g = SeededGenerator(2)
        for round in 0..<90 {
            let rows = Int.random(in: 1...90, using: &g)
            let columns = Int.random(in: 1...(round % 6 == 0 ? 2900 : 200), using: &g)
            let batch = round < 40 ? round + 1 : Int.random(in: 1...70, using: &g)
            let packed = (0..<ck_packed_bytes(rows, columns)).map { _ in UInt8(g.next() % 243) }
            let x = Activations(randomRows(batch, columns, &g), columns: columns)
            let stride = 16 * ck_tiles(rows) + Int(g.next() % 5)
            let split = Int.random(in: 0...ck_tiles(rows), using: &g)
            let wanted = product(.scalar, packed, rows: rows, x, stride: stride)
            let found = product(table, packed, rows: rows, x, stride: stride, split: split)
            #expect(
                wanted == found, "\(rows) x \(columns), \(batch) activations, split at \(split)")
        }
    }

    @Test(
        "every table equals scalar where matrices outgrow the caches' chunks",
        arguments: Table.others)
    func largeEqualsScalar(_ table: Table) {
        var g = SeededGenerator(3)
        for (rows, columns, batch) in [
            (1200, 1203, 9), (1200, 1203, 17), (80, 8003, 14), (80, 8003, 33),
        ] {
            let packed = (0..<ck_packed_bytes(rows, columns)).map { _ in UInt8(g.next() % 243) }
            let x = Activations(randomRows(batch, columns, &g), columns: columns)
            let stride = 16 * ck_tiles(rows)
            let wanted = product(.scalar, packed, rows: rows, x, stride: stride)
            #expect(wanted == product(table, packed, rows: rows, x, stride: stride, split: 5))
        }
    }

    @Test(
        "every table equals scalar for every number of activations about its blocks of sixteen",
        arguments: Table.others, Array(15...33))
    func batches(_ table: Table, _ batch: Int) {
        var g = SeededGenerator(UInt64(batch))
        for (rows, columns) in [(16, 20), (33, 64), (70, 131), (48, 1203)] {
            let packed = (0..<ck_packed_bytes(rows, columns)).map { _ in UInt8(g.next() % 243) }
            let x = Activations(randomRows(batch, columns, &g), columns: columns)
            let stride = 16 * ck_tiles(rows)
            let wanted = product(.scalar, packed, rows: rows, x, stride: stride)
            #expect(
                wanted == product(table, packed, rows: rows, x, stride: stride, split: 1),
                "\(rows) x \(columns)")
        }
    }

    @Test("the largest sums there are come out exact", arguments: Table.all)
    func extremes(_ table: Table) {
        let columns = 7001
        let rows = 32
        for trit: Int8 in [-1, 1] {
            for value: Int8 in [-127, 127] {
                let packed = pack(
                    [Int8](repeating: trit, count: rows * columns), rows: rows, columns: columns)
                for batch in [1, 2, 3, 4, 5, 8, 11, 20] {
                    let row = [Int8](repeating: value, count: columns)
                    let x = Activations([[Int8]](repeating: row, count: batch), columns: columns)
                    let y = product(table, packed, rows: rows, x, stride: rows)
                    #expect(y.allSatisfy { $0 == Int32(trit) * Int32(value) * Int32(columns) })
                }
            }
        }
    }

    @Test(
        "the widest matrices give exact sums, beyond 660,520 columns too, where 64 times a digit outgrows 32 bits",
        arguments: Table.all)
    func widest(_ table: Table) {
        for (columns, batch) in [
            (660_520, 1), (660_540, 1), (660_540, 4), (Int(CK_MOST_COLUMNS), 1),
        ] {
            let padded = ck_padded_columns(columns)
            for (trit, value) in [(1, 127), (1, -127), (-1, 127)] as [(Int32, Int32)] {
                let packed = [UInt8](
                    repeating: trit > 0 ? 242 : 0, count: ck_packed_bytes(16, padded))
                let values = [Int8](repeating: Int8(value), count: batch * padded)
                let sums = [Int32](repeating: value * Int32(padded), count: batch)
                var y = [Int32](repeating: -1, count: batch * 16)
                table.entries.matmul(packed, padded, 0, 1, values, sums, batch, &y, 16)
                #expect(y.allSatisfy { $0 == trit * value * Int32(padded) })
            }
        }
    }

    @Test("each of the 243 bytes is understood at each of its places", arguments: Table.all)
    func everyByte(_ table: Table) {
        // One vector a tile: byte i of tile b is code b; an activation that is 1 in one column picks its digit.
        let packed = (0..<243).flatMap { [UInt8](repeating: UInt8($0), count: 64) }
        for column in 0..<20 {
            for batch in [1, 2, 5, 8] {
                var row = [Int8](repeating: 0, count: 20)
                row[column] = 1
                let x = Activations([[Int8]](repeating: row, count: batch), columns: 20)
                let y = product(table, packed, rows: 243 * 16, x, stride: 243 * 16)
                let divisor = [1, 3, 9, 27, 81][column / 4]
                for code in 0..<243 {
                    let wanted = Int32(code / divisor % 3 - 1)
                    #expect(y[code * 16..<code * 16 + 16].allSatisfy { $0 == wanted })
                    #expect(y[(batch - 1) * 243 * 16 + code * 16] == wanted)
                }
            }
        }
    }

    @Test("no rows and no tiles are no work", arguments: Table.all)
    func nothing(_ table: Table) {
        let x = Activations([], columns: 40)
        #expect(product(table, [UInt8](repeating: 0, count: 128), rows: 16, x, stride: 16) == [])
        let one = Activations([[1]], columns: 1)
        #expect(product(table, [], rows: 0, one, stride: 4) == [-1, -1, -1, -1])
    }
}
