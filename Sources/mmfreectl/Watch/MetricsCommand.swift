// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct MetricsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "metrics",
        abstract: "Print the daemon's counters and histograms in Prometheus' text format.",
        discussion: """
            Names follow OpenTelemetry's conventions for generative AI where these have one. What is shown is of your own \
            requests; root and the daemon's user see all accounts and the sums.
            """)

    @OptionGroup var connection: Connection
    @Option(
        help:
            "Write a file for node_exporter's textfile collector, replaced as a whole: NAME.prom.",
        completion: .file())
    var textfile: String?

    func validate() throws {
        if let textfile, !textfile.hasSuffix(".prom") {
            throw ValidationError(
                "--textfile is \(textfile): node_exporter reads files that end in .prom, no others")
        }
    }

    func run() async throws {
        let output = try textfile.map { try Output($0, replacing: true, inputs: []) }
        let text = try await connection.client().metrics()
        guard let output else { return Terminal.print(text, terminator: "") }
        try output.write(Array(text.utf8))
    }
}
