// SPDX-License-Identifier: Apache-2.0

package import RPC

/// Why a call failed: the one type of error this library throws, besides `CancellationError` in a task that was cancelled.
public struct MMFreeError: Error, Equatable, Sendable, CustomStringConvertible {
    /// google.rpc.Code: what kind of failure it is. Later versions may use more.
    public struct Code: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
        public let rawValue: Int32
        public init(rawValue: Int32) { self.rawValue = rawValue }

        /// Somebody has cancelled the request, or closed the client.
        public static let cancelled = Code(rawValue: 1)
        public static let unknown = Code(rawValue: 2)
        /// The request makes no sense: ``MMFreeError/violations`` names the fields.
        public static let invalidArgument = Code(rawValue: 3)
        /// The time was up, here or in the daemon.
        public static let deadlineExceeded = Code(rawValue: 4)
        /// There is no such model or request.
        public static let notFound = Code(rawValue: 5)
        public static let alreadyExists = Code(rawValue: 6)
        public static let permissionDenied = Code(rawValue: 7)
        /// A queue or a quota is full, or a message too large.
        public static let resourceExhausted = Code(rawValue: 8)
        /// The model or the daemon must be mended first.
        public static let failedPrecondition = Code(rawValue: 9)
        public static let aborted = Code(rawValue: 10)
        public static let outOfRange = Code(rawValue: 11)
        /// The daemon is of a version that does not have this method.
        public static let unimplemented = Code(rawValue: 12)
        /// A bug, of the daemon or of this library.
        public static let `internal` = Code(rawValue: 13)
        /// No daemon, or it is stopping.
        public static let unavailable = Code(rawValue: 14)
        /// The model's file is damaged.
        public static let dataLoss = Code(rawValue: 15)
        public static let unauthenticated = Code(rawValue: 16)

        /// "INVALID_ARGUMENT".
        public var description: String { RPCCode(rawValue: rawValue)?.name ?? "CODE_\(rawValue)" }
    }

    /// A field of a request, and what is wrong with it.
    public struct Violation: Equatable, Sendable {
        /// As it is called on the wire: "top_p", "input[3]".
        public var field: String
        public var description: String
    }

    public var code: Code
    /// For people: names the thing, the place and the numbers.
    public var message: String
    /// For programs, in capitals: "QUEUE_FULL", "NO_SOCKET".
    public var reason: String?
    /// When the same call may succeed; `nil` if repeating it is of no use.
    public var retryAfter: Duration?
    public var violations: [Violation] = []
    /// Whether the daemon has answered; otherwise the failure is of the connection, or of this process.
    public var isFromDaemon = false

    package init(
        _ code: Code, _ message: String, reason: String? = nil, retryAfter: Duration? = nil
    ) {
        self.code = code
        self.message = message
        self.reason = reason
        self.retryAfter = retryAfter
    }

    static func invalid(_ field: String, _ description: String) -> MMFreeError {
        var error = MMFreeError(
            .invalidArgument, "\(field): \(description)", reason: "INVALID_FIELD")
        error.violations = [Violation(field: field, description: description)]
        return error
    }

    public var description: String { "\(code): \(message)" }
}

// MARK: The wire

extension MMFreeError {
    package init(_ error: RPCError) {
        self.init(Code(rawValue: error.code.rawValue), error.message, reason: error.reason)
        violations = error.violations.map {
            Violation(field: $0.field, description: $0.description)
        }
        isFromDaemon = true
    }

    package init(_ error: ClientError) {
        var (code, reason) = (Code.unavailable, "CANNOT_CONNECT")
        var message = "\(error)"
        switch error {
        case .noSocket: reason = "NO_SOCKET"
        case .refused: reason = "NOT_LISTENING"
        case .cannotConnect: break
        case .notAllowed:
            (code, reason) = (.permissionDenied, "SOCKET_PERMISSION")
            message +=
                ". Users of the daemon belong to the group mmfree: `sudo adduser $USER mmfree`, then log in again."
        case .queueFull: (code, reason) = (.resourceExhausted, "CONNECT_QUEUE_FULL")
        case .disconnected: reason = "DISCONNECTED"
        case .unresponsive: reason = "UNRESPONSIVE"
        case .timeout: (code, reason) = (.deadlineExceeded, "TIMEOUT")
        case .cancelled: (code, reason) = (.cancelled, "CLOSED")
        case .garbled: (code, reason) = (.internal, "BAD_ANSWER")
        case .rpc: break
        }
        if case .rpc(let error) = error {
            self.init(error)
        } else {
            self.init(code, message, reason: reason)
        }
        switch error.retry {
        case .never: break
        case .after(let time), .reconnect(let time):
            retryAfter = .nanoseconds(Int64(clamping: time))
        }
    }
}
