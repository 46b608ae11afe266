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
            skipped: list.skipped.map { .init(path: $0.path, reason: $0.reason) })
    }

    /// What the daemon is doing. Requests are one's own; root and the daemon's user see all.
    public func status(timeout: Duration? = nil) async throws -> DaemonStatus {
        DaemonStatus(try await control("Status", StatusRequest(), timeout))
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

    /// Whether the daemon serves, or, with a name, whether it serves that model.
    public func isServing(_ model: String = "", timeout: Duration? = nil) async throws -> Bool {
        let answer: HealthCheckResponse = try await call(
            ServiceName.health, "Check", HealthCheckRequest(service: model),
            timeout ?? options.timeout ?? .seconds(10))
        return answer.status == .serving
    }
}
