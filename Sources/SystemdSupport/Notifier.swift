// SPDX-License-Identifier: Apache-2.0

import CSystemd
import Glibc

/// Tells the service manager how the service is. Outside of a service every call does nothing. See sd_notify(3).
package struct Notifier: Sendable {
    /// Whether somebody listens.
    package let isActive: Bool

    package init() { isActive = getenv("NOTIFY_SOCKET") != nil }

    /// The service answers; `status` is what `systemctl status` shows.
    package func ready(status: String? = nil) { send("READY=1", status) }

    package func status(_ status: String) { send(nil, status) }

    /// A reload has begun. It ends with `ready`.
    package func reloading() {
        send("RELOADING=1\nMONOTONIC_USEC=\(Self.monotonicMicroseconds)", nil)
    }

    package func stopping(status: String? = nil) { send("STOPPING=1", status) }

    /// Starting or stopping is still under way and needs up to this much longer, counted from now.
    package func extendTimeout(by duration: Duration) {
        send("EXTEND_TIMEOUT_USEC=\(duration.microseconds)", nil)
    }

    /// The service lives.
    package func watchdog() { send("WATCHDOG=1", nil) }

    private func send(_ state: String?, _ status: String?) {
        guard isActive, let text = Self.message(state, status) else { return }
        // Nothing can be done if the manager does not listen.
        _ = sd_notify(0, text)
    }

    /// Assignments, one a line. A line break in the status would begin another one.
    static func message(_ state: String?, _ status: String?) -> String? {
        var lines: [String] = []
        if let state { lines.append(state) }
        if let status {
            lines.append("STATUS=" + status.harmless())
        }
        return lines.isEmpty ? nil : lines.joined(separator: "\n")
    }

    private static var monotonicMicroseconds: UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1000
    }
}

/// The time within which the service manager wants a sign of life.
package enum Watchdog {
    /// - Returns: `nil` if the manager does not watch this process.
    package static func interval() -> Duration? {
        var microseconds: UInt64 = 0
        guard sd_watchdog_enabled(0, &microseconds) > 0 else { return nil }
        return .microseconds(Int64(clamping: microseconds))
    }
}

extension Duration {
    /// Whole microseconds, at the type's limit where there are more.
    var microseconds: Int64 {
        let (product, overflow) = components.seconds.multipliedReportingOverflow(by: 1_000_000)
        if overflow { return components.seconds < 0 ? .min : .max }
        let (sum, over) = product.addingReportingOverflow(
            components.attoseconds / 1_000_000_000_000)
        return over ? .max : sum
    }
}
