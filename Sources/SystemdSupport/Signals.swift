// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc

/// The signals the main thread waits for. They are blocked in every thread, so that only a wait takes them.
package struct Signals: Sendable {
    private var set = sigset_t()

    /// Blocks `signals` in this thread and in those it starts from now on.
    package init(_ signals: [Int32]) {
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// The next signal, or `nil` when the time has come.
    ///
    /// - Parameter until: on CLOCK_MONOTONIC, in nanoseconds; `nil` for ever.
    package func wait(until: UInt64?) -> Int32? {
        var set = set
        guard let until else {
            while true {
                let signal = sigwaitinfo(&set, nil)
                if signal > 0 { return signal }
            }
        }
        while true {
            let now = cl_monotonic_nanoseconds()
            let left = until > now ? until - now : 0
            var time = timespec(
                tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
            let signal = sigtimedwait(&set, nil, &time)
            if signal > 0 { return signal }
            if errno == EAGAIN { return nil }
        }
    }
}
