// SPDX-License-Identifier: Apache-2.0

import RPC

/// The tries of one call.
struct Attempts {
    private let connections: Connections
    private let policy: RetryPolicy
    private var made = 0
    private var connection: RPCClient?

    /// - Parameter isIdempotent: whether the call may be made again at all.
    init(_ client: Client, isIdempotent: Bool) {
        connections = client.connections
        policy = isIdempotent ? client.options.retries : .never
    }

    /// The connection for the next try.
    mutating func next() async throws -> RPCClient {
        made += 1
        let connection = try await connections.get()
        self.connection = connection
        // Before a byte of the call is sent.
        try Task.checkCancellation()
        return connection
    }

    /// Waits until the call may be tried again, or throws what its caller is told.
    mutating func wait(after error: any Error) async throws {
        let failure: MMFreeError
        switch error {
        case let error as ClientError:
            if case .cancelled = error, Task.isCancelled { throw CancellationError() }
            if case .reconnect = error.retry, let connection { connections.forget(connection) }
            failure = MMFreeError(error)
        case let error as MMFreeError: failure = error
        default: throw error
        }
        connection = nil
        guard let wait = policy.wait(after: failure, attempt: made) else { throw failure }
        try await Task.sleep(for: wait)
    }
}
