// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Wait: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Wait until the daemon answers.",
        discussion: "For scripts that start one. --timeout: the longest wait, 60 s unless given.")

    @OptionGroup var connection: Connection

    func run() async throws {
        let seconds = connection.timeout ?? 60
        let limit = ContinuousClock.now + .seconds(seconds)
        var last: Failure
        repeat {
            do {
                let client = Connection.client(connection.socket, patience: .zero)
                try await client.connect()
                let left = max(.milliseconds(1), limit - .now)
                let isServing = await within(left) { try await client.isServing() }
                await client.close()
                if isServing == true { return }
                last = Failure("it accepts connections and does not serve", .temporary)
            } catch {
                // Waiting mends neither a wrong spelling nor a lack of permission.
                guard let failure = Failure(error), failure.status == .unavailable else {
                    throw error
                }
                last = failure
            }
            try await Task.sleep(for: .milliseconds(50))
        } while ContinuousClock.now < limit
        throw Failure(
            "the daemon did not answer within \(String(printf: "%g", seconds)) s: \(last.message)",
            .temporary)
    }
}
