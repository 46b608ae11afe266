// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import ModelStore

/// `bench --tune`: other ways to cut the work, each beside the one that is chosen now, in turns.
final class BenchTune {
    typealias Candidate = TuningChoice.Candidate

    private let model: Model
    private let workers: WorkerPool
    private let states: StatePool
    /// What was found so far.
    private(set) var choice: TuningChoice
    private var evaluators: [Candidate: Evaluator] = [:]
    private var speeds: [TuningChoice.Work: [Double]] = [:]

    init(_ file: PackedFile, _ options: LocalOptions, batches: [Int], prompts: [Int]) throws {
        model = try options.model(file)
        workers = options.workers()
        let kernels = try options.table()
        let context = model.memory.context ?? .max
        choice = TuningChoice(
            now: Candidate(
                kernels: Kernels.name(of: kernels), tuning: try Tuning.fromEnvironment(kernels),
                name: "now"),
            works: batches.map { .decode($0) } + prompts.map { .prompt(min($0, context)) })
        states = try StatePool(slots: max(1, batches.max() ?? 1), model: model)
    }

    var now: Candidate { choice.now }
    private var works: [TuningChoice.Work] { choice.works }

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
                choice.add(ours / its, of: candidate, work)
                speeds[work, default: []].append(Double(work.tokens) * 1e9 / ours)
            }
        }
    }

    /// Nanoseconds of the fastest of a few runs, after one that fills the caches.
    private func time(_ candidate: Candidate, _ work: TuningChoice.Work) throws -> Double {
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

    func rows(_ candidates: [Candidate]) -> [BenchRow] {
        works.map {
            BenchRow("\($0)", BenchRun.median(speeds[$0] ?? []), "tok/s", nil, nil)
        }
            + candidates.flatMap { candidate in
                works.map {
                    BenchRow(
                        "\(candidate.name): \($0)", choice.ratio(candidate, $0), "times", nil, nil)
                }
            }
    }

    func table(_ candidates: [Candidate]) -> String {
        var table = Table([""] + works.map { "\($0)" }, numeric: Set(1...max(1, works.count)))
        for candidate in candidates {
            table.add(
                [candidate.name]
                    + works.map { String(printf: "%.3f", choice.ratio(candidate, $0)) })
        }
        return table.text
    }
}
