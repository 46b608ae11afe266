// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Reload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make the daemon look for new, replaced and removed models. For root.")

    @OptionGroup var connection: Connection
    @Flag(help: "One JSON object.") var json = false

    private struct Row: Encodable {
        let added, replaced, removed: [String]
    }

    func run() async throws {
        let changes = try await connection.client().reload()
        if json {
            let row = Row(
                added: changes.added, replaced: changes.replaced, removed: changes.removed)
            return Terminal.print(try Terminal.json(row))
        }
        if (changes.added + changes.replaced + changes.removed).isEmpty {
            Terminal.print("no model was added, replaced or removed")
        }
        for (what, names) in [
            ("added", changes.added), ("replaced", changes.replaced), ("removed", changes.removed),
        ] where !names.isEmpty {
            Terminal.print(Terminal.harmless("\(what): \(names.joined(separator: ", "))"))
        }
    }
}
