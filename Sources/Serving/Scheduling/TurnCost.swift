// SPDX-License-Identifier: Apache-2.0

/// How long a batch of one model takes, by its rows, learnt from the batches there were. A value.
///
/// Kept for each size class is what a row takes; classes are 1, 2, 3–4, 5–8, … rows. The more rows a batch has the less each takes,
/// for they share the reading of the weights: what is learnt of one class is an upper bound for the larger ones and a lower bound
/// for the smaller ones. So a first batch of one row is enough to begin with, and an estimate that was spoilt (a model read from
/// the disk while it was timed) mends itself, from the small classes upward.
struct TurnCost {
    /// Nanoseconds a row, by class; what follows from others counts until the class itself has been seen.
    private var row: [Double]
    private var isSeen: [Bool]
    /// How much of a difference one batch makes that took longer, and one that took less: what is kept is nearer to the slowest
    /// batches than to the mean, for the time of a turn is a bound.
    private static let (rise, fall) = (1.0 / 4, 1.0 / 16)
    private static let classes = 16

    init() {
        row = Array(repeating: .infinity, count: Self.classes)
        isSeen = Array(repeating: false, count: Self.classes)
    }

    private static func sizeClass(_ rows: Int) -> Int {
        min(classes - 1, Int.bitWidth - (rows - 1).leadingZeroBitCount)
    }
    private static func least(_ index: Int) -> Int { index == 0 ? 1 : (1 << (index - 1)) + 1 }
    private static func most(_ index: Int) -> Int { 1 << (index == classes - 1 ? 32 : index) }

    /// Nothing has been learnt yet.
    var isUnknown: Bool { !isSeen.contains(true) }

    /// Nanoseconds that a row takes in a large batch; `nil` while nothing is known.
    var perRow: Double? { isUnknown ? nil : row[Self.classes - 1] }

    /// Nanoseconds that a batch of so many rows takes: what that many would take in their class, but no more than the smallest
    /// batch of a larger one. Rises with the rows. 0 while nothing is known.
    func time(_ rows: Int) -> Double {
        guard rows > 0, !isUnknown else { return 0 }
        return (Self.sizeClass(rows)..<Self.classes)
            .reduce(.infinity) { min($0, row[$1] * Double(max(rows, Self.least($1)))) }
    }

    /// The most rows that take no longer than `time` nanoseconds, at most `limit`.
    func rows(within time: Double, limit: Int) -> Int {
        guard !isUnknown else { return 0 }
        for index in (0..<Self.classes).reversed() {
            let count = Int(min(time / row[index], Double(Self.most(index))))
            if count >= Self.least(index) { return min(count, limit) }
        }
        return 0
    }

    /// A batch of `rows` rows has taken so long. One that took very long, when the machine was busy with other things, changes little.
    mutating func learn(_ rows: Int, nanoseconds: UInt64) {
        guard rows > 0 else { return }
        let index = Self.sizeClass(rows)
        let seen = max(1, Double(nanoseconds) / Double(rows))
        let difference = min(seen, 2 * row[index]) - row[index]
        row[index] =
            isSeen[index]
            ? row[index] + difference * (difference > 0 ? Self.rise : Self.fall) : seen
        isSeen[index] = true
        for smaller in 0..<index {
            row[smaller] = isSeen[smaller] ? max(row[smaller], row[index]) : row[index]
        }
        for larger in index + 1..<Self.classes { row[larger] = min(row[larger], row[index]) }
    }
}
