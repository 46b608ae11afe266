// SPDX-License-Identifier: Apache-2.0
//
// The messages of mmfree.v1.Control and grpc.health.v1; proto/ says more of each field.

import CMessages

package struct GetInfoRequest: CMessage {

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__GetInfoRequest>?) -> Void {
        mmfree__v1__get_info_request__init
    }

    mutating func read(_: Mmfree__V1__GetInfoRequest) throws(WireError) {}

    func fill(_: inout Mmfree__V1__GetInfoRequest, _: Arena) {}
}

package struct Limits: CMessage {
    package var maxFrameBytes: UInt32 = 0
    package var maxPromptTokens: UInt32 = 0
    package var maxTokens: UInt32 = 0
    package var maxStop: UInt32 = 0
    package var maxEmbedInputs: UInt32 = 0
    package var maxQueue: UInt32 = 0
    package var maxQueuePerUser: UInt32 = 0
    /// Nanoseconds.
    package var defaultTimeout: UInt64 = 0
    /// Nanoseconds.
    package var maxTimeout: UInt64 = 0

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__Limits>?) -> Void {
        mmfree__v1__limits__init
    }

    mutating func read(_ c: Mmfree__V1__Limits) throws(WireError) {
        maxFrameBytes = c.max_frame_bytes
        maxPromptTokens = c.max_prompt_tokens
        maxTokens = c.max_tokens
        maxStop = c.max_stop
        maxEmbedInputs = c.max_embed_inputs
        maxQueue = c.max_queue
        maxQueuePerUser = c.max_queue_per_user
        defaultTimeout = c.default_timeout_ns
        maxTimeout = c.max_timeout_ns
    }

    func fill(_ c: inout Mmfree__V1__Limits, _ arena: Arena) {
        c.max_frame_bytes = maxFrameBytes
        c.max_prompt_tokens = maxPromptTokens
        c.max_tokens = maxTokens
        c.max_stop = maxStop
        c.max_embed_inputs = maxEmbedInputs
        c.max_queue = maxQueue
        c.max_queue_per_user = maxQueuePerUser
        c.default_timeout_ns = defaultTimeout
        c.max_timeout_ns = maxTimeout
    }
}

package struct GetInfoResponse: CMessage {
    package var version = ""
    package var protocolName = ""
    /// The kernel table in use.
    package var kernels = ""
    package var threads: UInt32 = 0
    package var limits: Limits?
    /// A google.protobuf.FileDescriptorSet of all services.
    package var fileDescriptorSet: [UInt8] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__GetInfoResponse>?) -> Void {
        mmfree__v1__get_info_response__init
    }

    mutating func read(_ c: Mmfree__V1__GetInfoResponse) throws(WireError) {
        version = try Wire.text(c.version, "version")
        protocolName = try Wire.text(c.protocol, "protocol")
        kernels = try Wire.text(c.kernels, "kernels")
        threads = c.threads
        limits = try Wire.message(c.limits)
        fileDescriptorSet = Wire.bytes(c.file_descriptor_set)
    }

    func fill(_ c: inout Mmfree__V1__GetInfoResponse, _ arena: Arena) {
        c.version = arena.string(version)
        c.protocol = arena.string(protocolName)
        c.kernels = arena.string(kernels)
        c.threads = threads
        c.limits = arena.optional(limits)
        c.file_descriptor_set = arena.bytes(fileDescriptorSet)
    }
}

package struct StatusRequest: CMessage {

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__StatusRequest>?) -> Void {
        mmfree__v1__status_request__init
    }

    mutating func read(_: Mmfree__V1__StatusRequest) throws(WireError) {}

    func fill(_: inout Mmfree__V1__StatusRequest, _: Arena) {}
}

package struct RequestStatus: CMessage {
    package var requestID = ""
    package var method = ""
    package var model = ""
    package var uid: UInt32 = 0
    package var pid: Int32 = 0
    /// "queued", "prefill" or "decode".
    package var phase = ""
    package var promptTokens: UInt32 = 0
    package var completionTokens: UInt32 = 0
    /// Nanoseconds.
    package var age: UInt64 = 0

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__RequestStatus>?) -> Void {
        mmfree__v1__request_status__init
    }

    mutating func read(_ c: Mmfree__V1__RequestStatus) throws(WireError) {
        requestID = try Wire.text(c.request_id, "request_id")
        method = try Wire.text(c.method, "method")
        model = try Wire.text(c.model, "model")
        uid = c.uid
        pid = c.pid
        phase = try Wire.text(c.phase, "phase")
        promptTokens = c.prompt_tokens
        completionTokens = c.completion_tokens
        age = c.age_ns
    }

    func fill(_ c: inout Mmfree__V1__RequestStatus, _ arena: Arena) {
        c.request_id = arena.string(requestID)
        c.method = arena.string(method)
        c.model = arena.string(model)
        c.uid = uid
        c.pid = pid
        c.phase = arena.string(phase)
        c.prompt_tokens = promptTokens
        c.completion_tokens = completionTokens
        c.age_ns = age
    }
}

package struct StatusResponse: CMessage {
    package var version = ""
    /// "serving" or "draining".
    package var state = ""
    /// Nanoseconds.
    package var uptime: UInt64 = 0
    package var slots: UInt32 = 0
    package var active: UInt32 = 0
    package var queued: UInt32 = 0
    package var requests: [RequestStatus] = []
    package var finishedRequests: UInt64 = 0
    package var refusedRequests: UInt64 = 0
    package var promptTokens: UInt64 = 0
    package var completionTokens: UInt64 = 0
    package var residentBytes: UInt64 = 0
    package var models: UInt32 = 0

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__StatusResponse>?) -> Void {
        mmfree__v1__status_response__init
    }

    mutating func read(_ c: Mmfree__V1__StatusResponse) throws(WireError) {
        version = try Wire.text(c.version, "version")
        state = try Wire.text(c.state, "state")
        uptime = c.uptime_ns
        slots = c.slots
        active = c.active
        queued = c.queued
        requests = try Wire.messages(c.requests, c.n_requests)
        finishedRequests = c.finished_requests
        refusedRequests = c.refused_requests
        promptTokens = c.prompt_tokens
        completionTokens = c.completion_tokens
        residentBytes = c.resident_bytes
        models = c.models
    }

    func fill(_ c: inout Mmfree__V1__StatusResponse, _ arena: Arena) {
        c.version = arena.string(version)
        c.state = arena.string(state)
        c.uptime_ns = uptime
        c.slots = slots
        c.active = active
        c.queued = queued
        c.n_requests = requests.count
        c.requests = arena.messages(requests)
        c.finished_requests = finishedRequests
        c.refused_requests = refusedRequests
        c.prompt_tokens = promptTokens
        c.completion_tokens = completionTokens
        c.resident_bytes = residentBytes
        c.models = models
    }
}

package struct ListModelsRequest: CMessage {

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__ListModelsRequest>?) -> Void {
        mmfree__v1__list_models_request__init
    }

    mutating func read(_: Mmfree__V1__ListModelsRequest) throws(WireError) {}

    func fill(_: inout Mmfree__V1__ListModelsRequest, _: Arena) {}
}

package struct ModelInfo: CMessage {
    package var name = ""
    package var digest = ""
    package var fileBytes: UInt64 = 0
    package var vocabulary: UInt32 = 0
    package var hidden: UInt32 = 0
    package var layers: UInt32 = 0
    package var intermediate: UInt32 = 0
    package var ternaryWeights: UInt64 = 0
    package var embeddingEncoding = ""
    package var hasTokenizer = false
    /// "mapped", "available" or "refused".
    package var state = ""
    /// Why it is refused.
    package var error = ""
    package var isDefault = false

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__ModelInfo>?) -> Void {
        mmfree__v1__model_info__init
    }

    mutating func read(_ c: Mmfree__V1__ModelInfo) throws(WireError) {
        name = try Wire.text(c.name, "name")
        digest = try Wire.text(c.digest, "digest")
        fileBytes = c.file_bytes
        vocabulary = c.vocabulary
        hidden = c.hidden
        layers = c.layers
        intermediate = c.intermediate
        ternaryWeights = c.ternary_weights
        embeddingEncoding = try Wire.text(c.embedding_encoding, "embedding_encoding")
        hasTokenizer = c.has_tokenizer != 0
        state = try Wire.text(c.state, "state")
        error = try Wire.text(c.error, "error")
        isDefault = c.is_default != 0
    }

    func fill(_ c: inout Mmfree__V1__ModelInfo, _ arena: Arena) {
        c.name = arena.string(name)
        c.digest = arena.string(digest)
        c.file_bytes = fileBytes
        c.vocabulary = vocabulary
        c.hidden = hidden
        c.layers = layers
        c.intermediate = intermediate
        c.ternary_weights = ternaryWeights
        c.embedding_encoding = arena.string(embeddingEncoding)
        c.has_tokenizer = hasTokenizer ? 1 : 0
        c.state = arena.string(state)
        c.error = arena.string(error)
        c.is_default = isDefault ? 1 : 0
    }
}

package struct ListModelsResponse: CMessage {
    package var models: [ModelInfo] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__ListModelsResponse>?) -> Void {
        mmfree__v1__list_models_response__init
    }

    mutating func read(_ c: Mmfree__V1__ListModelsResponse) throws(WireError) {
        models = try Wire.messages(c.models, c.n_models)
    }

    func fill(_ c: inout Mmfree__V1__ListModelsResponse, _ arena: Arena) {
        c.n_models = models.count
        c.models = arena.messages(models)
    }
}

package struct ReloadRequest: CMessage {

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__ReloadRequest>?) -> Void {
        mmfree__v1__reload_request__init
    }

    mutating func read(_: Mmfree__V1__ReloadRequest) throws(WireError) {}

    func fill(_: inout Mmfree__V1__ReloadRequest, _: Arena) {}
}

package struct ReloadResponse: CMessage {
    package var added: [String] = []
    package var replaced: [String] = []
    package var removed: [String] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__ReloadResponse>?) -> Void {
        mmfree__v1__reload_response__init
    }

    mutating func read(_ c: Mmfree__V1__ReloadResponse) throws(WireError) {
        added = []
        for value in Wire.values(c.added, c.n_added) { added.append(try Wire.text(value, "added")) }
        replaced = []
        for value in Wire.values(c.replaced, c.n_replaced) {
            replaced.append(try Wire.text(value, "replaced"))
        }
        removed = []
        for value in Wire.values(c.removed, c.n_removed) {
            removed.append(try Wire.text(value, "removed"))
        }
    }

    func fill(_ c: inout Mmfree__V1__ReloadResponse, _ arena: Arena) {
        c.n_added = added.count
        c.added = arena.strings(added)
        c.n_replaced = replaced.count
        c.replaced = arena.strings(replaced)
        c.n_removed = removed.count
        c.removed = arena.strings(removed)
    }
}

/// grpc.health.v1's answers.
package enum ServingStatus: Int, WireEnum {
    case unspecified
    case serving
    case notServing
    case serviceUnknown
}

package struct HealthCheckRequest: CMessage {
    /// A model's name; empty asks for the daemon.
    package var service = ""

    package init() {}

    static var initialise: (UnsafeMutablePointer<Grpc__Health__V1__HealthCheckRequest>?) -> Void {
        grpc__health__v1__health_check_request__init
    }

    mutating func read(_ c: Grpc__Health__V1__HealthCheckRequest) throws(WireError) {
        service = try Wire.text(c.service, "service")
    }

    func fill(_ c: inout Grpc__Health__V1__HealthCheckRequest, _ arena: Arena) {
        c.service = arena.string(service)
    }
}

package struct HealthCheckResponse: CMessage {
    package var status = ServingStatus.unspecified

    package init() {}

    static var initialise: (UnsafeMutablePointer<Grpc__Health__V1__HealthCheckResponse>?) -> Void {
        grpc__health__v1__health_check_response__init
    }

    mutating func read(_ c: Grpc__Health__V1__HealthCheckResponse) throws(WireError) {
        status = try ServingStatus(wire: Int(c.status.rawValue), "status")
    }

    func fill(_ c: inout Grpc__Health__V1__HealthCheckResponse, _ arena: Arena) {
        c.status = .init(rawValue: .init(status.rawValue))
    }
}
