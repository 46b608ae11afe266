// SPDX-License-Identifier: Apache-2.0

/// A set of Unicode scalar values: no surrogates.
struct ScalarSet: Equatable, Sendable {
    /// Ascending, neither overlapping nor adjacent.
    private(set) var ranges: [ClosedRange<UInt32>] = []

    static let all = ScalarSet([0...0x10FFFF])
    /// What `.` of a pattern matches: all but line terminators (ECMA-262).
    static let notLineEnds = all.subtracting(
        ScalarSet([0x0A...0x0A, 0x0D...0x0D, 0x2028...0x2029]))
    static let digits = ScalarSet([0x30...0x39])
    static let words = ScalarSet([0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A])
    /// White space and line terminators of ECMA-262.
    static let spaces = ScalarSet([
        0x09...0x0D, 0x20...0x20, 0xA0...0xA0, 0x1680...0x1680, 0x2000...0x200A, 0x2028...0x2029,
        0x202F...0x202F, 0x205F...0x205F, 0x3000...0x3000, 0xFEFF...0xFEFF,
    ])

    init() {}

    init(_ list: [ClosedRange<UInt32>]) {
        for range in list.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = ranges.last, range.lowerBound <= last.upperBound + 1 {
                ranges[ranges.count - 1] =
                    last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                ranges.append(range)
            }
        }
        let surrogates: ClosedRange<UInt32> = 0xD800...0xDFFF
        guard ranges.contains(where: { $0.overlaps(surrogates) }) else { return }
        ranges = Self.difference(ranges, [surrogates])
    }

    init(_ scalar: Unicode.Scalar) { self.init([scalar.value...scalar.value]) }

    var isEmpty: Bool { ranges.isEmpty }

    func union(_ other: ScalarSet) -> ScalarSet { ScalarSet(ranges + other.ranges) }
    func subtracting(_ other: ScalarSet) -> ScalarSet {
        ScalarSet(Self.difference(ranges, other.ranges))
    }
    func intersection(_ other: ScalarSet) -> ScalarSet { subtracting(Self.all.subtracting(other)) }
    var inverted: ScalarSet { Self.all.subtracting(self) }

    private static func difference(
        _ list: [ClosedRange<UInt32>], _ holes: [ClosedRange<UInt32>]
    ) -> [ClosedRange<UInt32>] {
        var rest = list
        for hole in holes {
            rest = rest.flatMap { range -> [ClosedRange<UInt32>] in
                guard range.overlaps(hole) else { return [range] }
                var parts: [ClosedRange<UInt32>] = []
                if range.lowerBound < hole.lowerBound {
                    parts.append(range.lowerBound...hole.lowerBound - 1)
                }
                if range.upperBound > hole.upperBound {
                    parts.append(hole.upperBound + 1...range.upperBound)
                }
                return parts
            }
        }
        return rest
    }

    /// Their UTF-8 forms: each element is the ranges of a form's bytes, in order. No form is in two of them.
    var utf8Forms: [[ClosedRange<UInt8>]] {
        var forms: [[ClosedRange<UInt8>]] = []
        let lengths: [ClosedRange<UInt32>] = [
            0...0x7F, 0x80...0x7FF, 0x800...0xFFFF, 0x10000...0x10FFFF,
        ]
        for range in ranges {
            for (index, length) in lengths.enumerated() where range.overlaps(length) {
                let part = range.clamped(to: length)
                Self.split(
                    Self.encode(part.lowerBound, index), Self.encode(part.upperBound, index), &forms
                )
            }
        }
        return forms
    }

    /// The UTF-8 form of a value, with so many continuation bytes.
    private static func encode(_ value: UInt32, _ more: Int) -> [UInt8] {
        guard more > 0 else { return [UInt8(value)] }
        var bytes = (0..<more).map { UInt8(0x80 | value >> UInt32(6 * $0) & 0x3F) }
        bytes.append(UInt8([0, 0xC0, 0xE0, 0xF0][more]) | UInt8(value >> UInt32(6 * more)))
        return bytes.reversed()
    }

    /// Cuts what lies between two forms of one length into products of ranges.
    private static func split(
        _ low: [UInt8], _ high: [UInt8], _ forms: inout [[ClosedRange<UInt8>]]
    ) {
        guard low.count > 1 else { return forms.append([low[0]...high[0]]) }
        if low[0] == high[0] {
            var rest: [[ClosedRange<UInt8>]] = []
            split(Array(low.dropFirst()), Array(high.dropFirst()), &rest)
            forms += rest.map { [low[0]...low[0]] + $0 }
            return
        }
        let (lows, highs) = (low.dropFirst(), high.dropFirst())
        var (first, last) = (low[0], high[0])
        if lows.contains(where: { $0 != 0x80 }) {
            split(low, [low[0]] + lows.map { _ in 0xBF }, &forms)
            first += 1
        }
        let cutsEnd = highs.contains { $0 != 0xBF }
        if cutsEnd { last -= 1 }
        if first <= last {
            forms.append([first...last] + lows.map { _ in 0x80...0xBF })
        }
        if cutsEnd { split([high[0]] + highs.map { _ in 0x80 }, high, &forms) }
    }
}
