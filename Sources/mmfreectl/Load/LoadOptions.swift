// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// What clients ask for, and when.
struct LoadOptions: ParsableArguments {
    @Option(parsing: .unconditional, help: "Clients, each with a connection of its own.")
    var clients = 16
    @Option(parsing: .unconditional, help: "Requests of each client.") var requests = 4
    @Option(
        parsing: .unconditional,
        help:
            "Requests a second of all clients, at random times (a Poisson process). Default: each client asks again when it is answered."
    )
    var rate: Double?
    @Option(help: "Prompt lengths in tokens; each request draws one.") var promptMix = "32"
    @Option(help: "Answer lengths in tokens; each request draws one.") var outputMix = "64"
    @Option(
        parsing: .unconditional, help: "Tokens that the prompts of an account have in common.")
    var sharedPrefix = 0
    @Option(
        parsing: .unconditional,
        help: "Temperature of the answers: 0 is greedy, above it top_p is 0.9 as by default.")
    var temperature: Float = 0
    @Option(parsing: .unconditional, help: "The same seed draws the same requests.")
    var loadSeed: UInt64 = 1

    func validate() throws {
        guard (1...1024).contains(clients) else {
            throw ValidationError("--clients is 1 to 1024")
        }
        guard (1...100_000).contains(requests) else {
            throw ValidationError("--requests is 1 to 100000")
        }
        if let rate, !(rate > 0 && rate < 1e6) {
            throw ValidationError("--rate is above 0 and below 1e6")
        }
        for (name, text) in [("--prompt-mix", promptMix), ("--output-mix", outputMix)]
        where Bench.numbers(text, 1...65536) == nil {
            throw ValidationError("\(name) is numbers from 1 to 65536: 32,128")
        }
        guard temperature >= 0, temperature <= 100 else {
            throw ValidationError("--temperature is 0 to 100")
        }
        guard (0...65536).contains(sharedPrefix) else {
            throw ValidationError("--shared-prefix is 0 to 65536")
        }
    }

    /// The same as a command line.
    func arguments(clients: Int, requests: Int, rate: Double?, seed: UInt64) -> [String] {
        var words = [
            "--clients", "\(clients)", "--requests", "\(requests)", "--prompt-mix", promptMix,
            "--output-mix", outputMix, "--shared-prefix", "\(sharedPrefix)", "--temperature",
            "\(temperature)", "--load-seed", "\(seed)",
        ]
        if let rate { words += ["--rate", "\(rate)"] }
        return words
    }
}
