// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOPosix
import Synchronization

/// A connection to a daemon. Any number of calls may share it; closing it, or dropping it and them, cancels them all.
///
/// Calls share the order of the socket: while a consumer leaves 256 KiB of its answer unread, others' answers wait too, unless
/// somebody waits for one of those; 8 MiB is the most that is kept for all. A daemon from which nothing comes for 10 s is asked for
/// its health, and given up when nothing comes for another 20 s (`Patience`).
package final class RPCClient: Sendable {
    let channel: any Channel
    let inbox = ClientInbox()
    private let connection: NIOLoopBound<ClientConnection>
    private let calls = Atomic<ClientStreams.ID>(0)

    /// Takes over a channel that is connected; time is its loop's. On that loop.
    init(_ channel: any Channel, _ patience: Patience, onBehalfOf user: UInt32? = nil) throws {
        self.channel = channel
        connection = NIOLoopBound(
            ClientConnection(channel, inbox, patience, onBehalfOf: user),
            eventLoop: channel.eventLoop)
        try channel.pipeline.syncOperations.addHandler(connection.value)
    }

    deinit { onLoop { $0.close(.cancelled) } }

    func onLoop(_ body: @escaping @Sendable (ClientConnection) -> Void) {
        channel.eventLoop.execute { [connection] in body(connection.value) }
    }

    /// Connects to the socket at `path`. While the daemon's queue of connections is full, tries again: 500 times, 20 ms apart.
    ///
    /// - Parameter user: for whom all its calls are; a daemon believes that of its gateway only.
    package static func connect(
        path: String, patience: Patience = Patience(), onBehalfOf user: UInt32? = nil
    ) async throws(ClientError) -> RPCClient {
        try await connect(path: path, patience: patience, onBehalfOf: user) {
            try await LoopExecutor.sleep(for: .milliseconds(20))
        }
    }

    /// - Parameter pause: called before each further attempt.
    static func connect(
        path: String, patience: Patience = Patience(), onBehalfOf user: UInt32? = nil,
        pause: () async throws -> Void
    ) async throws(ClientError) -> RPCClient {
        for _ in 0..<500 {
            do throws(ClientError) { return try await connectOnce(path, patience, user) } catch {
                guard case .queueFull = error else { throw error }
            }
            do { try await pause() } catch { throw .cancelled }
        }
        return try await connectOnce(path, patience, user)
    }

    private static func connectOnce(
        _ path: String, _ patience: Patience, _ user: UInt32?
    ) async throws(ClientError) -> RPCClient {
        do {
            return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(.seconds(10))
                .connect(unixDomainSocketPath: path)
                .flatMapThrowing { try RPCClient($0, patience, onBehalfOf: user) }.get()
        } catch {
            throw reason(error, path)
        }
    }

    private static func reason(_ error: any Error, _ path: String) -> ClientError {
        switch (error as? IOError)?.errnoCode {
        case ENOENT, ENOTDIR: .noSocket(path)
        case ECONNREFUSED: .refused(path)
        case EACCES, EPERM: .notAllowed(path)
        case EAGAIN: .queueFull(path)
        default: .cannotConnect(path, "\(error)")
        }
    }

    /// Closes the connection; open calls end with `.cancelled`.
    package func close() async {
        onLoop { $0.close(.cancelled) }
        try? await channel.closeFuture.get()
    }

    /// Whether calls can be made on it.
    package var isOpen: Bool { channel.isActive }

    /// What is kept for calls that have begun: entries, and bytes that wait for their consumers.
    package var kept: (calls: Int, bytes: Int) {
        get async {
            await withCheckedContinuation { answer in
                onLoop { answer.resume(returning: $0.kept) }
            }
        }
    }

    // MARK: Calls

    /// Calls a method with one answer. Cancelling the task cancels the call, and no other.
    ///
    /// - Parameter timeout: nanoseconds; `nil` leaves it to the daemon.
    package func unary<Answer: WireMessage>(
        _ service: String, _ method: String, _ question: some WireMessage, timeout: UInt64? = nil
    ) async throws(ClientError) -> Answer {
        let call = begin(service, method, question, isStreaming: false, timeout)
        while true {
            guard case .end(let end) = await call.next() else { continue }
            let payload = try end.get()
            do throws(WireError) { return try Answer(decoding: payload) } catch {
                throw .garbled("\(error)")
            }
        }
    }

    /// Calls a method that answers in parts. The call begins at once.
    ///
    /// - Parameter timeout: nanoseconds; `nil` leaves it to the daemon.
    package func stream<Answer: WireMessage>(
        _ service: String, _ method: String, _ question: some WireMessage, timeout: UInt64? = nil
    ) -> AnswerStream<Answer> {
        AnswerStream(call: begin(service, method, question, isStreaming: true, timeout))
    }

    private func begin(
        _ service: String, _ method: String, _ question: some WireMessage, isStreaming: Bool,
        _ timeout: UInt64?
    ) -> ClientCall {
        let request = Request(
            service: service, method: method, payload: question.encoded(),
            timeoutNano: Int64(clamping: timeout ?? 0))
        return ClientCall(
            self, calls.wrappingAdd(1, ordering: .relaxed).newValue, request,
            isStreaming: isStreaming, timeout: timeout)
    }
}
