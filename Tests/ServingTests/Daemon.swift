// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import Logging
import ModelStore
import RPC
import Synchronization
import SystemPackage
import TestSupport

@testable import Serving

/// The whole of serving in this process, on a socket of its own.
struct Daemon: Sendable {
    let service: ServingService
    let directory: FilePath
    fileprivate let clock: ShiftedClock
    var socket: String { directory.appending("socket").string }

    func connect() async throws -> RPCClient { try await RPCClient.connect(path: socket) }

    /// A client on a connection of its own, closed after `body`.
    func withClient<R>(
        timeout: UInt64? = nil, _ body: (InferenceClient, ControlClient) async throws -> R
    ) async throws -> R {
        let client = try await connect()
        let result: Result<R, any Error>
        do {
            result = .success(
                try await body(
                    InferenceClient(client, timeout: timeout),
                    ControlClient(client, timeout: timeout)))
        } catch { result = .failure(error) }
        await client.close()
        return try result.get()
    }

    /// Stops the service as the daemon does, on a thread that may block.
    func drain(limit: Duration) async {
        await withCheckedContinuation { continuation in
            startThread(name: "drain") {
                service.drain(limit: limit)
                continuation.resume()
            }
        }
    }

    /// One of the models, opened beside the daemon.
    func model(_ name: String, _ keyValues: KeyValueType = .f32) throws -> Model {
        try Model(
            PackedFile(path: TestSupport.model(name, in: directory)), keyValues: keyValues)
    }

    /// Lets time pass for requests and for draining, at once.
    func pass(_ seconds: UInt64) {
        clock.shift.add(seconds * 1_000_000_000, ordering: .relaxed)
        service.nudge()
    }

    /// Lets no more time pass for them.
    func stopTime() { clock.stopped.store(clock.now, ordering: .relaxed) }

    /// The only request, once it waits for its reader.
    func stalled() async throws -> RequestRecord {
        try await eventually { service.ledger.open.first?.isStalled == true }
        return service.ledger.open[0]
    }

    /// Waits until so many requests are in slots and in the queue.
    func wait(active: Int, queued: Int = 0) async throws {
        try await eventually { service.load == (active, queued) }
    }
}

/// The system's clock, ahead or stopped.
private final class ShiftedClock: Sendable {
    let shift = Atomic<UInt64>(0)
    let stopped = Atomic<UInt64>(0)

    var now: UInt64 {
        let stopped = stopped.load(ordering: .relaxed)
        return stopped != 0
            ? stopped : cl_monotonic_nanoseconds() + shift.load(ordering: .relaxed)
    }
}

/// Serves `models`, and what else `prepare` puts into their directory, for as long as `body` runs.
func withDaemon<R>(
    _ models: [String: UInt64] = ["tiny": 1], _ configuration: ServingConfiguration = .testing,
    opener: @escaping ModelCatalog.Opener = ModelCatalog.load, timeout: UInt64? = nil,
    preparing prepare: (FilePath) throws -> Void = { _ in },
    _ body: (Daemon) async throws -> R
) async throws -> R {
    try await withModels(models) { directory in
        try prepare(directory)
        let places = ModelDirectory([directory])
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let clock = ShiftedClock()
        var transport = RPCServer.Configuration()
        transport.slowReaderTimeout = 3_600_000_000_000
        transport.frameTime = 3_600_000_000_000
        if let timeout { transport.defaultTimeout = timeout }
        let service = try ServingService(
            configuration, transport: transport, directory: places, logger: logger,
            catalog: ModelCatalog(places, configuration, logger, opener: opener),
            clock: { clock.now })
        let daemon = Daemon(service: service, directory: directory, clock: clock)
        try service.server.listen(on: .path(daemon.socket, mode: 0o600))
        let result: Result<R, any Error>
        do { result = .success(try await body(daemon)) } catch { result = .failure(error) }
        await daemon.drain(limit: .zero)
        return try result.get()
    }
}

extension ServingConfiguration {
    static var testing: ServingConfiguration {
        var configuration = ServingConfiguration()
        configuration.threads = 2
        return configuration
    }

    /// One slot: whoever comes second waits.
    static var oneSlot: ServingConfiguration {
        var configuration = testing
        configuration.slots = 1
        return configuration
    }
}

/// The refusal that `body` ends with.
func refusal(_ body: () async throws -> Void) async throws -> RPCError? {
    do { try await body() } catch ClientError.rpc(let error) { return error }
    return nil
}

extension GenerateRequest {
    /// A request that goes on for `count` tokens, the end of text forbidden.
    init(_ text: String, count: Int, seed: UInt64 = 7, logprobs: UInt32? = nil) {
        self.init()
        prompt = .text(text)
        maxTokens = UInt32(count)
        self.logprobs = logprobs
        var sampling = Sampling()
        sampling.seed = seed
        sampling.temperature = 1
        var bias = LogitBias()
        bias.token = TinyModel.eos
        bias.bias = -.infinity
        sampling.logitBias = [bias]
        self.sampling = sampling
    }

    /// A request that would keep its slot for the whole test.
    static var endless: GenerateRequest { GenerateRequest("on and on", count: 60000) }
}

extension InferenceClient {
    /// A streamed answer, put together.
    func collect(_ request: GenerateRequest) async throws -> GenerateResponse {
        var whole = GenerateResponse()
        for try await part in generate(request) { whole.merge(part) }
        return whole
    }
}
