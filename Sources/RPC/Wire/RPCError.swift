// SPDX-License-Identifier: Apache-2.0

/// google.rpc.Code.
package enum RPCCode: Int32, Sendable, CaseIterable {
    case ok = 0
    case cancelled, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists
    case permissionDenied, resourceExhausted, failedPrecondition, aborted, outOfRange, unimplemented
    case `internal`, unavailable, dataLoss, unauthenticated

    /// As the documentation writes it: "INVALID_ARGUMENT".
    package var name: String {
        "\(self)".reduce(into: "") { name, letter in
            if letter.isUppercase { name.append("_") }
            name += letter.uppercased()
        }
    }
}

/// A refusal or a failure, as it goes over the wire.
package struct RPCError: Error, Equatable, Sendable, CustomStringConvertible {
    package struct Violation: Equatable, Sendable {
        package var field: String
        package var description: String

        package init(field: String, description: String) {
            self.field = field
            self.description = description
        }
    }

    package var code: RPCCode
    package var message: String
    /// ErrorInfo's reason, in CAPITALS; the domain is "mmfreed".
    package var reason: String?
    /// When to try again. Nanoseconds.
    package var retryAfter: UInt64?
    /// Fields that are wrong.
    package var violations: [Violation] = []
    /// Whose quota is used up, and which.
    package var quota: Violation?

    package init(_ code: RPCCode, _ message: String, reason: String? = nil) {
        self.code = code
        self.message = message
        self.reason = reason
    }

    /// INVALID_ARGUMENT for one field.
    package static func invalid(_ field: String, _ description: String) -> RPCError {
        var error = RPCError(.invalidArgument, "\(field): \(description)", reason: "INVALID_FIELD")
        error.violations = [Violation(field: field, description: description)]
        return error
    }

    /// Why a message could not be decoded, with its field where one is to blame.
    init(_ error: WireError) {
        switch error {
        case .notUTF8(let field), .nul(let field), .unknownEnum(let field, _):
            self.init(.invalidArgument, "\(error)", reason: "INVALID_MESSAGE")
            violations = [Violation(field: field, description: "\(error)")]
        case .malformed, .tooLarge:
            self.init(.invalidArgument, "\(error)", reason: "INVALID_MESSAGE")
        case .outOfMemory:
            self.init(.resourceExhausted, "\(error)", reason: "OUT_OF_MEMORY")
            retryAfter = 1_000_000_000
        }
    }

    package func retrying(after nanoseconds: UInt64) -> RPCError {
        var error = self
        error.retryAfter = nanoseconds
        return error
    }

    package var description: String { "\(code.name): \(message)" }
}

// MARK: The wire

extension RPCError {
    static let domain = "mmfreed"
    private static let types = "type.googleapis.com/google.rpc."

    var status: Status {
        var status = Status(code: code.rawValue, message: Self.cut(message))
        func attach(_ type: String, _ detail: some WireMessage) {
            status.details.append(
                AnyMessage(typeURL: Self.types + type, value: detail.encoded()))
        }
        if let reason { attach("ErrorInfo", ErrorInfo(reason: reason, domain: Self.domain)) }
        if let retryAfter {
            let delay = WireDuration(
                seconds: Int64(clamping: retryAfter / 1_000_000_000),
                nanos: Int32(retryAfter % 1_000_000_000))
            attach("RetryInfo", RetryInfo(retryDelay: delay))
        }
        if !violations.isEmpty {
            let fields = violations.map {
                BadRequest.FieldViolation(
                    field: $0.field, description: Self.cut($0.description))
            }
            attach("BadRequest", BadRequest(fieldViolations: fields))
        }
        if let quota {
            let violation = QuotaFailure.Violation(
                subject: quota.field, description: quota.description)
            attach("QuotaFailure", QuotaFailure(violations: [violation]))
        }
        return status
    }

    /// At most some 2,000 bytes of a text, in whole code points: a letter can be of any length.
    package static func cut(_ text: String) -> String {
        guard text.utf8.count > 2000 else { return text }
        var end = text.utf8.index(text.startIndex, offsetBy: 2000)
        while end.samePosition(in: text.unicodeScalars) == nil { text.utf8.formIndex(before: &end) }
        return String(text.unicodeScalars[..<end]) + "…"
    }

    /// What a status says; details that are not understood are passed over.
    package init(_ status: Status) {
        self.init(RPCCode(rawValue: status.code) ?? .unknown, status.message)
        for detail in status.details where detail.typeURL.hasPrefix(Self.types) {
            switch detail.typeURL.dropFirst(Self.types.count) {
            case "ErrorInfo": reason = try? ErrorInfo(decoding: detail.value).reason
            case "RetryInfo":
                guard let delay = try? RetryInfo(decoding: detail.value).retryDelay,
                    (0...(1 << 32)).contains(delay.seconds),
                    (0..<1_000_000_000).contains(delay.nanos)
                else { continue }
                retryAfter = UInt64(delay.seconds) * 1_000_000_000 + UInt64(delay.nanos)
            case "BadRequest":
                let bad = (try? BadRequest(decoding: detail.value)) ?? BadRequest()
                violations = bad.fieldViolations.map {
                    Violation(field: $0.field, description: $0.description)
                }
            case "QuotaFailure":
                let failure = (try? QuotaFailure(decoding: detail.value)) ?? QuotaFailure()
                quota = failure.violations.first.map {
                    Violation(field: $0.subject, description: $0.description)
                }
            default: break
            }
        }
    }
}
