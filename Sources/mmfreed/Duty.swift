// SPDX-License-Identifier: Apache-2.0

import CLinux
import Logging
import RPC
import Serving
import SystemdSupport

/// Something the main thread does from time to time.
protocol Duty: AnyObject {
    /// When it is due next, on CLOCK_MONOTONIC in nanoseconds; `nil` for never.
    var due: UInt64? { get }
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
    private(set) var due: UInt64?

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
    private(set) var due: UInt64? = 0

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

/// Ends the daemon when it has been idle for long; the socket unit starts it again.
final class IdleExit: Duty {
    /// The unit's StartLimitBurst is 20 a minute.
    private static let least: Duration = .seconds(5)

    /// `.zero` for never.
    var limit: Duration { didSet { if limit != oldValue { schedule() } } }
    private let logger: Logger
    private let clock: () -> UInt64
    /// Since when there has been nothing to do, on `clock`; `nil` while a connection is open or an answer not written.
    private let idleSince: () -> UInt64?
    /// Leaves new connections to the next daemon; `false` if one has come.
    private let stopAccepting: () -> Bool
    private(set) var due: UInt64?

    init(
        limit: Duration, _ logger: Logger,
        clock: @escaping () -> UInt64 = { cl_monotonic_nanoseconds() },
        idleSince: @escaping () -> UInt64?, stopAccepting: @escaping () -> Bool = { true }
    ) {
        self.limit = limit
        self.logger = logger
        self.clock = clock
        self.idleSince = idleSince
        self.stopAccepting = stopAccepting
        schedule()
    }

    private func schedule() { schedule(since: idleSince()) }

    /// Due when the time is over if nothing happens before.
    private func schedule(since: UInt64?) {
        due = limit > .zero ? (since ?? clock()) &+ max(limit, Self.least).nanoseconds : nil
    }

    func perform() -> Bool {
        let since = idleSince()
        schedule(since: since)
        guard since != nil, let due, due <= clock(), stopAccepting() else { return true }
        self.due = nil
        logger.info("no connection has been open for \(max(limit, Self.least)): ending")
        return false
    }
}
