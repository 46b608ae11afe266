// SPDX-License-Identifier: Apache-2.0

package import HTTPTypes
package import MMFree
package import ModelStore
import NIOCore

/// Which clients a path is for: they read errors in different forms.
package enum Face: Sendable {
    case openAI, ollama
}

/// Why a request is not answered, in HTTP's and OpenAI's terms.
package struct APIError: Error, Sendable, Equatable {
    package var status: Int
    /// For programs: "queue_full", "invalid_value".
    package var code: String
    /// The member of the request that is wrong: "top_p", "messages[2].role".
    package var param: String?
    /// For people: names the thing, the place and the numbers.
    package var message: String
    /// When the same request may succeed; `nil` if repeating it is of no use.
    package var retryAfter: Duration?
    /// Methods that the path has.
    package var allowed: String?

    package init(
        _ status: Int, _ code: String, _ message: String, param: String? = nil,
        retryAfter: Duration? = nil, allowed: String? = nil
    ) {
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retryAfter = retryAfter
        self.allowed = allowed
    }

    /// A member of a request that is wrong.
    package static func invalid(
        _ param: String, _ message: String, code: String = "invalid_value"
    ) -> APIError {
        APIError(400, code, "\(param): \(message)", param: param)
    }

    /// OpenAI's kinds of errors.
    package var type: String {
        switch status {
        case 403: "permission_error"
        case 429: "rate_limit_error"
        case 500...: "server_error"
        default: "invalid_request_error"
        }
    }

    /// The headers by which OpenAI's SDKs decide when to try again, and others.
    package var headers: [HTTPField] {
        var fields = [HTTPField(name: .shouldRetry, value: retryAfter == nil ? "false" : "true")]
        if let retryAfter {
            let milliseconds = max(1, Int(retryAfter / .milliseconds(1)))
            fields.append(
                HTTPField(name: .retryAfter, value: "\(max(1, (milliseconds + 999) / 1000))"))
            fields.append(HTTPField(name: .retryAfterMilliseconds, value: "\(milliseconds)"))
        }
        if let allowed { fields.append(HTTPField(name: .allow, value: allowed)) }
        if status == 401 { fields.append(HTTPField(name: .wwwAuthenticate, value: "Bearer")) }
        return fields
    }

    package func body(_ face: Face) -> [UInt8] { json(face).writtenCompactly() }

    package func json(_ face: Face) -> JSON {
        switch face {
        case .ollama: .object([.init("error", .string(message))])
        case .openAI:
            .object([
                .init(
                    "error",
                    .object([
                        .init("message", .string(message)), .init("type", .string(type)),
                        .init("param", param.map { .string($0) } ?? .null),
                        .init("code", .string(code)),
                    ]))
            ])
        }
    }
}

extension HTTPField.Name {
    static let shouldRetry = HTTPField.Name("x-should-retry")!
    static let retryAfterMilliseconds = HTTPField.Name("retry-after-ms")!
    static let requestID = HTTPField.Name("x-request-id")!
}

// MARK: The daemon's errors

extension APIError {
    package init(_ error: MMFreeError) {
        let code = error.reason?.lowercased() ?? "\(error.code)".lowercased()
        self.init(
            Self.status(error), code, error.message, param: error.violations.first?.field,
            retryAfter: error.retryAfter)
        switch error.reason {
        // OpenAI's name for it.
        case "NO_SUCH_MODEL", "NO_MODELS": (self.code, param) = ("model_not_found", "model")
        case "INVALID_FIELD": self.code = "invalid_value"
        // The daemon's socket is not for this process: nothing that a caller can change.
        case "SOCKET_PERMISSION": status = 502
        default: break
        }
    }

    private static func status(_ error: MMFreeError) -> Int {
        switch error.code {
        case .invalidArgument, .outOfRange, .failedPrecondition: return 400
        case .notFound: return 404
        case .permissionDenied: return 403
        case .unauthenticated: return 401
        case .aborted, .alreadyExists: return 409
        case .resourceExhausted:
            return error.reason?.hasSuffix("TOO_LARGE") == true ? 413 : 429
        case .cancelled: return 499
        case .unimplemented: return 501
        case .unavailable: return 503
        case .deadlineExceeded: return 504
        default: return 500
        }
    }

    /// What ended a handler.
    init(any error: any Error) {
        switch error {
        case let error as APIError: self = error
        case let error as MMFreeError: self.init(error)
        // The client has closed its connection.
        case is CancellationError, is ChannelError, is IOError:
            self.init(499, "cancelled", "the request was cancelled")
        default: self.init(500, "internal_error", "\(error)")
        }
    }
}
