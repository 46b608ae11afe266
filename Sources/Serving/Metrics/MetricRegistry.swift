// SPDX-License-Identifier: Apache-2.0
//
// What swift-metrics' counters, timers and gauges write to, and the text that Prometheus reads (exposition format 0.0.4).
// Nothing grows without bound: a metric has at most `limit` series, and what comes later counts into one whose labels are all
// "other", so that sums stay right.

package import CoreMetrics
import Synchronization

package final class MetricRegistry: MetricsFactory {
    private struct Metric {
        let definition: MetricDefinition
        var series: [String: MetricSeries] = [:]
    }

    private let metrics: Mutex<[String: Metric]>
    private let limit: Int
    static let other = "other"

    /// - Parameter limit: series of one metric: 96 of a histogram take some 300 kB of text, of a frame's 4 MiB.
    package init(_ definitions: [MetricDefinition] = MetricDefinition.all, limit: Int = 96) {
        self.limit = limit
        metrics = Mutex(
            Dictionary(uniqueKeysWithValues: definitions.map { ($0.label, Metric(definition: $0)) })
        )
    }

    private func series(_ label: String, _ dimensions: [(String, String)]) -> MetricSeries {
        metrics.withLock { metrics in
            guard var metric = metrics[label] else { preconditionFailure("no metric \(label)") }
            var dimensions = dimensions
            var key = Self.labels(dimensions)
            if let known = metric.series[key] { return known }
            if metric.series.count >= limit {
                dimensions = dimensions.map { ($0.0, Self.other) }
                key = Self.labels(dimensions)
                if let known = metric.series[key] { return known }
            }
            let made = MetricSeries(metric.definition.kind, dimensions)
            metric.series[key] = made
            metrics[label] = metric
            return made
        }
    }

    package func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        series(label, dimensions)
    }

    package func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler { series(label, dimensions) }

    package func makeRecorder(
        label: String, dimensions: [(String, String)], aggregate: Bool
    ) -> any RecorderHandler { series(label, dimensions) }

    package func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        series(label, dimensions)
    }

    // Series live as long as the daemon.
    package func destroyCounter(_: any CounterHandler) {}
    package func destroyFloatingPointCounter(_: any FloatingPointCounterHandler) {}
    package func destroyRecorder(_: any RecorderHandler) {}
    package func destroyTimer(_: any TimerHandler) {}

    // MARK: The exposition

    /// - Parameter account: whose series are shown, and no sums over all; `nil` for everything.
    package func exposition(account: String? = nil) -> String {
        let metrics = metrics.withLock {
            $0.values.sorted { $0.definition.name < $1.definition.name }
        }
        var text = ""
        for metric in metrics {
            let shown = metric.series.sorted { $0.key < $1.key }.filter {
                Self.isVisible(metric.definition, $0.value, to: account)
            }
            guard !shown.isEmpty else { continue }
            let name = metric.definition.name
            text += "# HELP \(name) \(Self.escaped(metric.definition.help, quotes: false))\n"
            text += "# TYPE \(name) \(metric.definition.kind.name)\n"
            for (labels, series) in shown {
                Self.write(name, metric.definition.kind, labels, series.value, into: &text)
            }
        }
        return text
    }

    private static func isVisible(
        _ definition: MetricDefinition, _ series: MetricSeries, to account: String?
    ) -> Bool {
        guard let account else { return true }
        return switch definition.audience {
        case .everyone: true
        case .controllers: false
        case .account: series.dimensions.contains { $0 == ("account", account) }
        }
    }

    private static func write(
        _ name: String, _ kind: MetricDefinition.Kind, _ labels: String,
        _ value: MetricSeries.Value, into text: inout String
    ) {
        func line(_ suffix: String, _ more: String, _ number: String) {
            let all = [labels, more].filter { !$0.isEmpty }.joined(separator: ",")
            text += name + suffix + (all.isEmpty ? "" : "{\(all)}") + " \(number)\n"
        }
        guard case .histogram(let bounds) = kind else {
            let isWhole = value.count > 0 || value.number == 0
            return line("", "", isWhole ? "\(value.count)" : Self.number(value.number))
        }
        var below: UInt64 = 0
        for (index, count) in value.buckets.enumerated() {
            below += count
            let bound = index < bounds.count ? Self.number(bounds[index]) : "+Inf"
            line("_bucket", "le=\"\(bound)\"", "\(below)")
        }
        line("_sum", "", Self.number(value.number))
        line("_count", "", "\(below)")
    }

    /// As short as it can be read back exactly; whole numbers without a point, as in "le" of other libraries: 1, 2.5.
    private static func number(_ value: Double) -> String {
        let whole = Int64(exactly: value)
        return whole.map { "\($0)" } ?? "\(value)"
    }

    private static func labels(_ dimensions: [(String, String)]) -> String {
        dimensions.map { "\($0.0)=\"\(escaped($0.1, quotes: true))\"" }.joined(separator: ",")
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        guard text.utf8.contains(where: { $0 == 0x5C || $0 == 0x0A || $0 == 0x22 }) else {
            return text
        }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
