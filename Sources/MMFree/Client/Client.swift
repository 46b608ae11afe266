// SPDX-License-Identifier: Apache-2.0

import RPC

/// A way to a daemon: one connection, made by the first call that needs it and made anew by the next one after it broke. Any
/// number of tasks may share a client.
///
/// Cancelling a task cancels its call, and no other, and throws `CancellationError`. All else that goes wrong is an
/// ``MMFreeError``; when the connection breaks, each call under way hears of it once.
public final class Client: Sendable {
    /// How calls are made.
    public struct Options: Sendable {
        /// How long a call may take, waiting included; `nil` leaves it to the daemon. Calls have it as an argument too.
        public var timeout: Duration?
        public var retries = RetryPolicy.never
        /// How long to wait for a daemon that is just being started.
        public var patience = Duration.seconds(2)

        public init(timeout: Duration? = nil, retries: RetryPolicy = .never) {
            self.timeout = timeout
            self.retries = retries
        }
    }

    /// The most bytes of text one call takes: what a frame holds, less what else is in it.
    public static let textLimit = FrameHeader.dataLimit - (64 << 10)

    public let options: Options
    let connections: Connections

    /// - Parameter socket: the daemon's socket, as a path or as unix:PATH; `nil` tries $MMFREED_SOCKET or, without that,
    ///   /run/mmfreed/mmfreed.sock and $XDG_RUNTIME_DIR/mmfreed.sock. It is looked for by the first call.
    public convenience init(socket: String? = nil, options: Options = Options()) {
        self.init(options) { () throws(MMFreeError) in
            try SocketChoice(given: socket, name: "socket")
        }
    }

    /// - Parameter user: for whom a gateway speaks on this connection.
    package init(
        _ options: Options, onBehalfOf user: UInt32? = nil,
        _ choose: @escaping @Sendable () throws(MMFreeError) -> SocketChoice
    ) {
        self.options = options
        connections = Connections {
            try await choose().connect(patience: options.patience, onBehalfOf: user)
        }
    }

    /// Connects now instead of with the first call.
    public func connect() async throws { _ = try await connections.get() }

    /// Closes the connection, for good. Calls under way end with ``MMFreeError/Code-swift.struct/cancelled``.
    public func close() async { await connections.close() }

    /// Calls and bytes that the present connection keeps: what must not grow with the number of calls made.
    package var kept: (calls: Int, bytes: Int) {
        get async throws { try await connections.get().kept }
    }
}

/// A client for as long as `body` runs.
///
/// - Parameter socket: as in ``Client/init(socket:options:)``.
public func withClient<R>(
    socket: String? = nil, options: Client.Options = Client.Options(),
    isolation: isolated (any Actor)? = #isolation, _ body: (Client) async throws -> R
) async throws -> R {
    let client = Client(socket: socket, options: options)
    let result: Result<R, any Error>
    do { result = .success(try await body(client)) } catch { result = .failure(error) }
    await client.close()
    return try result.get()
}

// MARK: One call

extension Client {
    /// Nanoseconds for a call; `nil` leaves them to the daemon.
    func nanoseconds(_ timeout: Duration?) -> UInt64? {
        (timeout ?? options.timeout).map {
            let (seconds, attoseconds) = $0.components
            guard seconds < 1 << 33 else { return UInt64(Int64.max) }
            return UInt64(clamping: max(1, seconds * 1_000_000_000 + attoseconds / 1_000_000_000))
        }
    }

    /// Calls a method with one answer.
    func call<Answer: WireMessage>(
        _ service: String, _ method: String, _ question: some WireMessage, _ timeout: Duration?,
        isIdempotent: Bool = true
    ) async throws -> Answer {
        var attempts = Attempts(self, isIdempotent: isIdempotent)
        while true {
            do {
                return try await attempts.next()
                    .unary(service, method, question, timeout: nanoseconds(timeout))
            } catch { try await attempts.wait(after: error) }
        }
    }
}
