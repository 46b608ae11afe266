// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import ModelStore
import RPC
import Synchronization

/// mmfree.v1.Session.
struct SessionService: Sendable {
    let catalog: ModelCatalog
    let store: SessionStore
    /// Reads what goes out in parts, when a reader has caught up: no event loop does.
    private let saves = JobThread(name: "mmf-saves")

    init(catalog: ModelCatalog, store: SessionStore) {
        self.catalog = catalog
        self.store = store
    }

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
        services.stream(name, "Save", save)
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
                    numberBytes: loaded.model.memory.bytes(after: max(1, state.history.count)))),
            ttl: ttl, for: call.peer)
    }

    private func save(
        _ request: SaveSessionRequest, _ call: Call, _ outbox: Outbox<SaveSessionResponse>
    ) throws {
        _ = try store.find(request.session, for: call.peer)
        let stream = try SaveStream(store, try store.whole(request.session), call, outbox)
        outbox.onDrain { [saves] in saves.post { stream.run() } }
        // The outbox holds the call: were it held by the call in turn, neither would go.
        call.onCancel { [weak outbox] in
            outbox?.fail(RPCError(.cancelled, "the caller has gone", reason: "CANCELLED"))
        }
        // A reader who takes nothing does not have it run.
        call.onDeadline { [weak outbox] in outbox?.fail(SaveStream.tooLate) }
        stream.run()
    }

    private func restore(
        _ request: RestoreSessionRequest, _ call: Call,
        _ reply: @escaping Services.Reply<SessionInfo>
    ) {
        if !request.session.isEmpty {
            return begun(
                Result {
                    try store.restore(
                        request.session, request.state, at: request.offset, isLast: !request.more,
                        for: call.peer)
                }, reply)
        }
        let found: (digest: String, create: @Sendable (LoadedModel) throws -> SessionInfo)
        do throws(RPCError) {
            guard request.offset == 0 else {
                throw .invalid(
                    "offset", "\(request.offset), of the first part of a state; it begins at 0")
            }
            found = try request.more ? first(request, call) : whole(request, call)
        } catch { return reply(.failure(error)) }
        let body: @Sendable (Result<LoadedModel, CatalogError>) -> Void = { result in
            begun(Result { try found.create(Self.model(result)) }, reply)
        }
        let bytes = request.state.count
        if request.model.isEmpty {
            catalog.withModel(digest: found.digest, for: call, bytes: bytes, body)
        } else {
            catalog.withModel(request.model, for: call, bytes: bytes, body)
        }
    }

    /// A state that is all there.
    private func whole(
        _ request: RestoreSessionRequest, _ call: Call
    ) throws(RPCError) -> (String, @Sendable (LoadedModel) throws -> SessionInfo) {
        let saved: SavedState
        do throws(SavedStateError) { saved = try SavedState(decoding: request.state) } catch {
            throw RPCError(error)
        }
        return (
            saved.modelDigest,
            { loaded in
                let state: SessionState
                do throws(SavedStateError) {
                    state = try saved.state(for: loaded.model)
                } catch { throw RPCError(error) }
                return try create(state, loaded, request.name, request.ttl, call)
            }
        )
    }

    /// The first part of a state.
    private func first(
        _ request: RestoreSessionRequest, _ call: Call
    ) throws(RPCError) -> (String, @Sendable (LoadedModel) throws -> SessionInfo) {
        let most = SavedStateHeader.mostBytes
        var reader = SavedStateReader()
        do throws(SavedStateError) { try reader.take(request.state.prefix(most)) } catch {
            throw RPCError(error)
        }
        guard let header = reader.header else {
            throw .invalid(
                "state",
                "\(request.state.count) bytes; the first part has the state's first \(most) at least"
            )
        }
        return (
            header.modelDigest,
            { loaded in
                do throws(SavedStateError) { try header.check(for: loaded.model) } catch {
                    throw RPCError(error)
                }
                return try store.restore(
                    header, request.state, name: request.name, model: loaded.name,
                    ttl: request.ttl, for: call.peer)
            }
        )
    }

    private static func model(
        _ found: Result<LoadedModel, CatalogError>
    ) throws(RPCError) -> LoadedModel {
        do { return try found.get() } catch { throw RPCError(error) }
    }
}

/// A state on its way to a caller, as fast as it is read there: two parts wait in the daemon at most.
private final class SaveStream: Sendable {
    private struct Source {
        var parts: StateParts
        /// What the first message tells.
        var info: SessionInfo?
    }
    private let source: Mutex<Source>
    private let store: SessionStore
    private let entry: SessionBook.Entry
    private let call: Call
    private let outbox: Outbox<SaveSessionResponse>

    init(
        _ store: SessionStore, _ entry: SessionBook.Entry, _ call: Call,
        _ outbox: Outbox<SaveSessionResponse>
    ) throws(RPCError) {
        do throws(StateParts.Failure) {
            let parts = try StateParts(store, entry)
            source = Mutex(Source(parts: parts, info: entry.info(now: store.clock())))
        } catch { throw store.refusal(error, entry) }
        (self.store, self.entry, self.call, self.outbox) = (store, entry, call, outbox)
    }

    static let tooLate = RPCError(
        .deadlineExceeded, "the state was not read in time", reason: "DEADLINE")

    /// Sends what the reader takes.
    func run() {
        do throws(RPCError) {
            while let message = try next() {
                guard outbox.send(message) == .accepted else { return }
            }
            outbox.finish()
        } catch { outbox.fail(error) }
    }

    private func next() throws(RPCError) -> SaveSessionResponse? {
        guard cl_monotonic_nanoseconds() < call.deadline else {
            throw Self.tooLate
        }
        return try source.withLock { source throws(RPCError) in
            var message = SaveSessionResponse()
            if let info = source.info {
                message.session = info
                message.stateBytes = UInt64(source.parts.byteCount)
                source.info = nil
            }
            do throws(StateParts.Failure) {
                guard let bytes = try source.parts.next() else { return nil }
                message.state = bytes
            } catch { throw store.refusal(error, entry) }
            return message
        }
    }
}

extension RPCError {
    init(_ error: SavedStateError) {
        switch error {
        case .otherModel, .otherShape, .version, .layout:
            self.init(.failedPrecondition, "\(error)", reason: "STATE_OF_ANOTHER_MODEL")
        case .otherKeyValueType:
            self.init(.failedPrecondition, "\(error)", reason: "KEY_VALUE_TYPE")
        case .notAState, .truncated, .checksum, .field:
            self = .invalid("state", "\(error)")
        }
    }
}
