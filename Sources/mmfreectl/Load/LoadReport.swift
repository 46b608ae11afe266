// SPDX-License-Identifier: Apache-2.0

import Glibc

func logarithm(_ value: Double) -> Double { Glibc.log(value) }

/// What a run's samples say.
struct LoadReport {
    let samples: [LoadSample]
    /// Of the same clients one at a time.
    let alone: [LoadSample]
    /// Seconds; of the daemon's turns while the samples were taken, if the caller may know.
    let meanTurn: Double?

    private var good: [LoadSample] { samples.filter { $0.error == nil } }

    var rows: [BenchRow] {
        var rows = [
            BenchRow("requests", Double(samples.count), "", nil, nil),
            BenchRow("failed", Double(samples.count - good.count), "", nil, nil),
        ]
        let solo = Self.throughput(alone)
        if let batched = Self.throughput(samples) {
            rows.append(
                BenchRow(
                    "throughput", batched, "tok/s", solo.map { batched / $0 }, "of one at a time"))
        }
        if let solo { rows.append(BenchRow("one at a time", solo, "tok/s", nil, nil)) }
        if let rate = Self.commonRate(samples) {
            rows.append(BenchRow("decode, all clients at once", rate, "tok/s", nil, nil))
        }
        let firsts = good.compactMap(\.firstToken)
        let gaps = good.flatMap(\.gaps)
        for (name, values) in [("time to first token", firsts), ("time per token", gaps)] {
            for percent in [50, 95, 99] where !values.isEmpty {
                let value = Self.percentile(values, percent)
                let isLast = name == "time per token" && percent == 99
                rows.append(
                    BenchRow(
                        "\(name), p\(percent)", value * 1e3, "ms",
                        isLast ? meanTurn.map { value / $0 } : nil,
                        isLast && meanTurn != nil ? "of the mean turn" : nil))
            }
        }
        if let meanTurn { rows.append(BenchRow("mean turn", meanTurn * 1e3, "ms", nil, nil)) }
        let cached = good.reduce(0) { $0 + $1.cachedTokens }
        let prompt = good.reduce(0) { $0 + $1.promptTokens }
        rows.append(
            BenchRow(
                "cached prompt tokens", Double(cached), "",
                prompt > 0 ? Double(cached) / Double(prompt) : nil, "of the prompts"))
        rows.append(
            BenchRow(
                "fairness of clients", Self.fairness(samples) { "\($0.account) \($0.client)" },
                "(Jain's index)", nil, nil))
        if Set(samples.map(\.account)).count > 1 {
            rows.append(
                BenchRow(
                    "fairness of accounts", Self.fairness(samples, by: \.account),
                    "(Jain's index)", nil, nil))
        }
        return rows
    }

    /// Tokens a second from the first request to the last token.
    static func throughput(_ samples: [LoadSample]) -> Double? {
        guard let start = samples.map(\.start).min(), let end = samples.map(\.end).max(),
            end > start
        else { return nil }
        return Double(samples.reduce(0) { $0 + $1.tokens.count }) / (end - start)
    }

    /// Tokens a second while the first request of every client is being answered: nobody's prompt is read then.
    static func commonRate(_ samples: [LoadSample]) -> Double? {
        var firsts: [String: LoadSample] = [:]
        for sample in samples {
            let client = "\(sample.account) \(sample.client)"
            if firsts[client].map({ sample.start < $0.start }) ?? true { firsts[client] = sample }
        }
        let (begins, ends) = (firsts.values.map(\.tokens.first), firsts.values.map(\.tokens.last))
        guard begins.allSatisfy({ $0 != nil }), let begin = begins.compactMap({ $0 }).max(),
            let end = ends.compactMap({ $0 }).min(), end > begin
        else { return nil }
        let count = firsts.values.reduce(0) { sum, sample in
            sum + sample.tokens.count { $0 > begin && $0 <= end }
        }
        return Double(count) / (end - begin)
    }

    /// The smallest value that is not below `percent` of them (nearest rank).
    static func percentile(_ values: [Double], _ percent: Int) -> Double {
        let sorted = values.sorted()
        return sorted[max(0, (sorted.count * percent + 99) / 100 - 1)]
    }

    /// (Σx)² / (n Σx²) of the tokens that each has got while all have requests open: 1 if all have the same, 1/n if one has all.
    static func fairness(_ samples: [LoadSample], by key: (LoadSample) -> String) -> Double {
        let groups = Dictionary(grouping: samples, by: key)
        let end = groups.values.compactMap { $0.map(\.end).max() }.min() ?? 0
        let shares = groups.values.map { group in
            Double(group.reduce(0) { sum, sample in sum + sample.tokens.count { $0 <= end } })
        }
        let (sum, squares) = (shares.reduce(0, +), shares.reduce(0) { $0 + $1 * $1 })
        return squares > 0 ? sum * sum / (Double(shares.count) * squares) : 0
    }

    // MARK: For other programs, and for the eye

    /// A line for each request.
    var csv: String {
        samples.sorted { ($0.start, $0.client) < ($1.start, $1.client) }.reduce(
            "account,client,start_s,first_token_ms,tokens,duration_ms,longest_gap_ms,prompt_tokens,cached_tokens,error\n"
        ) { text, sample in
            let first = sample.firstToken.map { String(printf: "%.3f", $0 * 1e3) } ?? ""
            let gap = sample.gaps.max().map { String(printf: "%.3f", $0 * 1e3) } ?? ""
            let error = (sample.error ?? "").filter { $0 != "," && $0 != "\n" && $0 != "\"" }
            return text + "\(sample.account),\(sample.client),"
                + String(printf: "%.4f", sample.start)
                + ",\(first),\(sample.tokens.count),"
                + String(printf: "%.3f", (sample.end - sample.start) * 1e3)
                + ",\(gap),\(sample.promptTokens),\(sample.cachedTokens),\(error)\n"
        }
    }

    /// How often which time per token came, a bar for each doubling.
    var plot: String {
        let gaps = good.flatMap(\.gaps).map { $0 * 1e3 }
        guard !gaps.isEmpty else { return "" }
        let bins = Dictionary(grouping: gaps) { Int(Glibc.floor(Glibc.log2(max($0, 1e-3)))) }
            .mapValues(\.count)
        let (low, high) = (bins.keys.min() ?? 0, bins.keys.max() ?? 0)
        let most = bins.values.max() ?? 1
        var text = "time per token\n"
        for bin in low...high {
            let count = bins[bin] ?? 0
            let share = Double(count) / Double(gaps.count)
            text +=
                String(printf: "%9.3g ms ", Glibc.exp2(Double(bin)))
                + String(repeating: "#", count: (count * 50 + most - 1) / most)
                + String(printf: " %.1f %%\n", share * 100)
        }
        return text
    }
}
