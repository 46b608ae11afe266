// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Logging
import ModelStore
import RPC
import Serving
import ServiceLifecycle
import SystemPackage
import UnixSignals

@main
struct Mmfreed: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mmfreed",
        abstract: "Serves packed ternary language models on a Unix socket.",
        version: "mmfreed \(Version.string)")

    @Option(help: "Where to listen.")
    var socket = "/run/mmfreed/mmfreed.sock"

    @Option(help: "A directory of packed models; may be given more than once.")
    var models: [String] = []

    @Option(help: "Worker threads; by default one for each processor it may use.")
    var threads: Int?

    func run() async throws {
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        let logger = Logger(label: "mmfreed")
        var serving = ServingConfiguration()
        serving.threads = threads
        let directories = models.isEmpty ? ["/var/lib/mmfreed/models"] : models
        let service = try ServingService(
            serving, transport: .init(), directory: ModelDirectory(directories.map { FilePath($0) }),
            logger: logger)
        try await service.server.listen(on: .path(socket, mode: 0o660))
        logger.info("listening on \(socket), \(service.threads) threads, \(service.kernelsName) kernels")
        let group = ServiceGroup(
            configuration: .init(
                services: [Listener(service: service)], gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger))
        try await group.run()
    }
}

/// Serves until it is asked to stop, then drains.
struct Listener: Service {
    let service: ServingService

    func run() async throws {
        try await gracefulShutdown()
        await service.drain(limit: .seconds(20))
    }
}
