// SPDX-License-Identifier: Apache-2.0

import Glibc

/// How much time the daemon's turns have taken, out of its metrics.
struct TurnTime: Equatable {
    /// `nil` where the caller may not know.
    let seconds, count: Double?

    init(_ metrics: [UInt8]) {
        let lines = String(decoding: metrics, as: UTF8.self).split(separator: "\n")
        func value(_ name: String) -> Double? {
            lines.first { $0.hasPrefix(name + " ") }.flatMap {
                Double($0.dropFirst(name.count + 1))
            }
        }
        seconds = value("mmfreed_turn_duration_seconds_sum")
        count = value("mmfreed_turn_duration_seconds_count")
    }

    /// Seconds of a turn between two looks.
    func mean(since before: TurnTime) -> Double? {
        // A daemon that had no turn before tells of none.
        guard let seconds, let count, count > before.count ?? 0 else { return nil }
        return (seconds - (before.seconds ?? 0)) / (count - (before.count ?? 0))
    }
}
