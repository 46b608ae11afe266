// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@testable import mmfreectl

@Suite("load on a daemon")
struct LoadTests {
    private func plan(
        clients: Int = 3, requests: Int = 4, rate: Double? = nil, prompts: [Int] = [8],
        outputs: [Int] = [5], shared: Int = 0, seed: UInt64 = 1
    ) -> LoadPlan {
        LoadPlan(
            clients: clients, requests: requests, rate: rate, prompts: prompts, outputs: outputs,
            shared: shared, seed: seed, vocabulary: 1000)
    }

    @Test("a seed draws the same requests, another seed others; none has a special token")
    func seeds() {
        #expect(plan().requests == plan().requests)
        #expect(plan().requests != plan(seed: 2).requests)
        #expect(plan().requests.count == 12)
        #expect(plan().requests.allSatisfy { $0.prompt.allSatisfy { (3..<1000).contains($0) } })
        #expect(
            (0..<3).allSatisfy { client in
                plan().requests.count { $0.client == client } == 4
            })
    }

    @Test("arrivals of a Poisson process: as many a second as asked for, gaps exponential")
    func arrivals() {
        let requests = plan(clients: 10, requests: 2000, rate: 50).requests
        let times = requests.compactMap(\.arrival)
        #expect(times == times.sorted() && times.count == 20000)
        let gaps = zip(times.dropFirst(), times).map { $0 - $1 }
        let mean = gaps.reduce(0, +) / Double(gaps.count)
        #expect(abs(mean - 0.02) < 0.001)
        // Of an exponential distribution the deviation is the mean, and 1/e of the gaps are longer than it.
        let deviation = (gaps.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(gaps.count))
            .squareRoot()
        #expect(abs(deviation / mean - 1) < 0.05)
        #expect(abs(Double(gaps.count { $0 > mean }) / Double(gaps.count) - 0.368) < 0.02)
        #expect(plan().requests.allSatisfy { $0.arrival == nil })
    }

    @Test("lengths are drawn from the mix, and prompts share what they shall")
    func mix() {
        let requests = plan(
            requests: 200, prompts: [4, 64], outputs: [2, 300], shared: 32
        ).requests
        #expect(Set(requests.map(\.prompt.count)) == [4, 64])
        #expect(Set(requests.map(\.maxTokens)) == [2, 300])
        let long = requests.filter { $0.prompt.count == 64 }
        #expect(Set(long.map { Array($0.prompt.prefix(32)) }).count == 1)
        #expect(Set(long.map { Array($0.prompt.suffix(32)) }).count == long.count)
        #expect(Set(requests.map { Array($0.prompt.prefix(3)) }).count == 1)
    }

    private func sample(
        _ account: String, _ client: Int, _ start: Double, _ tokens: [Double],
        error: String? = nil
    ) -> LoadSample {
        LoadSample(
            account: account, client: client, start: start, end: tokens.last ?? start,
            tokens: tokens, promptTokens: 10, cachedTokens: 5, error: error)
    }

    @Test("Jain's index is 1 for equal shares and 1/n if one has all")
    func fairness() {
        let equal = [sample("a", 0, 0, [1, 2, 3, 4]), sample("b", 0, 0, [1, 2, 3, 4])]
        #expect(LoadReport.fairness(equal, by: \.account) == 1)
        let one = [sample("a", 0, 0, [1, 2, 3, 4]), sample("b", 0, 0, [], error: "x")]
        let late = LoadSample(account: "b", client: 0, start: 0, end: 4, tokens: [])
        #expect(LoadReport.fairness([one[0], late], by: \.account) == 0.5)
        // 3 and 1: 16 / (2 · 10). What comes after the first is done does not count.
        let uneven = [
            sample("a", 0, 0, [1, 2, 3]),
            LoadSample(account: "b", client: 0, start: 0, end: 9, tokens: [2, 5, 6, 7, 8]),
        ]
        #expect(LoadReport.fairness(uneven, by: \.account) == 0.8)
    }

    @Test("percentiles are values that came: nearest rank")
    func percentiles() {
        let values = (1...100).map(Double.init).shuffled()
        #expect([50, 95, 99].map { LoadReport.percentile(values, $0) } == [50, 95, 99])
        #expect(LoadReport.percentile([7], 99) == 7)
        #expect(LoadReport.percentile([1, 2], 50) == 1)
    }

    @Test("what is decoded while all clients decode, and the figures of a run")
    func report() {
        let samples = [
            sample("a", 0, 0, [1, 2, 3, 4, 5]), sample("a", 1, 0, [2.5, 3.5, 4.5, 5.5]),
            sample("a", 0, 6, [7, 8], error: nil),
        ]
        // Between 2.5 and 5: 3, 4, 5 of one and 3.5, 4.5 of the other.
        #expect(LoadReport.commonRate(samples) == 2)
        #expect(LoadReport.throughput(samples) == 11.0 / 8)
        let report = LoadReport(
            samples: samples, alone: [sample("a", 0, 0, [1, 2])], meanTurn: 0.5)
        let rows = Dictionary(uniqueKeysWithValues: report.rows.map { ($0.name, $0) })
        #expect(rows["throughput"]?.ratio == 1.375)
        #expect(rows["time to first token, p50"]?.value == 1000)
        #expect(rows["time per token, p99"]?.value == 1000)
        #expect(rows["time per token, p99"]?.ratio == 2)
        #expect(rows["cached prompt tokens"]?.ratio == 0.5)
        #expect(rows["failed"]?.value == 0)
        #expect(rows["fairness of accounts"] == nil)
        #expect(report.csv.split(separator: "\n").count == 4)
        #expect(report.plot.contains("#"))
    }

    @Test("a mean turn is of the time between two looks, and unknown to who may not see it")
    func turns() {
        func look(_ sum: Double, _ count: Int) -> TurnTime {
            TurnTime(
                Array(
                    "mmfreed_turn_duration_seconds_sum \(sum)\nmmfreed_turn_duration_seconds_count \(count)\n"
                        .utf8))
        }
        #expect(look(3, 30).mean(since: look(1, 10)) == 0.1)
        #expect(look(1, 10).mean(since: TurnTime([])) == 0.1)
        #expect(TurnTime([]).mean(since: TurnTime([])) == nil)
    }

    @Test("clients at once and one at a time, of one account and of several")
    func run() throws {
        try Program.withDaemon { environment in
            let line = [
                "bench", "--server", "--clients", "4", "--requests", "2", "--prompt-mix", "4,8",
                "--output-mix", "6", "--shared-prefix", "3",
            ]
            struct Row: Decodable {
                let name: String
                let value: Double
            }
            func rows(_ more: [String]) throws -> [String: Double] {
                let result = try Program.run(line + ["--json"] + more, environment: environment)
                #expect(result.status == 0, "\(result.errors)")
                return Dictionary(
                    uniqueKeysWithValues: try result.lines.map {
                        try JSONDecoder().decode(Row.self, from: Data($0.utf8))
                    }.map { ($0.name, $0.value) })
            }
            let one = try rows([])
            #expect(one["requests"] == 8 && one["failed"] == 0)
            #expect(one["throughput"] ?? 0 > 0 && one["one at a time"] ?? 0 > 0)
            #expect(one["mean turn"] ?? 0 > 0)
            #expect(one["time to first token, p99"] ?? 0 >= one["time to first token, p50"] ?? 0)
            let poisson = try rows(["--rate", "100"])
            #expect(poisson["requests"] == 8)
            try Program.withDirectory { directory in
                let file = directory + "/r.csv"
                let result = try Program.run(line + ["--csv", file], environment: environment)
                #expect(result.status == 0 && result.output.contains("time per token\n"))
                let text = try String(contentsOfFile: file, encoding: .utf8)
                #expect(text.split(separator: "\n").count == 9)
            }
            let unknown = try Program.run(line + ["-m", "nosuch"], environment: environment)
            #expect(unknown.status == 66 && unknown.errors.contains("nosuch"))
            if geteuid() == 0 {
                let nobody = try Program.run(
                    line + ["--accounts", "no-such-user"], environment: environment)
                #expect(nobody.status == 64 && nobody.errors.contains("no-such-user"))
            }
        }
    }
}
