// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine

/// The tokens to measure with: a text's, or ids as they are.
struct TokenSource: ParsableArguments {
    @Option(help: "A text file, \"-\" for standard input.", completion: .file())
    var text: String?
    @Option(
        help: "A file of token ids: little-endian 16-bit numbers. \"-\" for standard input.",
        completion: .file())
    var ids: String?

    func validate() throws {
        switch (text, ids) {
        case (nil, nil): throw ValidationError("give --text or --ids")
        case (_?, _?): throw ValidationError("give --text or --ids, not both")
        default: break
        }
    }

    /// Tokens that `model` has.
    func tokens(for model: any LocalRun) throws -> [UInt32] {
        guard let ids else { return try model.encode(readText(text ?? "-")) }
        let input = try Input(ids)
        let bytes = try input.bytes(limit: textLimit)
        guard bytes.count % 2 == 0 else {
            throw Failure("\(input.name) has an odd number of bytes", .data)
        }
        let tokens = stride(from: 0, to: bytes.count, by: 2).map {
            UInt32(bytes[$0]) | UInt32(bytes[$0 + 1]) << 8
        }
        try model.check(tokens)
        return tokens
    }
}

/// Bytes of a text that are taken for one prompt: 40 times as many of memory may be needed for its tokens.
let textLimit = 1 << 30

func readText(_ path: String) throws -> String { try Input(path).text(limit: textLimit) }
