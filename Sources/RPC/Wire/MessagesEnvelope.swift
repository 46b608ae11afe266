// SPDX-License-Identifier: Apache-2.0
//
// ttrpc's envelope and google.rpc's status with its details; proto/ttrpc.proto, proto/status.proto.

import CMessages

/// Starts a stream. Its metadata are passed over: nothing here asks for any.
package struct Request: CMessage {
    package var service = ""
    package var method = ""
    package var payload: [UInt8] = []
    /// Relative, counted from receipt; 0 asks for the server's default.
    package var timeoutNano: Int64 = 0

    package init() {}

    static var initialise: (UnsafeMutablePointer<Ttrpc__Request>?) -> Void { ttrpc__request__init }

    mutating func read(_ c: Ttrpc__Request) throws(WireError) {
        service = try Wire.text(c.service, "service")
        method = try Wire.text(c.method, "method")
        payload = Wire.bytes(c.payload)
        timeoutNano = c.timeout_nano
    }

    func fill(_ c: inout Ttrpc__Request, _ arena: Arena) {
        c.service = arena.string(service)
        c.method = arena.string(method)
        c.payload = arena.bytes(payload)
        c.timeout_nano = timeoutNano
    }
}

/// Ends a stream.
package struct Response: CMessage {
    package var status: Status?
    package var payload: [UInt8] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Ttrpc__Response>?) -> Void {
        ttrpc__response__init
    }

    mutating func read(_ c: Ttrpc__Response) throws(WireError) {
        status = try Wire.message(c.status)
        payload = Wire.bytes(c.payload)
    }

    func fill(_ c: inout Ttrpc__Response, _ arena: Arena) {
        c.status = arena.optional(status)
        c.payload = arena.bytes(payload)
    }
}

/// google.rpc.ErrorInfo.
package struct ErrorInfo: CMessage {
    package var reason = ""
    package var domain = ""

    package init() {}

    static var initialise: (UnsafeMutablePointer<Google__Rpc__ErrorInfo>?) -> Void {
        google__rpc__error_info__init
    }

    mutating func read(_ c: Google__Rpc__ErrorInfo) throws(WireError) {
        reason = try Wire.text(c.reason, "reason")
        domain = try Wire.text(c.domain, "domain")
    }

    func fill(_ c: inout Google__Rpc__ErrorInfo, _ arena: Arena) {
        c.reason = arena.string(reason)
        c.domain = arena.string(domain)
    }
}

/// google.protobuf.Any.
package struct AnyMessage: CMessage {
    package var typeURL = ""
    package var value: [UInt8] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Google__Rpc__Any>?) -> Void {
        google__rpc__any__init
    }

    mutating func read(_ c: Google__Rpc__Any) throws(WireError) {
        typeURL = try Wire.text(c.type_url, "type_url")
        value = Wire.bytes(c.value)
    }

    func fill(_ c: inout Google__Rpc__Any, _ arena: Arena) {
        c.type_url = arena.string(typeURL)
        c.value = arena.bytes(value)
    }
}

/// google.rpc.Status.
package struct Status: CMessage {
    package var code: Int32 = 0
    package var message = ""
    package var details: [AnyMessage] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Google__Rpc__Status>?) -> Void {
        google__rpc__status__init
    }

    mutating func read(_ c: Google__Rpc__Status) throws(WireError) {
        code = c.code
        message = try Wire.text(c.message, "message")
        details = try Wire.messages(c.details, c.n_details)
    }

    func fill(_ c: inout Google__Rpc__Status, _ arena: Arena) {
        c.code = code
        c.message = arena.string(message)
        c.n_details = details.count
        c.details = arena.messages(details)
    }
}

/// google.protobuf.Duration.
package struct WireDuration: CMessage {
    package var seconds: Int64 = 0
    package var nanos: Int32 = 0

    package init() {}

    static var initialise: (UnsafeMutablePointer<Google__Rpc__Duration>?) -> Void {
        google__rpc__duration__init
    }

    mutating func read(_ c: Google__Rpc__Duration) throws(WireError) {
        seconds = c.seconds
        nanos = c.nanos
    }

    func fill(_ c: inout Google__Rpc__Duration, _ arena: Arena) {
        c.seconds = seconds
        c.nanos = nanos
    }
}

/// google.rpc.RetryInfo.
package struct RetryInfo: CMessage {
    package var retryDelay: WireDuration?

    package init() {}

    static var initialise: (UnsafeMutablePointer<Google__Rpc__RetryInfo>?) -> Void {
        google__rpc__retry_info__init
    }

    mutating func read(_ c: Google__Rpc__RetryInfo) throws(WireError) {
        retryDelay = try Wire.message(c.retry_delay)
    }

    func fill(_ c: inout Google__Rpc__RetryInfo, _ arena: Arena) {
        c.retry_delay = arena.optional(retryDelay)
    }
}

package struct FieldViolation: CMessage {
    package var field = ""
    package var description = ""

    package init() {}

    static var initialise: (UnsafeMutablePointer<Google__Rpc__BadRequest__FieldViolation>?) -> Void
    { google__rpc__bad_request__field_violation__init }

    mutating func read(_ c: Google__Rpc__BadRequest__FieldViolation) throws(WireError) {
        field = try Wire.text(c.field, "field")
        description = try Wire.text(c.description, "description")
    }

    func fill(_ c: inout Google__Rpc__BadRequest__FieldViolation, _ arena: Arena) {
        c.field = arena.string(field)
        c.description = arena.string(description)
    }
}

/// google.rpc.BadRequest.
package struct BadRequest: CMessage {
    package var fieldViolations: [FieldViolation] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Google__Rpc__BadRequest>?) -> Void {
        google__rpc__bad_request__init
    }

    mutating func read(_ c: Google__Rpc__BadRequest) throws(WireError) {
        fieldViolations = try Wire.messages(c.field_violations, c.n_field_violations)
    }

    func fill(_ c: inout Google__Rpc__BadRequest, _ arena: Arena) {
        c.n_field_violations = fieldViolations.count
        c.field_violations = arena.messages(fieldViolations)
    }
}

package struct QuotaViolation: CMessage {
    package var subject = ""
    package var description = ""

    package init() {}

    static var initialise: (UnsafeMutablePointer<Google__Rpc__QuotaFailure__Violation>?) -> Void {
        google__rpc__quota_failure__violation__init
    }

    mutating func read(_ c: Google__Rpc__QuotaFailure__Violation) throws(WireError) {
        subject = try Wire.text(c.subject, "subject")
        description = try Wire.text(c.description, "description")
    }

    func fill(_ c: inout Google__Rpc__QuotaFailure__Violation, _ arena: Arena) {
        c.subject = arena.string(subject)
        c.description = arena.string(description)
    }
}

/// google.rpc.QuotaFailure.
package struct QuotaFailure: CMessage {
    package var violations: [QuotaViolation] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Google__Rpc__QuotaFailure>?) -> Void {
        google__rpc__quota_failure__init
    }

    mutating func read(_ c: Google__Rpc__QuotaFailure) throws(WireError) {
        violations = try Wire.messages(c.violations, c.n_violations)
    }

    func fill(_ c: inout Google__Rpc__QuotaFailure, _ arena: Arena) {
        c.n_violations = violations.count
        c.violations = arena.messages(violations)
    }
}
