// SPDX-License-Identifier: Apache-2.0

import CoreMetrics
import Synchronization

/// One series: a metric with values for its labels. Any thread may add to it.
final class MetricSeries: CounterHandler, FloatingPointCounterHandler, RecorderHandler, TimerHandler
{
    struct Value: Sendable {
        /// Of a counter or a gauge; the sum of a histogram, in seconds.
        var number: Double = 0
        /// Of a counter of whole things, which a double would not keep beyond 2⁵³.
        var count: UInt64 = 0
        /// Of a histogram, for each bound and for what is above them all.
        var buckets: [UInt64] = []
    }

    let dimensions: [(String, String)]
    private let bounds: [Double]
    private let state: Mutex<Value>

    init(_ kind: MetricDefinition.Kind, _ dimensions: [(String, String)]) {
        self.dimensions = dimensions
        if case .histogram(let bounds) = kind { self.bounds = bounds } else { bounds = [] }
        state = Mutex(
            Value(buckets: bounds.isEmpty ? [] : .init(repeating: 0, count: bounds.count + 1)))
    }

    var value: Value { state.withLock { $0 } }

    func increment(by amount: Int64) {
        state.withLock { $0.count &+= UInt64(clamping: amount) }
    }

    func increment(by amount: Double) { state.withLock { $0.number += amount } }

    func reset() {
        state.withLock { state in
            state = Value(buckets: .init(repeating: 0, count: state.buckets.count))
        }
    }

    func record(_ value: Int64) { record(Double(value)) }
    func record(_ value: Double) { state.withLock { $0.number = value } }

    func recordNanoseconds(_ duration: Int64) {
        let seconds = Double(max(0, duration)) / 1e9
        let bucket = bounds.firstIndex { seconds <= $0 } ?? bounds.count
        state.withLock { state in
            state.number += seconds
            state.buckets[bucket] += 1
        }
    }
}
