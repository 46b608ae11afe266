// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CLinux
import MMFree

/// One account's clients, in a process of that account; `bench --server` starts it and reads a JSON object a request. Not in the
/// manual.
struct LoadClients: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench-load", abstract: "Load a daemon with one account's clients.",
        shouldDisplay: false)

    @OptionGroup var load: LoadOptions
    @Option var account = ""
    /// On CLOCK_MONOTONIC, in nanoseconds: all accounts begin at once.
    @Option var start: UInt64?
    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    func run() async throws {
        let client = connection.client()
        let models = try await client.models()
        let wanted = models.first { model.model.isEmpty ? $0.isDefault : $0.name == model.model }
        guard let wanted, wanted.vocabulary > 0 else {
            throw Failure("there is no model '\(model.model)' that can be used", .noInput)
        }
        let plan = LoadPlan(
            clients: load.clients, requests: load.requests, rate: load.rate,
            prompts: Bench.numbers(load.promptMix, 1...65536) ?? [],
            outputs: Bench.numbers(load.outputMix, 1...65536) ?? [], shared: load.sharedPrefix,
            seed: load.loadSeed, vocabulary: wanted.vocabulary)
        let clients = (0..<load.clients).map { _ in connection.client() }
        for client in clients { try await client.connect() }
        let clock = LoadClock(start ?? cl_monotonic_nanoseconds())
        try await clock.wait(until: 0)
        try await withThrowingTaskGroup(of: Void.self) { group in
            if load.rate != nil {
                for request in plan.requests {
                    group.addTask { try await ask(clients[request.client], request, clock) }
                }
            } else {
                for (index, client) in clients.enumerated() {
                    group.addTask {
                        for request in plan.requests where request.client == index {
                            try await ask(client, request, clock)
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    private func ask(_ client: Client, _ request: LoadPlan.Request, _ clock: LoadClock) async throws
    {
        if let arrival = request.arrival { try await clock.wait(until: arrival) }
        // Waiting for one's own processor is no excuse: a request begins when it is due.
        let start = request.arrival ?? clock.now
        var sample = LoadSample(account: account, client: request.client, start: start, end: start)
        do {
            var options = GenerateOptions(
                maxTokens: request.maxTokens, temperature: load.temperature,
                seed: load.loadSeed &+ UInt64(request.client))
            // The end of text of the published models' vocabulary: answers are as long as planned.
            options.logitBias[2] = -.infinity
            for try await part in client.generate(
                .tokens(request.prompt), model: model.model, options: options)
            {
                let now = clock.now
                sample.tokens += part.tokens.map { _ in now }
                if let usage = part.finished?.usage {
                    sample.promptTokens = usage.promptTokens
                    sample.cachedTokens = usage.cachedTokens
                }
            }
        } catch let error as MMFreeError { sample.error = "\(error)" }
        sample.end = clock.now
        Terminal.print(try Terminal.json(sample))
    }
}

/// Seconds since a common start.
private struct LoadClock: Sendable {
    private let start: UInt64

    init(_ start: UInt64) { self.start = start }

    var now: Double { Double(Int64(bitPattern: cl_monotonic_nanoseconds() &- start)) / 1e9 }

    func wait(until time: Double) async throws {
        let left = time - now
        if left > 0 { try await Task.sleep(for: .seconds(left)) }
    }
}
