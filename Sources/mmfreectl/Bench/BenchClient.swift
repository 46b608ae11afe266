// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import MMFree
import SystemPackage

/// What the client library costs, for dev/figures: not in the manual.
struct BenchClient: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench-client", abstract: "Measure what a client of the daemon costs.",
        discussion: """
            One JSON object a line. With --first-token only that: the time to the first token of a prompt of 32 tokens, asked \
            of the daemon, or computed here on the memory it shares.
            """, shouldDisplay: false)

    enum Place: String, ExpressibleByArgument {
        case daemon, shared
    }

    @Option var firstToken: Place?
    @Flag(help: "Only map the daemon's model, and keep it until standard input ends.")
    var hold = false
    @Option(help: "Only make a random model of this size, at --output.") var make: PublishedShape?
    @Option var output: String?
    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    func run() async throws {
        if let make, let output { return try make.write(to: FilePath(output)) }
        if hold {
            let shared = try await SharedModel.shared(model: model.model, socket: connection.socket)
            for try await _ in shared.generate(
                prompt, options: GenerateOptions(maxTokens: 2, temperature: 0))
            {}
            Terminal.print("held")
            _ = readLine()
            return withExtendedLifetime(shared) {}
        }
        let client = connection.client()
        switch firstToken {
        case .daemon?:
            // The first request also opens the model.
            try await client.connect()
            let time = try await timeToFirst {
                client.generate(prompt, model: model.model, options: endless)
            }
            return try show("first token, daemon", time * 1e3, "ms")
        case .shared?:
            let began = ContinuousClock.now
            let shared = try await SharedModel.shared(model: model.model, socket: connection.socket)
            let opened = seconds(since: began)
            let time = try await timeToFirst { shared.generate(prompt, options: endless) }
            try show("descriptor, mapped and bound", opened * 1e3, "ms")
            return try show("first token, own process", (opened + time) * 1e3, "ms")
        case nil: break
        }
        try await roundTrips(client)
        try await streaming(client)
        try await manyCalls(client)
        try await descriptors()
    }

    private var prompt: Prompt { .tokens((0..<32).map { $0 + 3 }) }

    /// An answer that goes on until somebody stops it.
    private var endless: GenerateOptions {
        GenerateOptions(maxTokens: 1024, temperature: 0)
    }

    private func timeToFirst(_ generate: () -> Generation) async throws -> Double {
        let began = ContinuousClock.now
        for try await part in generate() where !part.tokens.isEmpty || part.finished != nil {
            return seconds(since: began)
        }
        throw Failure("there was no token", .software)
    }

    /// Calls that compute nothing, one after the other, while another client's answer is being written.
    private func roundTrips(_ client: Client) async throws {
        let busy = connection.client()
        let writing = Task {
            while !Task.isCancelled {
                for try await _ in busy.generate(prompt, model: model.model, options: endless) {}
            }
        }
        try await waitUntilDecoding(client)
        let times = try await times(2000) { _ = try await client.isServing() }
        writing.cancel()
        _ = await writing.result
        try show("RPC round trip while decoding, p50", times[times.count / 2] * 1e6, "µs")
        try show("RPC round trip while decoding, p99", times[times.count * 99 / 100] * 1e6, "µs")
    }

    private func waitUntilDecoding(_ client: Client) async throws {
        while try await client.status().requests.allSatisfy({ $0.phase != "decode" }) {
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    /// How long `body` takes each time, in seconds, the shortest first.
    private func times(_ count: Int, _ body: () async throws -> Void) async throws -> [Double] {
        for _ in 0..<count / 10 { try await body() }
        var times: [Double] = []
        for _ in 0..<count {
            let began = ContinuousClock.now
            try await body()
            times.append(seconds(since: began))
        }
        return times.sorted()
    }

    /// The processor time of all of this process' threads for each token that comes.
    private func streaming(_ client: Client) async throws {
        var tokens = 0
        var began = 0.0
        for try await part in client.generate(prompt, model: model.model, options: endless) {
            // The first ones pay for code that is used for the first time.
            if tokens < 32 { began = processorSeconds() }
            tokens += part.tokens.count
        }
        let used = processorSeconds() - began
        try show("client CPU a streamed token", used / Double(max(1, tokens - 32)) * 1e6, "µs")
    }

    private func processorSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    private func manyCalls(_ client: Client) async throws {
        for _ in 0..<1000 { _ = try await client.isServing() }
        let before = memoryFigure("Private_Dirty")
        for _ in 0..<10_000 { _ = try await client.isServing() }
        let grown = max(0, memoryFigure("Private_Dirty") - before)
        let kept = try await client.kept
        try show("memory grown by 10,000 calls", Double(grown) / 1e3, "kB")
        try show("kept of 10,000 calls", Double(kept.calls + kept.bytes), "entries and bytes")
    }

    private func descriptors() async throws {
        let times = try await times(500) {
            try await ShareSocket.probe(model: model.model, socket: connection.socket)
        }
        try show("descriptor in hand, p50", times[times.count / 2] * 1e3, "ms")
        try show("descriptor in hand, p99", times[times.count * 99 / 100] * 1e3, "ms")
    }

    private struct Row: Encodable {
        let name: String
        let value: Double
        let unit: String
    }

    private func show(_ name: String, _ value: Double, _ unit: String) throws {
        Terminal.print(try Terminal.json(Row(name: name, value: value, unit: unit)))
    }
}
