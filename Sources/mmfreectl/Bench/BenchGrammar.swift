// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import Grammar
import ModelStore

/// What constraints cost, and what they allow, without a model's computing: for dev/figures and dev/check-grammar, not in the manual.
struct BenchGrammar: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench-grammar", abstract: "Measure constraints, or walk along their masks.",
        discussion: """
            One JSON object a line. Schemas are read from a file, one a line. Without --answers: the time to begin each and to \
            compute its masks, each grammar not used before, and at last those of all masks. With it: so many texts for each, of tokens drawn from the masks. With --follow: of a text for each \
            line, whether it is allowed, and the masks along it.
            """, shouldDisplay: false)

    @Argument(help: "A packed file, for its vocabulary.") var file: String
    @Option(help: "A file of JSON schemas, one a line.", completion: .file()) var schemas: String
    @Option(help: "Texts for each schema.") var answers = 0
    @Option var seed: UInt64 = 1
    @Option(help: "Tokens of a text at most.") var limit = 600
    @Option(help: "A file of lists of token ids in JSON, one a line, a list for each schema.")
    var follow: String?

    @Flag(help: "Only write the tokens' bytes in hexadecimal, and which end an answer.")
    var vocabulary = false

    func run() throws {
        let model = try Model(try open(file))
        guard let tokenizer = model.tokenizer else { throw Failure("it has no tokenizer", .data) }
        if vocabulary { return try write(tokenizer) }
        let clock = ContinuousClock()
        let began = clock.now
        let trie = try tokenizer.trie()
        let sources = try lines(schemas)
        if answers == 0, follow == nil {
            let time = (clock.now - began) / .milliseconds(1)
            Terminal.print(try Terminal.json(["trie_ms": time]))
        }
        var random = Randomness(seed: seed)
        var all: [Double] = []
        let paths = try follow.map { try lines($0) }
        for (index, source) in sources.enumerated() {
            let began = clock.now
            let grammar: TokenGrammar
            do { grammar = try TokenGrammar(.jsonSchema(Array(source.utf8)), trie) } catch {
                Terminal.print(try Terminal.json(Row(schema: index, refused: "\(error)")))
                continue
            }
            if let paths {
                try walk(grammar, along: paths[index], index)
                continue
            }
            _ = try grammar.start.mask()
            var figures = Figures(start: (clock.now - began) / .milliseconds(1))
            for _ in 0..<max(1, answers) {
                let text = try walk(grammar, tokenizer, &random, &figures)
                guard answers > 0 else { continue }
                Terminal.print(try Terminal.json(Row(schema: index, text: text)))
            }
            guard answers == 0 else { continue }
            Terminal.print(try Terminal.json(figures.row(index)))
            all += figures.masks
        }
        guard answers == 0, follow == nil, !all.isEmpty else { return }
        Terminal.print(
            try Terminal.json(
                AllMasks(
                    allMasks: all.count, p50Us: Self.part(0.5, of: all),
                    p99Us: Self.part(0.99, of: all))))
    }

    private func write(_ tokenizer: Tokenizer) throws {
        struct Row: Encodable {
            let vocabulary: [String]
            let ends: [UInt32]
        }
        let ids = 0..<UInt32(tokenizer.vocabularySize)
        let texts = ids.map { id in
            tokenizer.isEnd(id)
                ? ""
                : tokenizer.bytes(of: id).map {
                    $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16)
                }.joined()
        }
        Terminal.print(
            try Terminal.json(Row(vocabulary: texts, ends: ids.filter(tokenizer.isEnd))))
    }

    private func lines(_ file: String) throws -> [String] {
        try Input(file).text(limit: 64 << 20).split(separator: "\n").map(String.init)
    }

    private struct Row: Encodable {
        var schema: Int
        var refused: String?
        /// `nil` where the limit was reached.
        var text: String?
        var startMs, maskP50Us, maskP99Us: Double?
        var masks: Int?
    }

    private struct AllMasks: Encodable {
        let allMasks: Int
        let p50Us, p99Us: Double
    }

    private static func part(_ part: Double, of values: [Double]) -> Double {
        values.sorted()[Int(Double(values.count) * part)]
    }

    private struct Figures {
        var start: Double
        var masks: [Double] = []

        func row(_ schema: Int) -> Row {
            Row(
                schema: schema, startMs: start, maskP50Us: part(0.5, of: masks),
                maskP99Us: part(0.99, of: masks), masks: masks.count)
        }
    }

    /// A text of tokens from the masks. Now and then one that closes something is preferred, so that texts end.
    private func walk(
        _ grammar: TokenGrammar, _ tokenizer: Tokenizer, _ random: inout Randomness,
        _ figures: inout Figures
    ) throws -> String? {
        let clock = ContinuousClock()
        var constraint = grammar.start
        var tokens: [UInt32] = []
        while !constraint.isFinal {
            guard tokens.count < limit else { return nil }
            let began = clock.now
            let mask = try constraint.mask()
            figures.masks.append((clock.now - began) / .microseconds(1))
            if constraint.isComplete, random.unit() < 0.5 { break }
            var allowed = mask.tokens.filter { !tokenizer.isEnd($0) }
            guard !allowed.isEmpty else { break }
            if random.unit() < (tokens.count > limit / 4 ? 0.8 : 0.3) {
                let closing = allowed.filter {
                    guard let first = tokenizer.bytes(of: $0).first else { return false }
                    return [0x22, 0x5D, 0x7D].contains(first)
                }
                if !closing.isEmpty { allowed = closing }
            }
            let token = allowed[min(allowed.count - 1, Int(random.unit() * Double(allowed.count)))]
            guard try constraint.take(token) else {
                throw Failure("token \(token) is in the mask and was refused", .software)
            }
            tokens.append(token)
        }
        return tokenizer.decode(tokens, continuing: true)
    }

    /// The masks along a text: of each place the allowed tokens, as words in hexadecimal.
    private func walk(_ grammar: TokenGrammar, along path: String, _ index: Int) throws {
        struct Step: Encodable {
            let schema, place: Int
            let mask: String
        }
        var constraint = grammar.start
        let ids = path.split { !$0.isNumber }.compactMap { UInt32($0) }
        for place in 0...ids.count {
            let words = try constraint.mask().words.map { word in
                let digits = String(word, radix: 16)
                return String(repeating: "0", count: 16 - digits.count) + digits
            }
            Terminal.print(
                try Terminal.json(Step(schema: index, place: place, mask: words.joined())))
            guard place < ids.count, try constraint.take(ids[place]) else { return }
        }
    }
}
