// SPDX-License-Identifier: Apache-2.0

import RPC

/// Saving and restoring sessions. With attention a state has the keys and values of every token: it goes over the wire in parts.
extension Client {
    /// A session's state at its last complete turn, as bytes for ``restoreSession(_:name:model:timeToLive:timeout:)``. For one that
    /// is large, ``sessionState(_:timeout:)`` gives them in parts.
    public func saveSession(_ id: String, timeout: Duration? = nil) async throws -> [UInt8] {
        var attempts = Attempts(self, isIdempotent: true)
        while true {
            do {
                let answer: AnswerStream<SaveSessionResponse> = try await attempts.next().stream(
                    ServiceName.session, "Save", SaveSessionRequest(session: id),
                    timeout: nanoseconds(timeout))
                var state: [UInt8] = []
                for try await part in answer {
                    if state.isEmpty { state.reserveCapacity(Self.room(for: part.stateBytes)) }
                    state += part.state
                }
                return state
            } catch { try await attempts.wait(after: error) }
        }
    }

    /// Bytes to reserve for a state of which the daemon says that it has so many: it grows beyond them as it comes.
    static func room(for stateBytes: UInt64) -> Int { Int(min(stateBytes, 64 << 20)) }

    /// A session's state at its last complete turn, part by part; it is asked for when the result is gone through.
    ///
    /// Who has had all parts has had a whole state. There is demand: whoever does not ask for the next part makes the daemon wait. A
    /// turn that comes to its end meanwhile ends it with an error of code `aborted`: ask again.
    public func sessionState(_ id: String, timeout: Duration? = nil) -> SessionStateParts {
        SessionStateParts(client: self, id: id, timeout: timeout)
    }

    /// A new session out of what ``saveSession(_:timeout:)`` gave. Refused where anything differs: the model, the layout, a byte.
    ///
    /// - Parameters:
    ///   - model: must be the state's; empty takes it by its digest.
    ///   - timeout: for each request: a large state is sent in several.
    public func restoreSession(
        _ state: [UInt8], name: String = "", model: String = "", timeToLive: Duration? = nil,
        timeout: Duration? = nil
    ) async throws -> Session {
        let request = RestoreSessionRequest(
            name: name, ttl: nanoseconds(of: timeToLive), model: model)
        var upload = StateUpload(self, request, timeout)
        guard state.count > Self.textLimit else { return try await upload.finish(state) }
        var offset = 0
        while state.count - offset > StateUpload.partBytes {
            try await upload.add(Array(state[offset..<offset + StateUpload.partBytes]))
            offset += StateUpload.partBytes
        }
        return try await upload.finish(Array(state[offset...]))
    }

    /// As ``restoreSession(_:name:model:timeToLive:timeout:)``, of a state that is not in memory: 1 MiB of it is, at a time.
    ///
    /// If it fails the session that has begun is dropped.
    public func restoreSession<Parts: AsyncSequence & Sendable>(
        from parts: Parts, name: String = "", model: String = "", timeToLive: Duration? = nil,
        timeout: Duration? = nil
    ) async throws -> Session where Parts.Element == [UInt8] {
        let request = RestoreSessionRequest(
            name: name, ttl: nanoseconds(of: timeToLive), model: model)
        var upload = StateUpload(self, request, timeout)
        var waiting: [UInt8] = []
        do {
            for try await part in parts {
                var rest = part[...]
                while !rest.isEmpty {
                    // The last part has to be told from the others.
                    if waiting.count == StateUpload.partBytes {
                        try await upload.add(waiting)
                        waiting.removeAll(keepingCapacity: true)
                    }
                    let some = rest.prefix(StateUpload.partBytes - waiting.count)
                    waiting += some
                    rest = rest.dropFirst(some.count)
                }
            }
        } catch {
            await upload.abandon()
            throw error
        }
        return try await upload.finish(waiting)
    }
}

/// A session's state as it comes. Each time it is gone through, it is asked for.
public struct SessionStateParts: AsyncSequence, Sendable {
    public typealias Element = SessionStatePart
    let client: Client
    let id: String
    let timeout: Duration?

    public func makeAsyncIterator() -> Iterator { Iterator(state: self) }

    public struct Iterator: AsyncIteratorProtocol {
        let state: SessionStateParts
        private var answer: AnswerStream<SaveSessionResponse>.AsyncIterator?
        private var total = 0

        init(state: SessionStateParts) { self.state = state }

        /// The next part, or `nil` after the last.
        public mutating func next(
            isolation: isolated (any Actor)? = #isolation
        ) async throws -> SessionStatePart? {
            // What has begun is not begun again.
            var attempts = Attempts(state.client, isIdempotent: answer == nil)
            while true {
                do {
                    if answer == nil {
                        answer =
                            try await attempts.next().stream(
                                ServiceName.session, "Save", SaveSessionRequest(session: state.id),
                                timeout: state.client.nanoseconds(state.timeout)
                            ).makeAsyncIterator()
                    }
                    guard let part = try await answer?.next(isolation: isolation) else {
                        return nil
                    }
                    total = Swift.max(total, Int(clamping: part.stateBytes))
                    return SessionStatePart(bytes: part.state, stateBytes: total)
                } catch {
                    answer = nil
                    try await attempts.wait(after: error)
                }
            }
        }
    }
}

/// A state on its way to the daemon, part after part.
private struct StateUpload {
    static let partBytes = 1 << 20

    private let client: Client
    private let timeout: Duration?
    /// What the next request says beside its bytes.
    private var request: RestoreSessionRequest

    init(_ client: Client, _ request: RestoreSessionRequest, _ timeout: Duration?) {
        (self.client, self.request, self.timeout) = (client, request, timeout)
    }

    /// Sends bytes that others follow.
    mutating func add(_ bytes: [UInt8]) async throws {
        let info = try await send(bytes, more: true)
        request = RestoreSessionRequest(
            session: info.session, offset: request.offset + UInt64(bytes.count))
    }

    /// Sends the last bytes.
    mutating func finish(_ bytes: [UInt8]) async throws -> Session {
        Session(try await send(bytes, more: false))
    }

    private mutating func send(_ bytes: [UInt8], more: Bool) async throws -> SessionInfo {
        request.state = bytes
        request.more = more
        do {
            return try await client.session(
                "Restore", request, timeout, repeats: !request.session.isEmpty)
        } catch let error as MMFreeError
            where ["WRONG_OFFSET", "SESSION_COMPLETE"].contains(error.reason)
        {
            // An attempt before may have come, and its answer not.
            let info: SessionInfo = try await client.session(
                "Get", GetSessionRequest(session: request.session), timeout, repeats: true)
            let isThere =
                info.incomplete
                ? more && info.receivedBytes == request.offset + UInt64(bytes.count) : !more
            if isThere { return info }
            await abandon()
            throw error
        } catch {
            await abandon()
            throw error
        }
    }

    /// Drops what has begun, as far as the daemon can be asked to; in a task that is cancelled, too.
    func abandon() async {
        let (client, id) = (client, request.session)
        guard !id.isEmpty else { return }
        await Task { try? await client.dropSession(id, timeout: .seconds(5)) }.value
    }
}
