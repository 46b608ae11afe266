// SPDX-License-Identifier: Apache-2.0

import Glibc

/// How many questions of a task were answered right, as lm-evaluation-harness counts.
struct EvalScore: Equatable {
    private(set) var count = 0
    private(set) var right = 0
    /// By log-probability a character.
    private(set) var rightByLength = 0

    mutating func add(_ logProbabilities: [Double], _ question: EvalQuestion) {
        count += 1
        if Self.best(logProbabilities) == question.right { right += 1 }
        let scaled = zip(logProbabilities, question.lengths).map { $0 / Double($1) }
        if Self.best(scaled) == question.right { rightByLength += 1 }
    }

    /// The first of the largest, as NumPy's argmax.
    static func best(_ values: [Double]) -> Int {
        values.indices.max { values[$0] < values[$1] || values[$0] == values[$1] && $0 > $1 } ?? 0
    }

    var accuracy: Double { Double(right) / Double(max(1, count)) }
    var normAccuracy: Double { Double(rightByLength) / Double(max(1, count)) }

    /// The standard error of a mean of zeros and ones, by the sample's standard deviation; nil of fewer than two.
    func error(_ right: Int) -> Double? {
        guard count > 1 else { return nil }
        let (n, k) = (Double(count), Double(right))
        let mean = k / n
        let squares = k * (1 - mean) * (1 - mean) + (n - k) * mean * mean
        return sqrt(squares / (n - 1)) / sqrt(n)
    }
}
