// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOPosix
import Synchronization

/// A connection to a daemon. Any number of calls may share it; closing it cancels them all.
package final class RPCClient: Sendable {
    private let channel: any Channel
    private let connection: NIOLoopBound<ClientConnection>

    private init(_ channel: any Channel, _ connection: NIOLoopBound<ClientConnection>) {
        self.channel = channel
        self.connection = connection
    }

    /// Connects to the socket at `path`. While the daemon's queue of connections is full, tries again for ten seconds.
    package static func connect(path: String) async throws(ClientError) -> RPCClient {
        let limit = ContinuousClock.now + .seconds(10)
        while true {
            do throws(ClientError) { return try await connectOnce(path: path) } catch {
                guard case .queueFull = error, ContinuousClock.now < limit else { throw error }
                do { try await Task.sleep(for: .milliseconds(20)) } catch { throw .timeout }
            }
        }
    }

    private static func connectOnce(path: String) async throws(ClientError) -> RPCClient {
        do {
            return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(.seconds(10))
                .connect(unixDomainSocketPath: path)
                .flatMapThrowing { channel in
                    let connection = ClientConnection()
                    try channel.pipeline.syncOperations.addHandler(connection)
                    return RPCClient(
                        channel, NIOLoopBound(connection, eventLoop: channel.eventLoop))
                }.get()
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

    package func close() async { try? await channel.close() }

    // MARK: Calls

    /// Calls a method with one answer.
    ///
    /// - Parameter timeout: nanoseconds; `nil` leaves it to the daemon.
    package func unary<Answer: WireMessage>(
        _ service: String, _ method: String, _ question: some WireMessage, timeout: UInt64? = nil
    ) async throws(ClientError) -> Answer {
        let request = request(service, method, question, timeout)
        let result: Result<[UInt8], ClientError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                begin(request, streaming: false, timeout: timeout) {
                    .init(message: nil, end: $0)
                } end: {
                    continuation.resume(returning: $0)
                }
            }
        } onCancel: {
            channel.close(promise: nil)
        }
        do { return try Answer(decoding: try result.get()) } catch let error as ClientError {
            throw error
        } catch {
            throw .garbled("\(error)")
        }
    }

    /// Calls a method that answers in parts. Leaving the sequence early closes the connection, which cancels the call.
    package func stream<Answer: WireMessage>(
        _ service: String, _ method: String, _ question: some WireMessage, timeout: UInt64? = nil
    ) -> AsyncThrowingStream<Answer, any Error> {
        let request = request(service, method, question, timeout)
        return AsyncThrowingStream { continuation in
            continuation.onTermination = { [channel] reason in
                if case .cancelled = reason { channel.close(promise: nil) }
            }
            begin(request, streaming: true, timeout: timeout) { end in
                .init(
                    message: { bytes in
                        do { continuation.yield(try Answer(decoding: bytes)) } catch {
                            continuation.finish(throwing: ClientError.garbled("\(error)"))
                        }
                    }, end: end)
            } end: {
                switch $0 {
                case .success: continuation.finish()
                case .failure(let error): continuation.finish(throwing: error)
                }
            }
        }
    }

    /// How much longer than its deadline a call is waited for.
    private static let grace: UInt64 = 5_000_000_000

    private func begin(
        _ request: Request, streaming: Bool, timeout: UInt64?,
        _ waiter:
            @escaping @Sendable (@escaping (Result<[UInt8], ClientError>) -> Void)
            -> ClientConnection.Waiter,
        end: @escaping @Sendable (Result<[UInt8], ClientError>) -> Void
    ) {
        let (channel, connection) = (channel, connection)
        channel.eventLoop.execute {
            var timer: Scheduled<Void>?
            let waiting = waiter { result in
                timer?.cancel()
                end(result)
            }
            let stream = connection.value.start(request, streaming: streaming, waiting, on: channel)
            if let timeout, stream != 0 {
                let limit = Int64(clamping: timeout &+ Self.grace)
                timer = channel.eventLoop.assumeIsolated().scheduleTask(in: .nanoseconds(limit)) {
                    connection.value.abandon(stream, .timeout)
                }
            }
        }
    }

    private func request(
        _ service: String, _ method: String, _ question: some WireMessage, _ timeout: UInt64?
    ) -> Request {
        var request = Request()
        request.service = service
        request.method = method
        request.payload = question.encoded()
        request.timeoutNano = Int64(clamping: timeout ?? 0)
        return request
    }
}
