// SPDX-License-Identifier: Apache-2.0

/// Which failed calls a client makes again by itself.
///
/// A call is repeated only if that changes nothing but the answer (not ``Client/cancel(_:timeout:)``, ``Client/reload(timeout:)``
/// and others that change the daemon), if the error says when (``MMFreeError/retryAfter``), and, for an answer that comes in
/// parts, only while its consumer has seen none of it.
public struct RetryPolicy: Sendable, Equatable {
    /// How often a call is made at most, the first time included.
    public var attempts: Int
    /// Errors that ask for more patience than this are reported at once.
    public var longestWait: Duration

    /// Every error is reported.
    public static let never = RetryPolicy(attempts: 1, longestWait: .zero)

    /// Calls that may be repeated are, up to so many attempts in all.
    public static func idempotent(
        attempts: Int, longestWait: Duration = .seconds(30)
    ) -> RetryPolicy {
        RetryPolicy(attempts: max(1, attempts), longestWait: longestWait)
    }

    /// How long to wait before the next attempt; `nil`: there is none.
    func wait(after error: MMFreeError, attempt: Int) -> Duration? {
        guard attempt < attempts, let wait = error.retryAfter, wait <= longestWait else {
            return nil
        }
        return wait
    }
}
