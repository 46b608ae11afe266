// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

/// Sessions: `mmfreectl session create` and so on; `generate --session ID` appends to one.
struct SessionVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "session", abstract: "Keep conversations in the daemon.",
        subcommands: [
            Create.self, List.self, Fork.self, Save.self, Restore.self, Drop.self,
        ])

    /// What a new session is called and how long it lives.
    struct Life: ParsableArguments {
        @Option(parsing: .unconditional, help: "What to call it. Need not be unique.")
        var name = ""
        @Option(
            parsing: .unconditional,
            help:
                "Seconds until it is dropped when it is not used. Default: the daemon's session_time."
        )
        var ttl: Double?

        func validate() throws {
            if let ttl, !(ttl > 0 && ttl < 1e9) {
                throw ValidationError("--ttl is \(ttl): seconds, above 0 and below 1e9")
            }
        }

        var timeToLive: Duration? { ttl.map { .seconds($0) } }
    }

    /// Which session.
    struct ID: ParsableArguments {
        @Argument(
            help: "The session's id.",
            completion: .custom { words, _, _ in await Completion.sessions(words) })
        var session: String
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Begin a session; write its id.")
        @OptionGroup var model: ModelOption
        @OptionGroup var life: Life
        @Flag(help: "Begin with nothing, even if the model has an initial state beside it.")
        var blank = false
        @OptionGroup var connection: Connection
        @Flag(help: "One JSON object.") var json = false

        func run() async throws {
            try Row.print(
                await connection.client().createSession(
                    model: model.model, name: life.name, timeToLive: life.timeToLive, blank: blank),
                json)
        }
    }

    struct Fork: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Begin a session where another one is; write its id.")
        @OptionGroup var id: ID
        @OptionGroup var life: Life
        @OptionGroup var connection: Connection
        @Flag(help: "One JSON object.") var json = false

        func run() async throws {
            try Row.print(
                await connection.client().forkSession(
                    id.session, name: life.name, timeToLive: life.timeToLive), json)
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List your sessions; as root everybody's.")
        @OptionGroup var connection: Connection
        @Flag(help: "One JSON object a line.") var json = false

        func run() async throws {
            let sessions = try await connection.client().sessions()
            if json {
                for session in sessions { Terminal.print(try Terminal.json(Row(session))) }
                return
            }
            guard !sessions.isEmpty else { return Terminal.note("no sessions") }
            var table = Table(
                [
                    "SESSION", "NAME", "MODEL", "TOKENS", "SIZE", "IDLE S", "LIVES S", "TURNS",
                    "UID", "ON DISK",
                ],
                numeric: [3, 4, 5, 6, 7, 8])
            for session in sessions {
                table.add([
                    session.id, session.name, session.model, "\(session.tokens)",
                    Terminal.bytes(UInt64(session.bytes)), "\(session.idle.components.seconds)",
                    "\(session.timeToLive.components.seconds)", "\(session.turns)",
                    "\(session.uid)",
                    session.isIncomplete ? "incomplete" : session.isOnDisk ? "yes" : "no",
                ])
            }
            Terminal.print(table.text)
        }
    }

    struct Save: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a session's state to a file, for `session restore`.")
        @OptionGroup var id: ID
        @Option(
            name: [.short, .long], help: "The file; \"-\" is standard output.",
            completion: .file())
        var output: String
        @OptionGroup var replacing: Replacing
        @OptionGroup var connection: Connection

        func run() async throws {
            // What is in the way is told before the daemon is asked.
            _ = try Output(output, replacing: replacing.force, inputs: [])
            _ = try await StateFile.save(
                id.session, to: output, replacing: replacing.force, connection.client())
        }
    }

    struct Restore: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Begin a session with a state from a file; write its id.")
        @Argument(help: "The file; \"-\" is standard input.", completion: .file())
        var file: String
        @OptionGroup var model: ModelOption
        @OptionGroup var life: Life
        @OptionGroup var connection: Connection
        @Flag(help: "One JSON object.") var json = false

        func run() async throws {
            try Row.print(
                await StateFile.restore(
                    file, name: life.name, model: model.name ?? "", timeToLive: life.timeToLive,
                    connection.client()),
                json)
        }
    }

    struct Drop: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Forget a session.")
        @OptionGroup var id: ID
        @OptionGroup var connection: Connection

        func run() async throws { try await connection.client().dropSession(id.session) }
    }

    private struct Row: Encodable {
        let session, name, model, modelDigest, tokensDigest: String
        let tokens, bytes, turns: Int
        let uid: UInt32
        let ttlS, idleS, ageS: Double
        let onDisk, incomplete: Bool
        let receivedBytes: Int

        init(_ value: Session) {
            (session, name, model) = (value.id, value.name, value.model)
            modelDigest = value.modelDigest
            // As a string: JSON's readers take numbers for doubles.
            tokensDigest = String(value.tokensDigest, radix: 16)
            (tokens, bytes, turns) = (value.tokens, value.bytes, value.turns)
            uid = value.uid
            ttlS = value.timeToLive / .seconds(1)
            idleS = value.idle / .seconds(1)
            ageS = value.age / .seconds(1)
            onDisk = value.isOnDisk
            (incomplete, receivedBytes) = (value.isIncomplete, value.receivedBytes)
        }

        static func print(_ session: Session, _ json: Bool) throws {
            Terminal.print(json ? try Terminal.json(Row(session)) : session.id)
        }
    }
}
