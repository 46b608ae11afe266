// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import MMFree
import ModelStore

struct Tokenize: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show the tokens of a text.")

    @Argument(help: "The text; standard input if absent or \"-\".")
    var text: String?

    @Option(name: [.short, .long], help: "A file that holds the text.", completion: .file())
    var file: String?

    @Option(
        help: "A packed file whose tokenizer to use, without a daemon.",
        completion: .file(extensions: ["gguf"]))
    var packed: String?

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    @Flag(
        inversion: .prefixedNo,
        help: "Put the beginning-of-text token first. As generate does if neither is given.")
    var bos: Bool?

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

    private func answer(_ text: String) async throws -> (ids: [UInt32], pieces: [String]) {
        guard let packed else {
            let answer = try await connection.client().tokenize(
                text, model: model.model, addsBOS: bos, parsesSpecialTokens: parseSpecial)
            return (answer.ids, answer.pieces)
        }
        let file = try open(packed)
        let size = Int(try file.metadata.uint32(forKey: file.metadata.own.vocabularySize))
        guard let tokenizer = try Tokenizer(file: file, vocabulary: size) else {
            throw Failure("\(packed) was packed without a tokenizer", .configuration)
        }
        let ids = tokenizer.encode(
            text, addBOS: bos ?? tokenizer.addsBOS, parseSpecial: parseSpecial)
        return (ids, ids.map(tokenizer.piece))
    }

    func validate() throws {
        if text != nil, file != nil { throw ValidationError("give a text or --file, not both") }
    }

    func run() async throws {
        let given = self.text == "-" ? nil : self.text
        let text = try given ?? Input(file ?? "-").text(limit: Client.textLimit)
        let answer = try await answer(text)
        if json {
            Terminal.print(try Terminal.json(Row(tokens: answer.ids, pieces: answer.pieces)))
        } else if pieces {
            for (id, piece) in zip(answer.ids, answer.pieces) {
                Terminal.print("\(id)\t\(Terminal.harmless(piece))")
            }
        } else {
            Terminal.print(answer.ids.map(String.init).joined(separator: ","))
        }
    }
}

struct Detokenize: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the text of tokens.",
        discussion: "Takes ids as `tokenize` and `generate` write them, with commas or spaces.")

    @Argument(help: "Token ids: 1,415,310; standard input if absent or \"-\".")
    var tokens: [String] = []

    @OptionGroup var model: ModelOption
    @OptionGroup var connection: Connection

    @Flag(help: "Write control tokens by their names.")
    var keepSpecial = false

    @Flag(help: "One JSON object.")
    var json = false

    func run() async throws {
        let given = tokens.isEmpty || tokens == ["-"] ? nil : tokens.joined(separator: " ")
        let text = try given ?? Input("-").text(limit: Client.textLimit)
        guard let list = TokenList(argument: text) else {
            let what = given.map { "'\($0)' is" } ?? "standard input is"
            throw Failure(
                "\(what) not a list of token ids such as 1,415,310", given == nil ? .data : .usage)
        }
        let answer = try await connection.client().detokenize(
            list.ids, model: model.model, keepsSpecialTokens: keepSpecial)
        if json { return Terminal.print(try Terminal.json(["text": answer])) }
        Terminal.printModelText(answer)
        Terminal.print("")
    }
}
