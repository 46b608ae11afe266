// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import FoundationEssentials
import Glibc
import ModelStore
import Packer
import Reference
import SystemPackage

struct Compare: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Hold a packed file against the checkpoint it was made from.",
        discussion: """
            The checkpoint is run as the original code runs it: dense weights, made ternary at run time, plain and slow. \
            Each side runs in a process of its own, so that its memory is its own. Which weights are -1, 0 and 1 is found by \
            the same code as in packing, which the tests hold against the original's: that alone is not compared here.

            The original code of models with attention is mostly run in bfloat16, and that is another function. How far that one \
            is from float32 (HF-bf16) stands beside the packed file's distance; it takes another slow run.

            Exit status: 1 if the two write different tokens.
            """)

    @Argument(help: "The checkpoint's directory.", completion: .directory) var checkpoint: String
    @Argument(help: "The packed file.", completion: .file(extensions: ["gguf"])) var file: String
    @OptionGroup var source: TokenSource
    @Option(parsing: .unconditional, help: "Use only the first so many tokens.") var limit = 256
    @Option(parsing: .unconditional, help: "Tokens to write for the decoding speed.")
    var decode = 16
    @Option(help: "As in pack.") var ternaryMasters: TernaryMasters?
    @Flag(help: "Leave out the checkpoint in bfloat16.") var noBf16 = false
    @Flag(help: "One JSON object.") var json = false
    @Option(help: .hidden) var side: String?
    @OptionGroup var options: LocalOptions

    func validate() throws {
        if source.text == "-" || source.ids == "-" {
            throw ValidationError("each side reads the text for itself: give a file")
        }
        guard limit >= 2, decode >= 1 else {
            throw ValidationError("--limit is 2 or more, --decode 1 or more")
        }
    }

    /// What a side's process writes.
    private struct Answer: Codable {
        var side: Side
        /// float32 after the last token.
        var logits: Data
        /// The likeliest token after each, of models with attention.
        var likeliest: [Int]?

        var last: [Float] {
            logits.withUnsafeBytes { bytes in
                (0..<bytes.count / 4).map {
                    bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self)
                }
            }
        }
    }

    /// What is measured of one side.
    struct Side: Codable {
        var bytes: Int
        var resident: Int
        var promptRate: Double
        var decodeRate: Double
        var perplexity: Double
        var greedy: [Int]
    }

    private struct Row: Encodable {
        let checkpoint, packed: Side
        let maxLogitDifference, maxLogit: Double
        let sameGreedyTokens: Bool
        /// From the checkpoint in float32; of models with attention.
        var distance: Distance?
        var hfBf16: Distance?
    }

    /// How far one's logits are from others.
    private struct Distance: Encodable {
        /// Of the difference after the last token, as a part of the others' norm.
        let norm: Double
        let maxLogitDifference: Double
        /// After so many of the tokens the likeliest one is the same.
        let sameLikeliest, tokens: Int
        let perplexity: Double

        init?(_ answer: Answer, from other: Answer) {
            guard let mine = answer.likeliest, let theirs = other.likeliest else { return nil }
            var (difference, whole, largest) = (0.0, 0.0, Float(0))
            for (a, b) in zip(answer.last, other.last) {
                difference += Double(a - b) * Double(a - b)
                whole += Double(b) * Double(b)
                largest = max(largest, abs(a - b))
            }
            norm = (difference / whole).squareRoot()
            maxLogitDifference = Double(largest)
            sameLikeliest = zip(mine, theirs).reduce(0) { $0 + ($1.0 == $1.1 ? 1 : 0) }
            tokens = mine.count
            perplexity = answer.side.perplexity
        }
    }

    func run() throws {
        if let side { return try measure(side) }
        if Terminal.errorIsTerminal {
            Terminal.note("running the packed file, then the checkpoint (slow) …")
        }
        Interruption.watch()
        let (packed, original) = (try child("packed"), try child("checkpoint"))
        let (a, b) = (packed.last, original.last)
        guard a.count == b.count else {
            throw Failure(
                "the checkpoint's vocabulary has \(b.count) tokens, the packed file's \(a.count)",
                .data)
        }
        let difference = zip(a, b).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
        var row = Row(
            checkpoint: original.side, packed: packed.side,
            maxLogitDifference: Double(difference),
            maxLogit: Double(b.reduce(0) { max($0, abs($1)) }),
            sameGreedyTokens: original.side.greedy == packed.side.greedy)
        row.distance = Distance(packed, from: original)
        if row.distance != nil, !noBf16 {
            row.hfBf16 = Distance(try child("bf16"), from: original)
        }
        Terminal.print(json ? try Terminal.json(row) : table(row))
        if !row.sameGreedyTokens { throw ExitCode(ExitStatus.failure.rawValue) }
    }

    private func table(_ row: Row) -> String {
        func number(_ value: Double) -> String {
            String(printf: value < 10 ? "%.2f" : "%.1f", value)
        }
        var table = Table(["", "CHECKPOINT", "PACKED", "RATIO"], numeric: [1, 2, 3])
        let (a, b) = (row.checkpoint, row.packed)
        table.add([
            "bytes on disk", Terminal.bytes(a.bytes), Terminal.bytes(b.bytes),
            number(Double(a.bytes) / Double(b.bytes)),
        ])
        table.add([
            "resident memory", Terminal.bytes(a.resident), Terminal.bytes(b.resident),
            number(Double(a.resident) / Double(b.resident)),
        ])
        table.add([
            "prompt tokens/s", number(a.promptRate), number(b.promptRate),
            number(b.promptRate / a.promptRate),
        ])
        table.add([
            "decoded tokens/s", number(a.decodeRate), number(b.decodeRate),
            number(b.decodeRate / a.decodeRate),
        ])
        table.add([
            "perplexity", String(printf: "%.4f", a.perplexity),
            String(printf: "%.4f", b.perplexity),
            String(printf: "%.5f", b.perplexity / a.perplexity),
        ])
        return table.text
            + String(
                printf: "\nlargest logit difference %.2g, where the largest logit is %.3g; ",
                row.maxLogitDifference, row.maxLogit)
            + (row.sameGreedyTokens
                ? "the same \(a.greedy.count) greedy tokens" : "the greedy tokens differ")
            + distances(row)
    }

    private func distances(_ row: Row) -> String {
        guard let packed = row.distance else { return "" }
        var table = Table(
            ["FROM HF-FP32", "NORM", "LARGEST", "SAME LIKELIEST TOKEN", "PERPLEXITY"],
            numeric: [1, 2, 3, 4])
        func add(_ name: String, _ distance: Distance) {
            table.add([
                name, String(printf: "%.2g", distance.norm),
                String(printf: "%.2g", distance.maxLogitDifference),
                "\(distance.sameLikeliest) of \(distance.tokens)",
                String(printf: "%.4f", distance.perplexity),
            ])
        }
        add("packed", packed)
        if let bf16 = row.hfBf16 { add("HF-bf16", bf16) }
        return "\n\n" + table.text
    }

    // MARK: The two sides

    private func child(_ side: String) throws -> Answer {
        var arguments = [
            "compare", checkpoint, file, "--side", side, "--limit", "\(limit)", "--decode",
            "\(decode)",
        ]
        if let text = source.text { arguments += ["--text", text] }
        if let ids = source.ids { arguments += ["--ids", ids] }
        if let threads = options.threads { arguments += ["--threads", "\(threads)"] }
        if let ternaryMasters { arguments += ["--ternary-masters", ternaryMasters.rawValue] }
        if options.pin { arguments.append("--pin") }
        if let kernels = options.kernels { arguments += ["--kernels", kernels] }
        if let type = options.keyValues { arguments += ["--key-values", type.rawValue] }
        let data = try ownOutput(arguments)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Answer.self, from: Data(data))
    }

    private func measure(_ side: String) throws {
        // Both sides read the text with the packed file's tokenizer.
        let tokens = try prompt()
        let answer: Answer
        if side == "packed" {
            answer = try measure(tokens, LocalModel(file, options))
        } else {
            switch try PackSource(directory: FilePath(checkpoint), masters: ternaryMasters) {
            case .hgrnbit(let source): answer = try measureCheckpoint(tokens, source)
            case .attention(let source, let masters):
                let precision = side == "bf16" ? Precision.bfloat16 : .float32
                answer = try measure(
                    tokens,
                    LocalReference(
                        .checkpoint(source, masters: masters), tokenizer: nil,
                        precision: precision), isTimed: precision == .float32)
            }
        }
        Terminal.print(try Terminal.json(answer))
    }

    private func prompt() throws -> [UInt32] {
        let tokens = Array(try source.tokens(for: LocalModel(file, options)).prefix(limit))
        guard tokens.count > 1 else { throw Failure("fewer than two tokens", .data) }
        return tokens
    }

    /// - Parameter isTimed: else it writes nothing, and runs once.
    private func measure(
        _ tokens: [UInt32], _ local: any LocalRun, isTimed: Bool = true
    ) throws -> Answer {
        let kernels = try options.table()
        var began = ContinuousClock.now
        for _ in 0..<(isTimed ? 2 : 0) {
            began = ContinuousClock.now
            try local.feed(tokens, wants: .nothing) { _, _ in }
            local.reset()
        }
        let promptRate = isTimed ? Double(tokens.count) / seconds(since: began) : 0
        var last: [Float] = []
        var likeliest: [Int] = []
        var total = 0.0
        try local.feed(tokens, wants: .logits) { place, row in
            likeliest.append(ReferenceModel.argmax(Array(row)))
            if place + 1 < tokens.count {
                total -= logProbability(tokens[place + 1], row, kernels)
            }
            if place + 1 == tokens.count { last = Array(row) }
        }
        var step = greedyStep(kernels)
        var greedy = last.withUnsafeBufferPointer { step.take($0) }.tokens
        began = ContinuousClock.now
        for _ in 0..<(isTimed ? decode : 0) {
            try local.feed([greedy[greedy.count - 1].id], wants: .logits) { _, row in
                greedy += step.take(row).tokens
            }
        }
        let side = Side(
            bytes: local.byteCount, resident: residentBytes(), promptRate: promptRate,
            decodeRate: isTimed ? Double(decode) / seconds(since: began) : 0,
            perplexity: exp(total / Double(tokens.count - 1)),
            greedy: greedy.prefix(decode).map { Int($0.id) })
        return Answer(side: side, logits: data(last), likeliest: likeliest)
    }

    private func data(_ logits: [Float]) -> Data { logits.withUnsafeBytes { Data($0) } }

    /// The most likely tokens, whatever they are: neither side stops at an end of text.
    private func greedyStep(_ kernels: Kernels.Table) -> DecodingStep {
        var options = SamplingOptions()
        options.temperature = 0
        return DecodingStep(
            Sampler(options, prompt: [], kernels: kernels), tokenizer: nil, maxTokens: .max)
    }

    private func measureCheckpoint(
        _ tokens: [UInt32], _ source: Checkpoint
    ) throws -> Answer {
        let vocabulary = source.config.shape.vocabulary
        if let wrong = tokens.first(where: { $0 >= UInt32(vocabulary) }) {
            throw Failure("token \(wrong); the checkpoint's vocabulary has \(vocabulary)", .data)
        }
        let model = try ReferenceModel(source)
        let kernels = try options.table()
        var state = model.freshState
        var began = ContinuousClock.now
        let output = model.run(tokens.map { Int($0) }, state: &state, logits: .all)
        let promptRate = Double(tokens.count) / seconds(since: began)
        guard output.logits.allSatisfy({ $0.withUnsafeBufferPointer { $0.isFinite } }) else {
            throw ModelError.notFinite
        }
        var total = 0.0
        for place in 0..<tokens.count - 1 {
            output.logits[place].withUnsafeBufferPointer {
                total -= logProbability(tokens[place + 1], $0, kernels)
            }
        }
        let last = output.logits[tokens.count - 1]
        var step = greedyStep(kernels)
        var greedy = last.withUnsafeBufferPointer { step.take($0) }.tokens.map { Int($0.id) }
        began = ContinuousClock.now
        for _ in 0..<decode {
            let row = model.run([greedy[greedy.count - 1]], state: &state, logits: .last).logits[0]
            greedy += row.withUnsafeBufferPointer { step.take($0) }.tokens.map { Int($0.id) }
        }
        let side = Side(
            bytes: source.byteCount, resident: residentBytes(), promptRate: promptRate,
            decodeRate: Double(decode) / seconds(since: began),
            perplexity: exp(total / Double(tokens.count - 1)), greedy: Array(greedy.prefix(decode)))
        return Answer(side: side, logits: data(last))
    }
}
