// SPDX-License-Identifier: Apache-2.0

import Engine
import Logging
import MMFree
import ModelStore
import RPC
import ServiceLifecycle
import Serving
import Synchronization
import SystemPackage
import TestSupport

@testable import Gateway

/// A daemon and a gateway before it, in this process.
struct Rig: Sendable {
    let daemonSocket: String
    let service: ServingService
    let socket: String
    /// Of the gateway on 127.0.0.1.
    let port: Int
    let group: ServiceGroup
    let gateway: Gateway

    /// A connection to the gateway's Unix socket.
    func connect() throws -> HTTPSocket { HTTPSocket(try RawSocket(socket)) }

    func connectTCP() throws -> HTTPSocket { HTTPSocket(try RawSocket(port: port)) }

    /// One request on a connection of its own.
    func post(_ path: String, _ body: String, _ headers: [String] = []) async throws -> HTTPAnswer {
        let socket = try connect()
        try await socket.send("POST", path, headers, body: body)
        return try await socket.answer()
    }

    func get(_ path: String, _ headers: [String] = []) async throws -> HTTPAnswer {
        let socket = try connect()
        try await socket.send("GET", path, headers)
        return try await socket.answer()
    }
}

extension ConnectionLimits {
    /// A test's own client may wait long for its turn; what a test does not shorten is as long as it takes.
    static var unhurried: ConnectionLimits {
        var limits = ConnectionLimits()
        limits.bodyTime = .seconds(240)
        limits.idleTime = .seconds(240)
        limits.stallTime = .seconds(240)
        return limits
    }
}

func withGateway<R>(
    _ models: [String: UInt64] = ["tiny": 1],
    _ configure: (inout GatewayConfiguration) -> Void = { _ in },
    limits: ConnectionLimits = ConnectionLimits.unhurried, mostConnections: Int = 256,
    drainTime: Duration = .seconds(240),
    serving: ServingConfiguration? = nil,
    _ body: (Rig) async throws -> R
) async throws -> R {
    try await withModels(models) { directory in
        var own = ServingConfiguration()
        own.threads = 2
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let service = try ServingService(
            serving ?? own, transport: RPCServer.Configuration(),
            directory: ModelDirectory([directory]), logger: logger)
        let daemonSocket = directory.appending("daemon.sock").string
        try service.server.listen(on: .path(daemonSocket, mode: 0o600))
        var configuration = GatewayConfiguration()
        configuration.daemon = daemonSocket
        configure(&configuration)
        let gateway = Gateway(configuration)
        let socket = directory.appending("http.sock").string
        let (ports, told) = AsyncStream.makeStream(of: [Int].self)
        let listener = Listener(
            [.path(socket, mode: 0o600), .tcp(host: "127.0.0.1", port: 0)], gateway,
            limits: limits, mostConnections: mostConnections, drainTime: drainTime, logger: logger
        ) { told.yield($0) }
        let group = ServiceGroup(configuration: .init(services: [listener], logger: logger))
        let running = Task { try await group.run() }
        var waiting = ports.makeAsyncIterator()
        let port = await waiting.next()?.last ?? 0
        let rig = Rig(
            daemonSocket: daemonSocket, service: service, socket: socket, port: port, group: group,
            gateway: gateway)
        let result: Result<R, any Error>
        do { result = .success(try await body(rig)) } catch { result = .failure(error) }
        await group.triggerGracefulShutdown()
        try await running.value
        await withCheckedContinuation { done in
            startThread(name: "drain") {
                service.drain(limit: .zero)
                done.resume()
            }
        }
        return try result.get()
    }
}
