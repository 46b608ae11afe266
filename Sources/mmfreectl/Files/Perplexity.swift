// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import Foundation
import ModelStore
import SystemPackage

struct Perplexity: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure how well a packed file predicts a text.",
        discussion: "Every token but the first is predicted from those before it. Needs no daemon.")

    @Argument(help: "The packed file.") var file: String
    @Option(help: "A text file.") var text: String?
    @Option(help: "A file of token ids: little-endian 16-bit numbers.") var ids: String?
    @Option(help: "Tokens in a window, the state reset before each. Default: one stream.")
    var window: Int?
    @Option(help: "Use only the first so many tokens.") var limit: Int?
    @Flag(help: "One JSON object.") var json = false
    @OptionGroup var options: LocalOptions

    func validate() throws {
        guard (text == nil) != (ids == nil) else { throw ValidationError("give --text or --ids") }
        if let window, window < 2 { throw ValidationError("--window is 2 or more") }
        if let limit, limit < 2 { throw ValidationError("--limit is 2 or more") }
    }

    private struct Row: Encodable {
        let perplexity, nll: Double
        let predicted, tokens: Int
        let seconds: Double
    }

    func run() throws {
        Interruption.watch()
        let local = try LocalModel(file, options)
        var tokens = try text.map { try local.tokens(of: readText($0)) } ?? readIDs(ids ?? "")
        if let limit { tokens = Array(tokens.prefix(limit)) }
        guard tokens.count > 1 else { throw Failure("fewer than two tokens", .data) }
        let progress = ProgressLine()
        let began = Date()
        let size = window ?? tokens.count
        var total = 0.0
        var predicted = 0
        // A window that is not full would be measured with less context: it is left out, unless it is the only one.
        for start in stride(
            from: 0, to: max(1, tokens.count - (window == nil ? 0 : size - 1)), by: size)
        {
            let part = Array(tokens[start..<min(start + size, tokens.count)])
            local.states.reset(0)
            try local.feed(part.dropLast(), wants: .logits) { place, logits in
                total -= logProbability(part[place + 1], logits, local.kernels)
                predicted += 1
                if Interruption.isWanted { throw Failure("interrupted", .interrupted) }
                progress.show(start + place, of: tokens.count, "tokens")
            }
        }
        progress.clear()
        let row = Row(
            perplexity: exp(total / Double(predicted)), nll: total / Double(predicted),
            predicted: predicted, tokens: tokens.count, seconds: Date().timeIntervalSince(began))
        Terminal.print(
            json
                ? try Terminal.json(row)
                : String(
                    format: "perplexity %.4f over %d predicted tokens, %.1f s", row.perplexity,
                    predicted, row.seconds))
    }
}

/// Bytes of a text that are taken for one prompt: 40 times as many of memory may be needed for its tokens.
let textLimit = 1 << 30

func readText(_ path: String) throws -> String {
    let size = (try? FileIdentity(path: FilePath(path)))?.size ?? 0
    let data = size > textLimit ? nil : FileManager.default.contents(atPath: path)
    guard size <= textLimit, data?.count ?? 0 <= textLimit else {
        throw Failure(
            "\(path) has \(max(size, data?.count ?? 0)) bytes; a text may have \(textLimit): cut it in pieces",
            .data)
    }
    guard let data else { throw Failure("cannot read \(path)", .noInput) }
    guard let text = String(validating: data, as: UTF8.self) else {
        throw Failure("\(path) is not UTF-8 text", .data)
    }
    return text
}

/// A file of little-endian 16-bit token ids.
func readIDs(_ path: String) throws -> [UInt32] {
    guard let data = FileManager.default.contents(atPath: path) else {
        throw Failure("cannot read \(path)", .noInput)
    }
    guard data.count % 2 == 0 else { throw Failure("\(path) has an odd number of bytes", .data) }
    let bytes = [UInt8](data)
    return stride(from: 0, to: bytes.count, by: 2).map {
        UInt32(bytes[$0]) | UInt32(bytes[$0 + 1]) << 8
    }
}
