// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import TestSupport
internal import Testing

@Suite("packing")
struct PackTests {
    @Test("unpacking gives back what was packed, and padding is trit 0")
    func roundTrip() {
        var g = SeededGenerator(11)
        for _ in 0..<60 {
            let rows = Int.random(in: 1...50, using: &g)
            let columns = Int.random(in: 1...130, using: &g)
            let trits = g.trits(rows * columns)
            var packed = [UInt8](repeating: 255, count: ck_packed_bytes(rows, columns))
            ck_pack(trits, rows, columns, &packed)
            #expect(ck_check_packed(packed, packed.count) == packed.count)
            let allRows = 16 * ck_tiles(rows)
            let allColumns = ck_padded_columns(columns)
            var whole = [Int8](repeating: 9, count: allRows * allColumns)
            ck_unpack(packed, allRows, allColumns, &whole)
            for r in 0..<allRows {
                for k in 0..<allColumns {
                    let wanted = r < rows && k < columns ? trits[r * columns + k] : 0
                    #expect(whole[r * allColumns + k] == wanted)
                }
            }
        }
    }

    @Test("a byte holds five columns' digits, as the format says")
    func layout() {
        // Row 2, columns 1, 5, 9, 13, 17 share byte 2 * 4 + 1.
        var trits = [Int8](repeating: 0, count: 16 * 20)
        for (k, trit) in [(1, 1), (5, -1), (9, 0), (13, 1), (17, -1)] {
            trits[2 * 20 + k] = Int8(trit)
        }
        var packed = [UInt8](repeating: 0, count: 64)
        ck_pack(trits, 16, 20, &packed)
        #expect(packed[9] == 2 + 3 * 0 + 9 * 1 + 27 * 2 + 81 * 0)
        #expect(packed[8] == 121 && packed[63] == 121)
    }

    @Test("a matrix may be packed tile by tile")
    func tileByTile() {
        var g = SeededGenerator(12)
        let rows = 40
        let columns = 33
        let trits = g.trits(rows * columns)
        var whole = [UInt8](repeating: 0, count: ck_packed_bytes(rows, columns))
        var parts: [UInt8] = []
        ck_pack(trits, rows, columns, &whole)
        for first in [0, 16, 32] {
            let count = min(16, rows - first)
            var part = [UInt8](repeating: 0, count: ck_packed_bytes(count, columns))
            ck_pack(
                Array(trits[first * columns..<(first + count) * columns]), count, columns, &part)
            parts += part
        }
        #expect(parts == whole)
    }

    @Test("the first byte that is no code is found, wherever it is")
    func check() {
        var bytes = [UInt8](repeating: 242, count: 1000)
        #expect(ck_check_packed(bytes, 1000) == 1000)
        #expect(ck_check_packed(bytes, 0) == 0)
        for place in [999, 700, 256, 255, 3, 0] {
            bytes[place] = 243
            #expect(ck_check_packed(bytes, 1000) == place)
        }
    }
}

@Suite("q6 embeddings")
struct Q6Tests {
    func roundTrip(_ row: [Float]) -> [Float] {
        var bytes = [UInt8](repeating: 0, count: ck_q6_row_bytes(row.count))
        var out = row
        ck_q6_encode(row, row.count, &bytes)
        ck_q6_decode(bytes, row.count, &out)
        return out
    }

    @Test("a value is off by at most a 21st of the largest in its half block")
    func bound() {
        var g = SeededGenerator(13)
        for n in [1, 31, 32, 33, 64, 65, 1000] {
            let row = g.floats(n, size: 0.05)
            let found = roundTrip(row)
            for half in stride(from: 0, to: n, by: 32) {
                let range = half..<min(n, half + 32)
                let largest = row[range].map { abs($0) }.max() ?? 0
                for k in range { #expect(abs(found[k] - row[k]) <= largest / 21) }
            }
        }
    }

    @Test("a Gaussian row keeps 98 % of its signal")
    func signal() {
        var g = SeededGenerator(14)
        let row = (0..<6400).map { _ in g.floats(12, size: 0.01).reduce(0, +) }
        let found = roundTrip(row)
        let noise = zip(row, found).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        #expect((noise / row.reduce(0) { $0 + $1 * $1 }).squareRoot() < 0.02)
    }

    @Test("zeros, the smallest and the largest rows survive; what is not finite becomes 0")
    func edges() {
        #expect(roundTrip([Float](repeating: 0, count: 64)) == [Float](repeating: 0, count: 64))
        #expect(
            roundTrip([Float](repeating: .nan, count: 3) + [.infinity, 1])[..<4] == [0, 0, 0, 0])
        #expect(roundTrip([2e6, -2e6]).allSatisfy { abs(abs($0) - 2e6) < 1e5 })
        #expect(abs(roundTrip([1e-4])[0] - 1e-4) < 2e-6)
        #expect(roundTrip([1e-30]) == [0])
    }

    @Test("the same row gives the same bytes")
    func deterministic() {
        var g = SeededGenerator(15)
        let row = g.floats(100)
        var a = [UInt8](repeating: 0, count: ck_q6_row_bytes(100))
        var b = a.map { $0 ^ 255 }
        ck_q6_encode(row, 100, &a)
        ck_q6_encode(row, 100, &b)
        #expect(a == b && a.count == 104)
    }
}
