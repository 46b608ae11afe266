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
    /// The connection broke before the answer was complete.
    case disconnected
    /// The daemon did not answer in time.
    case timeout
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
        case .timeout: "the daemon did not answer in time"
        case .garbled(let what): "the daemon's answer makes no sense: \(what)"
        case .rpc(let error): error.message
        }
    }
}
