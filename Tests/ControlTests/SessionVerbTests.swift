// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `mmfreectl session` and `generate --session`, asked of a daemon.
@Suite("mmfreectl session")
struct SessionVerbTests {
    private struct Row: Decodable {
        let session, name, model: String
        let tokens: Int
        let ttlS: Double
    }

    private struct Shell {
        let environment: [String: String]

        func result(_ arguments: [String], input: [UInt8] = []) throws -> Program.Result {
            try Program.run(arguments, input: input, environment: environment)
        }

        /// What is printed, when it turns out well.
        func callAsFunction(_ arguments: String...) throws -> String {
            let result = try result(arguments)
            #expect(result.status == 0, "\(arguments): \(result.errors)")
            return result.output.trimmingCharacters(in: .newlines)
        }

        func turn(_ session: String, _ text: String) throws -> String {
            try self("generate", "--session", session, "-n", "6", "--temperature", "0", text)
        }

        func rows() throws -> [Row] {
            try self("session", "list", "--json").split(separator: "\n").map {
                let decoder = JSONDecoder()
                decoder.keyDecodingStrategy = .convertFromSnakeCase
                return try decoder.decode(Row.self, from: Data($0.utf8))
            }
        }
    }

    @Test("a session remembers its turns; a fork and a restored state go on like it")
    func turns() throws {
        try Program.withDaemon { environment in
            let run = Shell(environment: environment)
            let id = try run("session", "create", "--name", "a tale", "--ttl", "600")
            let first = try run.turn(id, "Once upon a time")
            let row = try #require(try run.rows().first)
            #expect(row.session == id && row.name == "a tale" && row.model == "demo")
            #expect(row.ttlS == 600 && row.tokens > 6)
            let fork = try run("session", "fork", id)
            try Program.withDirectory { directory in
                let file = directory + "/state"
                _ = try run("session", "save", id, "-o", file)
                let refused = try run.result(["session", "save", id, "-o", file])
                #expect(refused.status == 73 && refused.errors.contains("--force"))
                _ = try run("session", "save", id, "-f", "-o", file)
                let restored = try run("session", "restore", file)
                let second = try run.turn(id, " and then")
                #expect(try run.turn(fork, " and then") == second)
                #expect(try run.turn(restored, " and then") == second)
                #expect(second != first)
                // Standard output and input.
                let saved = try Program.run(
                    ["session", "save", fork, "-o", "-"], environment: environment,
                    shell: #"exec "$0" "$@" >"# + directory + "/state2")
                #expect(saved.status == 0, "\(saved.errors)")
                let bytes = try Data(contentsOf: URL(fileURLWithPath: directory + "/state2"))
                let again = try run.result(["session", "restore", "-"], input: Array(bytes))
                let copy = again.output.trimmingCharacters(in: .newlines)
                #expect(try run.turn(copy, " so") == run.turn(id, " so"))
                _ = try run("session", "drop", copy)
            }
            #expect(try run.rows().count == 3)
            for row in try run.rows() { _ = try run("session", "drop", row.session) }
            #expect(try run.rows().isEmpty)
        }
    }

    @Test("what cannot be used is refused by name, with the status of its kind")
    func refused() throws {
        try Program.withDaemon { environment in
            let run = Shell(environment: environment)
            let unknown = try run.result(["generate", "--session", "s0", "a"])
            #expect(unknown.status == 66 && unknown.errors.contains("no session 's0'"))
            for verb in ["fork", "drop"] {
                let result = try run.result(["session", verb, "s0"])
                #expect(result.status == 66 && result.errors.contains("no session 's0'"))
            }
            let noState = try run.result(["session", "restore", "-"], input: Array("abc".utf8))
            #expect(noState.status == 64 && noState.errors.contains("MMFSTATE"), "\(noState)")
            let noModel = try run.result(["session", "create", "-m", "nosuch"])
            #expect(noModel.status == 66 && noModel.errors.contains("nosuch"))
            #expect(try run.result(["session", "create", "--ttl", "0"]).status == 64)
            #expect(try run("session", "list") == "")
        }
    }

    @Test("with session_directory a session is there after the daemon's end, with the same answers")
    func disk() throws {
        try Program.withDirectory { directory in
            let settings = ["--set", "session_directory=\(directory)/sessions"]
            var (id, expected) = ("", "")
            try Program.withDaemon(settings) { environment in
                let run = Shell(environment: environment)
                id = try run("session", "create")
                _ = try run.turn(id, "Once upon a time")
                expected = try run.turn(run("session", "fork", id), " and then")
            }
            try Program.withDaemon(settings) { environment in
                let run = Shell(environment: environment)
                #expect(try run.rows().count == 2)
                #expect(try run.turn(id, " and then") == expected)
                _ = try run("session", "drop", id)
            }
            try Program.withDaemon(settings) { environment in
                let left = try Shell(environment: environment).rows()
                #expect(left.count == 1)
            }
        }
    }
}
