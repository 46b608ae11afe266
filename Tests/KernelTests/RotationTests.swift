// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import Glibc
internal import Packer
internal import SystemPackage
internal import TestSupport
internal import Testing

@Suite("rotation by position")
struct RotationTests {
    func angles(_ frequencies: [Float], _ position: Int) -> (cosines: [Float], sines: [Float]) {
        var c = [Float](repeating: 0, count: frequencies.count)
        var s = c
        ck_rotation(frequencies, frequencies.count, position, &c, &s)
        return (c, s)
    }

    @Test(
        "cosines and sines are within one unit in the last place below 1 of the published tables",
        arguments: [
            "10000_14", "10000_64", "500000_20", "500000_128", "1000000_128", "1000042_256",
        ])
    func golden(_ name: String) throws {
        let file = try SafetensorsFile(path: fixtures.appending("bitnet/rope/rope.safetensors"))
        let frequencies = try file.floats("inv_freq." + name)
        let cosines = try file.floats("cos." + name)
        let sines = try file.floats("sin." + name)
        let half = frequencies.count
        for (row, position) in [0, 1, 2, 3, 17, 255, 1000, 4095, 32767].enumerated() {
            let found = angles(frequencies, position)
            for i in 0..<half {
                #expect(abs(found.cosines[i] - cosines[row * half + i]) <= 0x1p-24)
                #expect(abs(found.sines[i] - sines[row * half + i]) <= 0x1p-24)
            }
        }
    }

    @Test("angles are products of floats, their cosines and sines the nearest floats")
    func nearest() {
        var g = SeededGenerator(31)
        for round in 0..<20_000 {
            let position = round < 200 ? round : Int.random(in: 0..<1 << 20, using: &g)
            let frequency = round % 3 == 0 ? 1 : g.unit()
            let found = angles([frequency], position)
            let angle = Double(Float(position) * frequency)
            #expect(found.cosines == [Float(cos(angle))] && found.sines == [Float(sin(angle))])
        }
    }

    @Test("an angle near a multiple of a right angle keeps its digits")
    func cancellation() {
        // Floats nearest to n right angles: the cosine or sine there is the distance.
        for n in stride(from: 1, to: 600_000, by: 977) {
            let angle = Float(Double(n) * .pi / 2)
            let found = angles([angle], 1)
            #expect(found.cosines == [Float(cos(Double(angle)))])
            #expect(found.sines == [Float(sin(Double(angle)))])
        }
    }

    @Test("angles that cannot be reduced are NaN")
    func beyond() {
        let found = angles([0x1.000002p20, .infinity, .nan, 0x1p20], 1)
        #expect(
            found.cosines[..<3].allSatisfy { $0.isNaN } && found.sines[..<3].allSatisfy { $0.isNaN }
        )
        #expect(found.cosines[3] == Float(cos(0x1p20)))
    }

    func rotate(
        _ t: ck_table, _ y: [Int32], scale: Float, d: Int, norm: [Float]?, position: Int
    ) -> [Float] {
        let frequencies = (0..<d / 2).map { i in Float(pow(10000, -2 * Double(i) / Double(d))) }
        let (cosines, sines) = angles(frequencies, position)
        var out = [Float](repeating: 77, count: y.count + 1)
        if let norm {
            t.rotate(y, scale, y.count / d, d, norm, 1e-6, cosines, sines, &out)
        } else {
            t.rotate(y, scale, y.count / d, d, nil, 0, cosines, sines, &out)
        }
        #expect(out.last == 77)
        return Array(out.dropLast())
    }

    @Test("element i turns with element i + d/2, each product rounded", arguments: Table.all)
    func halves(_ table: Table) {
        var g = SeededGenerator(32)
        for d in [2, 6, 14, 16, 32, 40, 64, 128, 130] {
            let y = g.integers(3 * d, limit: 90_000)
            let norm = d % 4 == 0 ? g.floats(d) : nil
            let found = rotate(table.entries, y, scale: 1e-3, d: d, norm: norm, position: 777)
            let (c, s) = angles(
                (0..<d / 2).map { Float(pow(10000, -2 * Double($0) / Double(d))) }, 777)
            for h in 0..<3 {
                var x = y[h * d..<(h + 1) * d].map { Float($0) * 1e-3 }
                if let norm {
                    var normed = x
                    table.entries.norm(x, d, norm, 1e-6, &normed)
                    x = normed
                }
                for i in 0..<d / 2 {
                    let j = i + d / 2
                    #expect(found[h * d + i] == x[i] * c[i] - x[j] * s[i])
                    #expect(found[h * d + j] == x[j] * c[i] + x[i] * s[i])
                }
            }
        }
    }

    @Test("every table's rotation equals scalar's, bit for bit", arguments: Table.others)
    func equalScalar(_ table: Table) {
        var g = SeededGenerator(33)
        for d in stride(from: 2, through: 140, by: 2) {
            let y = g.integers(4 * d, limit: 400_000)
            let norm = d % 3 == 0 ? nil : g.floats(d)
            let scalar = rotate(Table.scalar.entries, y, scale: 2e-4, d: d, norm: norm, position: d)
            let found = rotate(table.entries, y, scale: 2e-4, d: d, norm: norm, position: d)
            #expect(found.bits == scalar.bits)
        }
    }
}
