// SPDX-License-Identifier: Apache-2.0
//
// Accepts connections, speaks HTTP/1.1 on them by Hummingbird's server core, and hands each request to a handler. A connection is one
// task on its event loop: when its peer goes away, the task is cancelled, and with it the daemon's call.

import CLinux
import Glibc
import HummingbirdCore
package import Logging
package import NIOCore
import NIOExtras
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import NIOPosix
import RPC
import ServiceLifecycle
import Synchronization

/// Answers HTTP requests on sockets.
package final class Listener: Service {
    package enum Address: Sendable, Equatable {
        /// A socket to make, with these permissions.
        case path(String, mode: UInt16)
        /// An address of this machine and a port; 0 for any.
        case tcp(host: String, port: Int)
        /// A listening socket somebody else made.
        case descriptor(Int32)
    }

    private let addresses: [Address]
    private let limits: ConnectionLimits
    private let mostConnections: Int
    private let drainTime: Duration
    private let exchange: Exchange
    private let logger: Logger
    private let group: any EventLoopGroup
    private let whenListening: @Sendable ([Int]) -> Void

    private struct State {
        var connections: [ObjectIdentifier: any Channel] = [:]
        var listeners: [any Channel] = []
        /// By user; those of unknown users are one's.
        var quota: Quota
        var isFull = false
    }
    private let state: Mutex<State>

    /// - Parameter whenListening: told the ports of the TCP addresses, in their order.
    package init(
        _ addresses: [Address], _ gateway: Gateway, limits: ConnectionLimits = ConnectionLimits(),
        mostConnections: Int = 256, drainTime: Duration = .seconds(20), logger: Logger,
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        whenListening: @escaping @Sendable ([Int]) -> Void = { _ in }
    ) {
        self.addresses = addresses
        self.limits = limits
        self.mostConnections = mostConnections
        self.drainTime = drainTime
        exchange = Exchange(gateway, logger)
        self.logger = logger
        self.group = group
        self.whenListening = whenListening
        state = Mutex(
            State(quota: Quota(total: mostConnections, perAccount: max(1, mostConnections / 2))))
    }

    /// Serves until its service group is told to stop; then refuses new connections and finishes what was begun, for a limited time.
    package func run() async throws {
        var made: [SocketPath] = []
        defer { for socket in made { socket.remove() } }
        var quiescing: [ServerQuiescingHelper] = []
        for address in addresses {
            let helper = ServerQuiescingHelper(group: group)
            quiescing.append(helper)
            let bootstrap = ServerBootstrap(group: group)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .serverChannelOption(.backlog, value: 256)
                .serverChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(
                            helper.makeServerChannelHandler(channel: channel))
                    }
                }
                .childChannelInitializer { [self] channel in accept(channel) }
            let listener = try await listen(address, bootstrap, &made)
            state.withLock { $0.listeners.append(listener) }
            logger.info("listening on \(listener.localAddress.map { "\($0)" } ?? "\(address)")")
        }
        whenListening(state.withLock { $0.listeners.compactMap { $0.localAddress?.port } })
        try? await gracefulShutdown()
        await drain(quiescing)
    }

    private func listen(
        _ address: Address, _ bootstrap: ServerBootstrap, _ made: inout [SocketPath]
    ) async throws -> any Channel {
        switch address {
        case .descriptor(let descriptor):
            return try await bootstrap.withBoundSocket(descriptor).get()
        case .path(let path, let mode):
            let socket = try SocketPath.listen(path, mode: mode, backlog: 256)
            made.append(socket.socket)
            return try await bootstrap.withBoundSocket(socket.descriptor).get()
        case .tcp(let host, let port):
            do { return try await bootstrap.bind(host: host, port: port).get() } catch {
                throw ListenError.failed("\(host):\(port)", "\(error)")
            }
        }
    }

    private func drain(_ quiescing: [ServerQuiescingHelper]) async {
        logger.info("stopping")
        let ends = quiescing.map { helper in
            let end = group.next().makePromise(of: Void.self)
            helper.initiateShutdown(promise: end)
            return end.futureResult
        }
        let cut = group.next().scheduleTask(in: TimeAmount(drainTime)) { [self] in
            for channel in state.withLock({ Array($0.connections.values) }) {
                channel.close(promise: nil)
            }
        }
        for end in ends { try? await end.get() }
        cut.cancel()
    }

    // MARK: Connections

    private func accept(_ channel: any Channel) -> EventLoopFuture<Void> {
        Caller.of(channel).flatMapThrowing { [self] caller in
            try enter(channel, Account(uid: caller.uid ?? .max))
            let pipeline = channel.pipeline.syncOperations
            var decoder = NIOHTTPDecoderLimitConfiguration()
            decoder.maxHeaderFieldSize = limits.headerBytes
            decoder.maxHeaderListSize = limits.headersBytes
            decoder.maxHeaderFieldCount = limits.headerCount
            try pipeline.configureHTTPServerPipeline(
                withPipeliningAssistance: false, withErrorHandling: false,
                withOutboundHeaderValidation: false, withEncoderConfiguration: .init(),
                withDecoderLimitConfiguration: decoder)
            try pipeline.addHandlers([
                ConnectionGuard(limits), HTTP1ToHTTPServerCodec(secure: false),
                HTTPConnectionStateHandler(idleTimeout: limits.idleTime, logger: logger),
            ])
            let parts = try NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>(
                wrappingChannelSynchronously: channel)
            let loop = LoopExecutor(channel.eventLoop)
            let connection = HTTPConnection(
                responder: { [exchange] request, writer, _ in
                    try await exchange.answer(request, writer, caller, on: loop)
                })
            let task = Task(executorPreference: loop) { [logger] in
                await connection.handleHTTP(asyncChannel: parts, logger: logger)
            }
            channel.closeFuture.whenComplete { _ in task.cancel() }
        }
    }

    private struct TooMany: Error {}

    /// - Throws: if the user has as many connections as one may; then this one is closed.
    private func enter(_ channel: any Channel, _ account: Account) throws {
        let isAdmitted = state.withLock { state in
            guard state.quota.take(1, for: account) else { return false }
            state.connections[ObjectIdentifier(channel)] = channel
            return true
        }
        guard isAdmitted else { throw TooMany() }
        channel.closeFuture.whenComplete { [self] _ in
            state.withLock { state in
                state.connections[ObjectIdentifier(channel)] = nil
                state.quota.give(1, back: account)
            }
            pauseOrResume()
        }
        pauseOrResume()
    }

    /// Beyond the limit connections wait to be accepted.
    private func pauseOrResume() {
        let (isFull, listeners) = state.withLock { state in
            let isFull = state.connections.count >= mostConnections
            defer { state.isFull = isFull }
            return (isFull, isFull == state.isFull ? [] : state.listeners)
        }
        for listener in listeners { _ = listener.setOption(.autoRead, value: !isFull) }
    }
}

/// Hummingbird's loop over the requests of a connection.
private struct HTTPConnection: HTTPChannelHandler {
    typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>
    let responder: Responder

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            try NIOAsyncChannel(wrappingChannelSynchronously: channel)
        }
    }

    func handle(value: Value, logger: Logger) async {
        await handleHTTP(asyncChannel: value, logger: logger)
    }
}
