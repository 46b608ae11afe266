// SPDX-License-Identifier: Apache-2.0

import RPC

/// mmfree.v1.Inference, called.
struct InferenceClient: Sendable {
    private let client: RPCClient
    /// Each call's time, nanoseconds; `nil` leaves it to the daemon.
    var timeout: UInt64?

    init(_ client: RPCClient, timeout: UInt64? = nil) {
        self.client = client
        self.timeout = timeout
    }

    func generate(
        _ request: GenerateRequest
    ) -> AnswerStream<GenerateResponse> {
        client.stream(ServiceName.inference, "Generate", request, timeout: timeout)
    }

    /// The whole answer at once.
    func generateWhole(
        _ request: GenerateRequest
    ) async throws(ClientError) -> GenerateResponse {
        try await client.unary(ServiceName.inference, "Generate", request, timeout: timeout)
    }

    func embed(_ request: EmbedRequest) -> AnswerStream<EmbedResponse> {
        client.stream(ServiceName.inference, "Embed", request, timeout: timeout)
    }

    func embedWhole(_ request: EmbedRequest) async throws(ClientError) -> EmbedResponse {
        try await client.unary(ServiceName.inference, "Embed", request, timeout: timeout)
    }

    func score(_ request: ScoreRequest) async throws -> ScoreResponse {
        let answer: AnswerStream<ScoreResponse> = client.stream(
            ServiceName.inference, "Score", request, timeout: timeout)
        var whole = ScoreResponse()
        for try await part in answer { whole.merge(part) }
        return whole
    }

    func scoreWhole(_ request: ScoreRequest) async throws(ClientError) -> ScoreResponse {
        try await client.unary(ServiceName.inference, "Score", request, timeout: timeout)
    }

    func tokenize(_ request: TokenizeRequest) async throws(ClientError) -> TokenizeResponse {
        try await client.unary(ServiceName.inference, "Tokenize", request, timeout: timeout)
    }

    func detokenize(
        _ request: DetokenizeRequest
    ) async throws(ClientError) -> DetokenizeResponse {
        try await client.unary(ServiceName.inference, "Detokenize", request, timeout: timeout)
    }

    func cancel(_ requestID: String) async throws(ClientError) -> Bool {
        let answer: CancelResponse = try await client.unary(
            ServiceName.inference, "Cancel", CancelRequest(requestID: requestID), timeout: timeout)
        return answer.cancelled
    }
}

/// mmfree.v1.Control and grpc.health.v1.Health, called.
struct ControlClient: Sendable {
    private let client: RPCClient
    /// Each call's time, nanoseconds; `nil` leaves it to the daemon.
    var timeout: UInt64?

    init(_ client: RPCClient, timeout: UInt64? = nil) {
        self.client = client
        self.timeout = timeout
    }

    func info() async throws(ClientError) -> GetInfoResponse {
        try await client.unary(ServiceName.control, "GetInfo", GetInfoRequest(), timeout: timeout)
    }

    func status() async throws(ClientError) -> StatusResponse {
        try await client.unary(ServiceName.control, "Status", StatusRequest(), timeout: timeout)
    }

    func metrics() async throws(ClientError) -> String {
        let answer: MetricsResponse = try await client.unary(
            ServiceName.control, "Metrics", MetricsRequest(), timeout: timeout)
        return answer.text
    }

    func models() async throws(ClientError) -> [ModelInfo] { try await listModels().models }

    /// The models, and the files that are passed over.
    func listModels() async throws(ClientError) -> ListModelsResponse {
        try await client.unary(
            ServiceName.control, "ListModels", ListModelsRequest(), timeout: timeout)
    }

    func reload() async throws(ClientError) -> ReloadResponse {
        try await client.unary(ServiceName.control, "Reload", ReloadRequest(), timeout: timeout)
    }

    func load(
        _ model: String, pin: Bool
    ) async throws(ClientError) -> LoadModelResponse {
        var request = LoadModelRequest()
        (request.model, request.pin) = (model, pin)
        return try await client.unary(
            ServiceName.control, "LoadModel", request, timeout: timeout)
    }

    func unload(_ model: String) async throws(ClientError) {
        let _: UnloadModelResponse = try await client.unary(
            ServiceName.control, "UnloadModel", UnloadModelRequest(model: model),
            timeout: timeout)
    }

    func health(of model: String = "") async throws(ClientError)
        -> HealthCheckResponse.ServingStatus
    {
        let answer: HealthCheckResponse = try await client.unary(
            ServiceName.health, "Check", HealthCheckRequest(service: model), timeout: timeout)
        return answer.status
    }
}
