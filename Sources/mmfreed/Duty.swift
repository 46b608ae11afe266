// SPDX-License-Identifier: Apache-2.0

import CLinux
import Logging
import RPC
import Serving
import SystemdSupport

/// Something the main thread does from time to time.
protocol Duty: AnyObject {
    /// When it is due next, on CLOCK_MONOTONIC in nanoseconds.
    var due: UInt64 { get }
    /// Does it. `false` ends the daemon.
    func perform() -> Bool
}

extension Duration {
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0 else { return 0 }
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max >> 1 : product + UInt64(attoseconds) / 1_000_000_000
    }
}

/// Feeds the watchdog while the decode thread goes round: every turn of it, asked for twice an interval, proves that it does.
final class DecodeWatchdog: Duty {
    private let service: ServingService
    private let notifier: Notifier
    private let half: UInt64
    private let logger: Logger
    private var last: UInt64
    private(set) var due: UInt64

    init(_ service: ServingService, _ notifier: Notifier, interval: Duration, _ logger: Logger) {
        self.service = service
        self.notifier = notifier
        self.logger = logger
        half = (interval / 2).nanoseconds
        due = cl_monotonic_nanoseconds() + half
        last = service.progress
        service.nudge()
    }

    func perform() -> Bool {
        let now = service.progress
        if now != last {
            notifier.watchdog()
        } else {
            logger.warning(
                "the decode thread has not gone round for \(half / 1_000_000) ms",
                metadata: ["message-id": "\(Event.stalled)"])
        }
        last = now
        service.nudge()
        due = cl_monotonic_nanoseconds() + half
        return true
    }
}

/// Feeds the watchdog of a daemon that only refuses.
final class Heartbeat: Duty {
    private let notifier: Notifier
    private let half: UInt64
    private(set) var due: UInt64 = 0

    init(_ notifier: Notifier, interval: Duration) {
        self.notifier = notifier
        half = (interval / 2).nanoseconds
    }

    func perform() -> Bool {
        notifier.watchdog()
        due = cl_monotonic_nanoseconds() + half
        return true
    }
}

/// Ends the daemon when nobody has asked it anything for long; the socket unit starts it again.
final class IdleExit: Duty {
    /// What there was to do: calls so far, and those whose answers are not complete or not read.
    struct Work {
        let begun: UInt64
        let open: Int
    }

    private let limit: Duration
    private let logger: Logger
    private let work: () -> Work
    private var seen: UInt64
    private(set) var due: UInt64

    init(limit: Duration, _ logger: Logger, work: @escaping () -> Work) {
        self.limit = limit
        self.logger = logger
        self.work = work
        seen = work().begun
        due = cl_monotonic_nanoseconds() + limit.nanoseconds
    }

    func perform() -> Bool {
        let now = work()
        defer { seen = now.begun }
        due = cl_monotonic_nanoseconds() + limit.nanoseconds
        guard now.begun == seen, now.open == 0 else { return true }
        logger.info("nobody has asked for anything for \(limit): ending")
        return false
    }
}
