// SPDX-License-Identifier: Apache-2.0

import RPC

/// These calls wait for nobody else's: a daemon that takes longer than ten seconds is not well, and so that is their timeout
/// where there is no other.
extension Client {
    private func control<Answer: WireMessage>(
        _ method: String, _ question: some WireMessage, _ timeout: Duration?,
        isIdempotent: Bool = true
    ) async throws -> Answer {
        try await call(
            ServiceName.control, method, question, timeout ?? options.timeout ?? .seconds(10),
            isIdempotent: isIdempotent)
    }

    /// The models the daemon knows.
    public func models(timeout: Duration? = nil) async throws -> [ModelInfo] {
        try await modelList(timeout: timeout).models
    }

    /// The models the daemon knows, and the files it passes over.
    public func modelList(timeout: Duration? = nil) async throws -> ModelList {
        let list: ListModelsResponse = try await control(
            "ListModels", ListModelsRequest(), timeout)
        return ModelList(
            models: list.models.map { ModelInfo($0) },
            skipped: list.skipped.map { .init(path: $0.path, reason: $0.reason) },
            places: list.places)
    }

    /// What the daemon is doing. Requests are one's own; root and the daemon's user see all.
    public func status(timeout: Duration? = nil) async throws -> DaemonStatus {
        DaemonStatus(try await control("Status", StatusRequest(), timeout))
    }

    /// Counters and histograms in Prometheus' text format: of one's own requests; root and the daemon's user see all.
    public func metrics(timeout: Duration? = nil) async throws -> String {
        let answer: MetricsResponse = try await control("Metrics", MetricsRequest(), timeout)
        return answer.text
    }

    /// What the daemon is.
    public func info(timeout: Duration? = nil) async throws -> DaemonInfo {
        DaemonInfo(try await control("GetInfo", GetInfoRequest(), timeout))
    }

    /// Makes the daemon look for new, replaced and removed models. For root and the daemon's own user.
    public func reload(timeout: Duration? = nil) async throws -> ModelChanges {
        let changes: ReloadResponse = try await control(
            "Reload", ReloadRequest(), timeout, isIdempotent: false)
        return ModelChanges(
            added: changes.added, replaced: changes.replaced, removed: changes.removed)
    }

    /// A model that was read into memory.
    public struct LoadedModel: Sendable, Equatable {
        public var name: String
        public var bytes: UInt64
    }

    /// Has the daemon read a model into memory, and lock it there if asked to; returns when it is there. Its later versions will be,
    /// too. For root, the daemon's own user, and the setting `controllers`.
    ///
    /// - Parameter model: its name; "" for the default model.
    public func load(
        _ model: String = "", pin: Bool = false, timeout: Duration? = nil
    ) async throws -> LoadedModel {
        var request = LoadModelRequest()
        (request.model, request.pin) = (model, pin)
        let loaded: LoadModelResponse = try await control("LoadModel", request, timeout)
        return LoadedModel(name: loaded.model, bytes: loaded.bytes)
    }

    /// Takes back what ``load(_:pin:timeout:)`` did, and lets go of the model's memory when its requests have ended. For the same.
    public func unload(_ model: String = "", timeout: Duration? = nil) async throws {
        let _: UnloadModelResponse = try await control(
            "UnloadModel", UnloadModelRequest(model: model), timeout)
    }

    /// Whether the daemon serves, or, with a name, whether it serves that model.
    public func isServing(_ model: String = "", timeout: Duration? = nil) async throws -> Bool {
        let answer: HealthCheckResponse = try await call(
            ServiceName.health, "Check", HealthCheckRequest(service: model),
            timeout ?? options.timeout ?? .seconds(10))
        return answer.status == .serving
    }
}
