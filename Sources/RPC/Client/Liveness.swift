// SPDX-License-Identifier: Apache-2.0

/// How long a client waits for a daemon that says nothing. Nanoseconds.
package struct Patience: Sendable {
    /// Silence after which a daemon that owes an answer is asked for its health.
    package var silence: UInt64 = 10_000_000_000
    /// Silence after that question with which the connection is given up.
    package var answer: UInt64 = 20_000_000_000
    /// How much longer than the deadline that the daemon was given a call is waited for.
    package var grace: UInt64 = 5_000_000_000

    package init() {}
}

/// Tells a daemon that is busy from one that is stopped or hangs. Pure logic; times are monotonic nanoseconds.
struct Liveness {
    enum Step: Equatable {
        /// Check again after this time.
        case wait(UInt64)
        /// Ask for its health, and check again after `Patience.answer`.
        case ask
        case dead
    }

    private let patience: Patience
    private var heard: UInt64 = 0
    private var asked: UInt64?

    init(_ patience: Patience) { self.patience = patience }

    /// Something came, whatever it was.
    mutating func hear(now: UInt64) { (heard, asked) = (now, nil) }

    mutating func check(now: UInt64) -> Step {
        let end = asked.map { $0 + patience.answer } ?? (heard + patience.silence)
        guard now >= end else { return .wait(end - now) }
        guard asked == nil else { return .dead }
        asked = now
        return .ask
    }
}
