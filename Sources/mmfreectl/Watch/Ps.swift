// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Ps: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the open requests: whose they are, and how fast they are answered.",
        discussion: """
            Requests are your own; root and the daemon's user see all. UNIT is the systemd unit of the caller's process. \
            TOKENS/S is the mean since the answer's first token.
            """)

    @OptionGroup var connection: Connection
    @Flag(help: "One JSON object a line.") var json = false

    func run() async throws {
        let status = try await connection.client().status()
        let activity = Activity(status, at: .now) {
            (ProcessOwner.name(of: $0), ProcessOwner.unit(of: $1))
        }
        guard json else { return Terminal.print(activity.table.text) }
        for row in activity.rows { Terminal.print(try Terminal.json(row)) }
    }
}
