// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

/// What an answer must be.
struct FormatArguments: ParsableArguments {
    @Option(
        help: "Answer with a JSON value that obeys the JSON schema in this file.",
        completion: .file())
    var jsonSchema: String?

    @Option(
        parsing: .unconditional,
        help: "Answer with a text that this regular expression matches as a whole.")
    var regex: String?

    @Option(help: "Answer with a text of the GBNF grammar in this file.", completion: .file())
    var grammar: String?

    @Flag(help: "Answer with a JSON object.")
    var jsonObject = false

    func validate() throws {
        let given = [
            jsonSchema.map { _ in "--json-schema" }, regex.map { _ in "--regex" },
            grammar.map { _ in "--grammar" }, jsonObject ? "--json-object" : nil,
        ].compactMap { $0 }
        if given.count > 1 {
            throw ValidationError(
                "\(given.joined(separator: " and ")) were given: give one of them")
        }
    }

    func format() throws -> AnswerFormat? {
        if let jsonSchema { return .jsonSchema(try Self.text(jsonSchema)) }
        if let regex { return .regex(regex) }
        if let grammar { return .grammar(try Self.text(grammar)) }
        return jsonObject ? .jsonObject : nil
    }

    /// The limit is the daemon's, with room for it to say so.
    private static func text(_ file: String) throws -> String {
        try Input(file).text(limit: 1 << 20)
    }
}
