// SPDX-License-Identifier: Apache-2.0

import RPC

/// Conversations that the daemon remembers. Each is its owner's and root's alone.
extension Client {
    func session<Answer: WireMessage>(
        _ method: String, _ question: some WireMessage, _ timeout: Duration?, repeats: Bool
    ) async throws -> Answer {
        try await call(
            ServiceName.session, method, question, timeout ?? options.timeout ?? .seconds(30),
            isIdempotent: repeats)
    }

    /// A new session.
    ///
    /// - Parameters:
    ///   - model: its name; empty for the daemon's default.
    ///   - name: whatever helps to find it again; at most 256 bytes.
    ///   - timeToLive: when to drop it if it is not used; `nil` leaves it to the daemon.
    ///   - blank: begin with nothing, even if the model has an initial state beside it.
    public func createSession(
        model: String = "", name: String = "", timeToLive: Duration? = nil, blank: Bool = false,
        timeout: Duration? = nil
    ) async throws -> Session {
        let request = CreateSessionRequest(
            model: model, name: name, ttl: nanoseconds(of: timeToLive), blank: blank)
        return Session(try await session("Create", request, timeout, repeats: false))
    }

    /// A new session that is where another one is, at its last complete turn.
    public func forkSession(
        _ id: String, name: String = "", timeToLive: Duration? = nil, timeout: Duration? = nil
    ) async throws -> Session {
        let request = ForkSessionRequest(
            session: id, name: name, ttl: nanoseconds(of: timeToLive))
        return Session(try await session("Fork", request, timeout, repeats: false))
    }

    public func dropSession(_ id: String, timeout: Duration? = nil) async throws {
        let _: DropSessionResponse = try await session(
            "Drop", DropSessionRequest(session: id), timeout, repeats: false)
    }

    /// One's own sessions, oldest first; for root everybody's.
    public func sessions(timeout: Duration? = nil) async throws -> [Session] {
        let answer: ListSessionsResponse = try await session(
            "List", ListSessionsRequest(), timeout, repeats: true)
        return answer.sessions.map { Session($0) }
    }

    public func session(_ id: String, timeout: Duration? = nil) async throws -> Session {
        Session(
            try await session("Get", GetSessionRequest(session: id), timeout, repeats: true))
    }

    func nanoseconds(of duration: Duration?) -> UInt64 {
        duration.flatMap { nanoseconds($0) } ?? 0
    }
}
