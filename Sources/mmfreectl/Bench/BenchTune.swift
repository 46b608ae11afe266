// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import ModelStore

/// `bench --tune`: other ways to cut the work, each beside the one that is chosen now, in turns.
final class BenchTune {
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

    private let model: Model
    private let workers: WorkerPool
    private let states: StatePool
    private let works: [Work]
    let now: Candidate
    private var evaluators: [Candidate: Evaluator] = [:]
    /// Of each candidate and work, a round's speed as a multiple of the choice now's.
    private var ratios: [Candidate: [Work: [Double]]] = [:]
    private var speeds: [Work: [Double]] = [:]

    init(_ file: PackedFile, _ options: LocalOptions, batches: [Int], prompts: [Int]) throws {
        model = try options.model(file)
        workers = options.workers()
        let kernels = try options.table()
        now = Candidate(
            kernels: Kernels.name(of: kernels), tuning: try Tuning.fromEnvironment(kernels),
            name: "now")
        let context = model.memory.context ?? .max
        works = batches.map { .decode($0) } + prompts.map { .prompt(min($0, context)) }
        states = try StatePool(slots: max(1, batches.max() ?? 1), model: model)
    }

    var title: String {
        "\(now.kernels) kernels, \(workers.count) threads, \(now.tuning.text): speeds as multiples of it"
    }

    /// One thing changed at a time; and the next slower kernels as they are chosen elsewhere.
    static func candidates(besides now: Candidate, kernels runnable: [String]) throws -> [Candidate]
    {
        var found: [Candidate] = []
        func add(_ name: String, _ change: (inout Tuning) -> Void) {
            var tuning = now.tuning
            change(&tuning)
            guard tuning != now.tuning else { return }
            found.append(Candidate(kernels: now.kernels, tuning: tuning, name: name))
        }
        for shares in [1, 2, 3, 6, 12] { add("shares=\(shares)") { $0.shares = shares } }
        for size in [64, 160, 384, 1024] { add("few=\(size)K") { $0.fewRowsBytes = size << 10 } }
        for size in [128, 256, 512, 1024, 2048] {
            add("many=\(size)K") { $0.manyRowsBytes = size << 10 }
        }
        add(now.tuning.isFused ? "fused=no" : "fused=yes") { $0.isFused.toggle() }
        for name in runnable.reversed().prefix(4) where name != now.kernels && name != "scalar" {
            found.append(
                Candidate(
                    kernels: name, tuning: Tuning(try Kernels.select(name)), name: "\(name) kernels"
                ))
        }
        return found
    }

    /// Measures every candidate beside the choice now, once for each work.
    func round(_ candidates: [Candidate], isOdd: Bool, counts: Bool, _ done: (Int) -> Void) throws {
        for (index, candidate) in candidates.enumerated() {
            done(index)
            for work in works {
                // Whoever is first finds the caches as the other one left them: take turns.
                let first = try time(isOdd ? now : candidate, work)
                let second = try time(isOdd ? candidate : now, work)
                guard counts else { continue }
                let (ours, its) = isOdd ? (first, second) : (second, first)
                ratios[candidate, default: [:]][work, default: []].append(ours / its)
                speeds[work, default: []].append(Double(work.tokens) * 1e9 / ours)
            }
        }
    }

    /// Nanoseconds of the fastest of a few runs, after one that fills the caches.
    private func time(_ candidate: Candidate, _ work: Work) throws -> Double {
        let evaluator = try evaluator(candidate)
        let wants: Wants = model.shape.hasHead ? .logits : .hidden
        let (rows, times) =
            switch work {
            case .decode(let count):
                ((0..<count).map { BatchRow(slot: $0, token: UInt32($0 + 3), wants: wants) }, 6)
            case .prompt(let length):
                (
                    (0..<length).map {
                        BatchRow(
                            slot: 0, token: UInt32($0 % 97),
                            wants: $0 == length - 1 ? wants : .nothing)
                    }, 2
                )
            }
        var fastest = UInt64.max
        for run in 0...times {
            for slot in Set(rows.map(\.to)) { states.reset(slot) }
            evaluator.resetTimings()
            try evaluator.run(rows, states: states)
            if run > 0 { fastest = min(fastest, evaluator.totalNanoseconds) }
        }
        return Double(fastest)
    }

    private func evaluator(_ candidate: Candidate) throws -> Evaluator {
        if let found = evaluators[candidate] { return found }
        let made = try Evaluator(
            model: model, workers: workers, maxRows: works.map(\.tokens).max() ?? 1,
            kernels: Kernels.select(candidate.kernels), tuning: candidate.tuning)
        evaluators[candidate] = made
        return made
    }

    // MARK: What was found

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

    func rows(_ candidates: [Candidate]) -> [BenchRow] {
        works.map {
            BenchRow("\($0)", BenchRun.median(speeds[$0] ?? []), "tok/s", nil, nil)
        }
            + candidates.flatMap { candidate in
                works.map {
                    BenchRow(
                        "\(candidate.name): \($0)", ratio(candidate, $0), "times", nil, nil)
                }
            }
    }

    func table(_ candidates: [Candidate]) -> String {
        var table = Table([""] + works.map { "\($0)" }, numeric: Set(1...max(1, works.count)))
        for candidate in candidates {
            table.add(
                [candidate.name]
                    + works.map { String(printf: "%.3f", ratio(candidate, $0)) })
        }
        return table.text
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
