// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc

/// What `bench --tune` advises, as a value: measurements in, choice out.
struct TuningChoice {
    /// One way to compute: the kernels and how their work is cut.
    struct Candidate: Hashable {
        let kernels: String
        let tuning: Tuning
        /// What is other than in the choice now.
        let name: String
    }

    /// What is timed: so many sequences decoded at once, or a prompt.
    enum Work: Hashable, CustomStringConvertible {
        case decode(Int)
        case prompt(Int)

        var description: String {
            switch self {
            case .decode(let rows): "decode, batch \(rows)"
            case .prompt(let length): "prompt of \(length)"
            }
        }

        var tokens: Int {
            switch self {
            case .decode(let rows): rows
            case .prompt(let length): length
            }
        }
    }

    /// Speeds less than so much apart are the same; and a candidate is faster only if it was in so many of the rounds.
    static let least = 1.02
    static let mostRounds = 0.75

    let now: Candidate
    let works: [Work]
    /// Of each candidate and work, a round's speed as a multiple of the choice now's.
    private var ratios: [Candidate: [Work: [Double]]] = [:]

    init(now: Candidate, works: [Work]) { (self.now, self.works) = (now, works) }

    /// Takes what a round has found.
    ///
    /// - Parameter ratio: the candidate's speed as a multiple of the choice now's.
    mutating func add(_ ratio: Double, of candidate: Candidate, _ work: Work) {
        ratios[candidate, default: [:]][work, default: []].append(ratio)
    }

    /// The median of all rounds.
    func ratio(_ candidate: Candidate, _ work: Work) -> Double {
        ratios[candidate]?[work].map(BenchRun.median) ?? .nan
    }

    /// Geometric mean over all works.
    private func gain(_ candidate: Candidate) -> Double {
        var product = 1.0
        for work in works { product *= ratio(candidate, work) }
        return works.isEmpty ? 1 : pow(product, 1 / Double(works.count))
    }

    private func isFaster(_ candidate: Candidate) -> Bool {
        let rounds = ratios[candidate]?.values.map(\.count).min() ?? 0
        let won = (0..<rounds).count { round in
            works.reduce(1) { $0 * (ratios[candidate]?[$1]?[round] ?? 0) } > 1
        }
        return gain(candidate) >= Self.least && Double(won) >= Self.mostRounds * Double(rounds)
    }

    /// The choice now, with every part that alone was faster by `least` or more.
    func best(of candidates: [Candidate]) -> Candidate {
        var tuning = now.tuning
        let faster = candidates.filter { $0.kernels == now.kernels && isFaster($0) }
        for candidate in faster.sorted(by: { gain($0) < gain($1) }) {
            let other = candidate.tuning
            if other.shares != now.tuning.shares { tuning.shares = other.shares }
            if other.fewRowsBytes != now.tuning.fewRowsBytes {
                tuning.fewRowsBytes = other.fewRowsBytes
            }
            if other.manyRowsBytes != now.tuning.manyRowsBytes {
                tuning.manyRowsBytes = other.manyRowsBytes
            }
            if other.isFused != now.tuning.isFused { tuning.isFused = other.isFused }
        }
        return Candidate(kernels: now.kernels, tuning: tuning, name: "together")
    }

    /// What to do with it, a line for each choice that is faster.
    func advice(_ best: Candidate) -> String {
        var lines: [String] = []
        if best.tuning != now.tuning, isFaster(best) {
            lines.append(
                "\(String(printf: "%.3f", gain(best))) times as fast, all together: \(Tuning.variable)=\(best.tuning.text)"
            )
        }
        let others = ratios.keys.filter { $0.kernels != now.kernels && isFaster($0) }
        if let other = others.max(by: { gain($0) < gain($1) }) {
            lines.append(
                "\(String(printf: "%.3f", gain(other))) times as fast, with its own cut of the work: \(Kernels.variable)=\(other.kernels)"
            )
        }
        guard lines.isEmpty else { return lines.joined(separator: "\n") }
        return
            "Nothing was 2 % faster than what is chosen for this processor: \(now.tuning.text)."
    }
}
