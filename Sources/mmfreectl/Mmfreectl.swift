// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import ModelStore

@main
struct Mmfreectl: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mmfreectl",
        abstract: "Packs ternary language models and talks to the daemon that serves them.",
        discussion: """
            Try:
              mmfreectl generate "Once upon a time"
              mmfreectl pack ./MMfreeLM-370M -o 370m.gguf
              mmfreectl compare ./MMfreeLM-370M 370m.gguf --text story.txt

            Exit status: \(ExitStatus.summary)
            """,
        version: "mmfreectl \(Version.string)",
        groupedSubcommands: [
            CommandGroup(
                name: "Ask the daemon",
                subcommands: [
                    Generate.self, Embed.self, Tokenize.self, Detokenize.self, Models.self,
                    StatusCommand.self, Cancel.self, Reload.self,
                ]),
            CommandGroup(
                name: "Work on files",
                subcommands: [Pack.self, Unpack.self, Inspect.self, Verify.self]),
            CommandGroup(
                name: "Measure",
                subcommands: [Perplexity.self, Logits.self, Compare.self, Bench.self]),
        ])

    /// Runs a verb, and turns what it throws into a message and an exit status.
    static func main() async {
        MappedFile.containFaults()
        // Help, versions and wrong arguments are ArgumentParser's own.
        var command: any ParsableCommand
        do { command = try parseAsRoot() } catch { exit(withError: error) }
        do {
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            guard let failure = Failure(error) else { exit(withError: error) }
            Terminal.complain(failure.message)
            Foundation.exit(failure.status.rawValue)
        }
    }
}
