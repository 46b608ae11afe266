// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Cancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Stop a request; `mmfreectl status` shows which there are.")

    @Argument(
        help: "The request's id.",
        completion: .custom { words, _, _ in await Completion.requests(words) })
    var request: String
    @OptionGroup var connection: Connection
    @Flag(help: "One JSON object.") var json = false

    func run() async throws {
        let isEnded = try await connection.client().cancel(request)
        if json { return Terminal.print(try Terminal.json(["cancelled": isEnded])) }
        if !isEnded { Terminal.note("the request had ended already") }
    }
}
