// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC

/// mmfree.v1.Session.
struct SessionService: Sendable {
    let catalog: ModelCatalog
    let store: SessionStore

    func register(in services: inout Services) {
        let name = ServiceName.session
        services.deferred(name, "Create", create)
        services.deferred(name, "Fork") { (request: ForkSessionRequest, call, reply) in
            begun(
                Result {
                    try store.fork(
                        request.session, name: request.name, ttl: request.ttl, for: call.peer)
                }, reply)
        }
        services.unary(name, "Save", save)
        services.deferred(name, "Restore", restore)
        services.deferred(name, "Drop") { (request: DropSessionRequest, call, reply) in
            let result = Result<DropSessionResponse, any Error> {
                try store.drop(request.session, for: call.peer)
                return DropSessionResponse()
            }
            store.whenKept { reply(result) }
        }
        services.unary(name, "List", isQuick: true) { (_: ListSessionsRequest, call) in
            var response = ListSessionsResponse()
            response.sessions = store.list(for: call.peer)
            return response
        }
        services.unary(name, "Get", isQuick: true) { (request: GetSessionRequest, call) in
            try store.info(request.session, for: call.peer)
        }
    }

    /// Answers with a new session, once it is on disk where it is to be.
    private func begun(
        _ result: Result<SessionInfo, any Error>, _ reply: @escaping Services.Reply<SessionInfo>
    ) {
        guard case .success(let info) = result else { return reply(result) }
        store.whenKept { [store] in
            var info = info
            info.onDisk = store.isOnDisk(info.session)
            reply(.success(info))
        }
    }

    private func create(
        _ request: CreateSessionRequest, _ call: Call,
        _ reply: @escaping Services.Reply<SessionInfo>
    ) {
        catalog.withModel(request.model, for: call, bytes: 0) { found in
            begun(
                Result {
                    let loaded = try Self.model(found)
                    let initial =
                        request.blank ? .empty : try InitialState.read(beside: loaded)
                    return try create(
                        initial, loaded, request.name, request.ttl, call)
                }, reply)
        }
    }

    private func create(
        _ state: SessionState, _ loaded: LoadedModel, _ name: String, _ ttl: UInt64, _ call: Call
    ) throws(RPCError) -> SessionInfo {
        let digest = loaded.model.digest
        return try store.create(
            name: name, model: loaded.name, digest: digest, state: state,
            bytes: SessionMemory.bytes(
                SavedState.byteCount(
                    digest: digest.utf8.count, unread: 1,
                    values: loaded.model.shape.memory.floats(after: max(1, state.history.count)))),
            ttl: ttl, for: call.peer)
    }

    private func save(_ request: SaveSessionRequest, _ call: Call) throws -> SaveSessionResponse {
        _ = try store.find(request.session, for: call.peer)
        let (entry, state) = try store.read(request.session)
        var response = SaveSessionResponse()
        response.state = SavedState(
            modelDigest: entry.digest, state: state
        ).encoded()
        response.session = entry.info(now: store.clock())
        return response
    }

    private func restore(
        _ request: RestoreSessionRequest, _ call: Call,
        _ reply: @escaping Services.Reply<SessionInfo>
    ) {
        let saved: SavedState
        do throws(SavedStateError) { saved = try SavedState(decoding: request.state) } catch {
            return reply(.failure(RPCError(error)))
        }
        let body: @Sendable (Result<LoadedModel, CatalogError>) -> Void = { found in
            begun(
                Result {
                    let loaded = try Self.model(found)
                    let state: SessionState
                    do throws(SavedStateError) {
                        state = try saved.state(for: loaded.model)
                    } catch { throw RPCError(error) }
                    return try create(state, loaded, request.name, request.ttl, call)
                }, reply)
        }
        let bytes = request.state.count
        if request.model.isEmpty {
            catalog.withModel(digest: saved.modelDigest, for: call, bytes: bytes, body)
        } else {
            catalog.withModel(request.model, for: call, bytes: bytes, body)
        }
    }

    private static func model(
        _ found: Result<LoadedModel, CatalogError>
    ) throws(RPCError) -> LoadedModel {
        do { return try found.get() } catch { throw RPCError(error) }
    }
}

extension RPCError {
    init(_ error: SavedStateError) {
        switch error {
        case .otherModel, .otherShape, .version, .layout:
            self.init(.failedPrecondition, "\(error)", reason: "STATE_OF_ANOTHER_MODEL")
        case .notAState, .truncated, .checksum, .field:
            self = .invalid("state", "\(error)")
        }
    }
}
