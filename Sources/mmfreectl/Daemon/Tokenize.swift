// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import RPC

struct Tokenize: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show the tokens of a text.")

    @Argument(help: "The text; standard input if absent or \"-\".")
    var text: String?

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    @Flag(inversion: .prefixedNo, help: "Put the beginning-of-text token first.")
    var bos = true

    @Flag(help: "Take \"<s>\" and the like in the text for the tokens they name.")
    var parseSpecial = false

    @Flag(help: "Show the pieces beside the ids.")
    var pieces = false

    @Flag(help: "One JSON object.")
    var json = false

    private struct Row: Encodable {
        let tokens: [UInt32]
        let pieces: [String]
    }

    func run() async throws {
        var request = TokenizeRequest()
        request.model = model.model
        request.text = try textArgument(text)
        request.addBOS = bos
        request.parseSpecial = parseSpecial
        let answer = try await connection.inference().tokenize(request)
        if json {
            Terminal.print(try Terminal.json(Row(tokens: answer.tokens, pieces: answer.pieces)))
        } else if pieces {
            for (id, piece) in zip(answer.tokens, answer.pieces) {
                Terminal.print("\(id)\t\(Terminal.harmless(piece))")
            }
        } else {
            Terminal.print(answer.tokens.map(String.init).joined(separator: ","))
        }
    }
}

struct Detokenize: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show the text of tokens.")

    @Argument(help: "Token ids: 1,415,310.")
    var tokens: TokenList

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    @Flag(help: "Write control tokens by their names.")
    var keepSpecial = false

    func run() async throws {
        var request = DetokenizeRequest()
        request.model = model.model
        request.tokens = tokens.ids
        request.keepSpecial = keepSpecial
        Terminal.printModelText(try await connection.inference().detokenize(request).text)
        Terminal.print("")
    }
}
