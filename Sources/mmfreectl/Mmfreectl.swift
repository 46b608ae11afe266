// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
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
                    Generate.self, Chat.self, Render.self, Embed.self, Search.self, Score.self,
                    Tokenize.self,
                    Detokenize.self, Models.self,
                    Default.self, SessionVerb.self, Wait.self, Cancel.self, Reload.self,
                ]),
            CommandGroup(
                name: "Watch the daemon",
                subcommands: [StatusCommand.self, Ps.self, Top.self, MetricsCommand.self]),
            CommandGroup(
                name: "Keep models",
                subcommands: [
                    Install.self, Versions.self, Rollback.self, Remove.self, Load.self, Pin.self,
                    Unload.self,
                ]),
            CommandGroup(
                name: "Work on files",
                subcommands: [Pack.self, Unpack.self, Inspect.self, Verify.self]),
            CommandGroup(
                name: "Measure",
                subcommands: [
                    Perplexity.self, Eval.self, Logits.self, Compare.self, Bench.self,
                    BenchClient.self, BenchGrammar.self,
                    LoadClients.self,
                ]),
        ])

    static let _errorPrefix = "mmfreectl: "

    static func main() async {
        Terminal.prepare()
        MappedFile.containFaults()
        let arguments = CommandLine.arguments.dropFirst().map { $0 }
        do throws(Failure) {
            try CommandLineCheck.encoding()
            try CommandLineCheck.verbs(arguments)
        } catch { end(error) }
        var command: any ParsableCommand
        do {
            // Only the shells' questions wait for anything: verbs that compute stay on the main thread.
            command =
                arguments.first == "---completion"
                ? try await asyncParseAsRoot(arguments) : try parseAsRoot(arguments)
        } catch {
            end(parser: error, CommandLineCheck.hint(message(for: error), arguments))
        }
        do {
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch let error as ValidationError {
            end(parser: error, nil)
        } catch let error as ExitCode {
            Glibc.exit(error.rawValue)
        } catch {
            // `help` is a verb of ArgumentParser's, and throws what it shows.
            if exitCode(for: error).isSuccess { end(parser: error, nil) }
            end(Failure(error) ?? Failure("\(error)", .software))
        }
    }

    private static func end(_ failure: Failure) -> Never {
        Terminal.complain(failure.message)
        Glibc.exit(failure.status.rawValue)
    }

    /// Help, versions, completion scripts and wrong arguments, in ArgumentParser's words.
    private static func end(parser error: any Error, _ hint: String?) -> Never {
        let code = exitCode(for: error)
        let text = fullMessage(for: error)
        if code.isSuccess {
            if !text.isEmpty { Terminal.print(text) }
        } else {
            // The hint stands between the message and the usage.
            var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            let place = lines.firstIndex { $0.hasPrefix("Usage:") || $0.hasPrefix("Help:") }
            if let hint { lines.insert(hint[...], at: place ?? lines.endIndex) }
            Terminal.note(lines.joined(separator: "\n"))
        }
        Glibc.exit(code.rawValue)
    }
}
