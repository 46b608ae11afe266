// SPDX-License-Identifier: Apache-2.0

/// Why a daemon cannot be reached, or what it answered.
package enum ClientError: Error, Equatable, CustomStringConvertible {
    /// Nothing is at the path.
    case noSocket(String)
    /// A socket is there, but nobody listens.
    case refused(String)
    /// The socket's permissions keep this user out.
    case notAllowed(String)
    /// Too many others wait to be let in.
    case queueFull(String)
    case cannotConnect(String, String)
    /// The connection broke before the answer was complete, or had broken before the call.
    case disconnected
    /// Nothing came from the daemon for this long, not even an answer to a question for its health: it is stopped or hangs.
    case unresponsive(seconds: Double)
    /// The daemon did not answer in time.
    case timeout
    /// The caller cancelled the call, or closed the connection.
    case cancelled
    /// The answer makes no sense.
    case garbled(String)
    case rpc(RPCError)

    package var description: String {
        switch self {
        case .noSocket(let path): "no daemon is listening on \(path)"
        case .refused(let path): "the daemon that made \(path) is gone"
        case .notAllowed(let path): "permission denied on \(path)"
        case .queueFull(let path): "too many clients are waiting to connect to \(path)"
        case .cannotConnect(let path, let why): "cannot connect to \(path): \(why)"
        case .disconnected: "the daemon closed the connection before it had answered"
        case .unresponsive(let seconds):
            "nothing came from the daemon for \(seconds) s: it is stopped or hangs"
        case .timeout: "the daemon did not answer in time"
        case .cancelled: "the call was cancelled"
        case .garbled(let what): "the daemon's answer makes no sense: \(what)"
        case .rpc(let error): error.message
        }
    }

    /// Whether the same call may succeed later. No call leaves anything behind, so all may be repeated.
    package enum Retry: Equatable, Sendable {
        case never
        /// On this connection, after so many nanoseconds.
        case after(UInt64)
        /// On a new connection, after so many nanoseconds.
        case reconnect(after: UInt64)
    }

    package var retry: Retry {
        switch self {
        case .notAllowed, .garbled, .cancelled, .timeout: return .never
        case .queueFull, .disconnected: return .reconnect(after: 100_000_000)
        case .noSocket, .refused, .cannotConnect, .unresponsive:
            return .reconnect(after: 1_000_000_000)
        case .rpc(let error):
            if let time = error.retryAfter {
                // The daemon is stopping: another one will listen.
                return error.code == .unavailable && error.reason == "DRAINING"
                    ? .reconnect(after: time) : .after(time)
            }
            return error.code == .unavailable ? .after(100_000_000) : .never
        }
    }
}
