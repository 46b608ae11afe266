// SPDX-License-Identifier: Apache-2.0

import CLinux
import Synchronization

/// Lets one message a second through, so that a client that is refused over and over does not fill the log.
final class LogLimit: Sendable {
    private struct State {
        var last: UInt64?
        var held = 0
    }
    private let state = Mutex(State())

    /// - Returns: how many were held back since the last one, or `nil` to hold this one back too.
    func pass(now: UInt64 = cl_monotonic_nanoseconds()) -> Int? {
        state.withLock { state in
            if let last = state.last, now &- last < 1_000_000_000 {
                state.held += 1
                return nil
            }
            defer { state = State(last: now) }
            return state.held
        }
    }
}
