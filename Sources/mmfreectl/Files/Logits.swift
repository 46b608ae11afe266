// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import ModelStore

struct Logits: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Write a packed file's logits for some tokens, to hold them against another implementation.",
        discussion:
            "float32 in NumPy's format: [tokens, vocabulary]; --hidden [tokens, hidden]; --state [layers, channels], or with attention [tokens, layers, 2, width], the rotated keys and the values; --embedding [1, hidden]."
    )

    @Argument(help: "The packed file.", completion: .file(extensions: ["gguf"])) var file: String
    @Option(help: "Token ids: 1,415,310.") var tokens: TokenList?
    @Option(
        name: [.short, .long], parsing: .unconditional, help: "A text instead of ids.")
    var prompt: String?
    @Option(help: "A text file, \"-\" for standard input.", completion: .file())
    var text: String?
    @Option(
        name: [.short, .long], help: "The .npy file to write, \"-\" for standard output.",
        completion: .file(extensions: ["npy"]))
    var output: String
    @Flag(help: "The final hidden states instead.") var hidden = false
    @Flag(help: "What the model remembers after the last token instead.") var state = false
    @Flag(help: "The text's vector instead, of an embedding model with attention.")
    var embedding = false
    @OptionGroup var replacing: Replacing
    @OptionGroup var options: LocalOptions

    func validate() throws {
        let given = [tokens == nil, prompt == nil, text == nil].count { !$0 }
        guard given == 1 else {
            throw ValidationError("give one of --tokens, --prompt and --text; \(given) were given")
        }
        guard [hidden, state, embedding].count(where: { $0 }) < 2 else {
            throw ValidationError("one of --hidden, --state and --embedding")
        }
    }

    func run() throws {
        // Before the work.
        let place = try Output(
            output, replacing: replacing.force, inputs: [file] + (text.map { [$0] } ?? []))
        let local = try LocalModel(file, options)
        let ids = try tokens?.ids ?? local.encode(prompt ?? readText(text ?? "-"))
        var values: [Float] = []
        if embedding {
            values = try local.embed(
                ids, suffix: tokens == nil ? local.tokenizer?.suffix : nil)
            return try write(values, [1, local.hidden], to: place)
        }
        try local.feed(ids, wants: state ? .nothing : hidden ? .hidden : .logits) { _, row in
            values.append(contentsOf: row)
        }
        var size = [ids.count, hidden ? local.hidden : local.vocabulary]
        if state {
            values = local.states.values(0)
            size =
                switch local.model.shape {
                case .hgrnbit(let shape): [shape.layers, shape.inner]
                case .attention(let shape): [ids.count, shape.layers, 2, shape.keyWidth]
                }
        }
        try write(values, size, to: place)
    }

    private func write(_ values: [Float], _ size: [Int], to place: Output) throws {
        try place.write(NumPy.file(values, shape: size))
        Terminal.note(
            "wrote \(size.map(String.init).joined(separator: " × ")) float32 to \(output)")
    }
}

/// NumPy's .npy format, version 1.0, float32, C order (numpy.lib.format).
enum NumPy {
    static func header(shape: [Int]) -> [UInt8] {
        let dimensions =
            shape.map { "\($0)" }.joined(separator: ", ") + (shape.count == 1 ? "," : "")
        var text = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(dimensions)), }"
        // Magic, version and length take ten bytes; the whole is a multiple of 64 and ends in a line feed.
        text += String(repeating: " ", count: (64 - (10 + text.utf8.count + 1) % 64) % 64) + "\n"
        let length = UInt16(text.utf8.count)
        return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(length & 255), UInt8(length >> 8)]
            + Array(text.utf8)
    }

    static func file(_ values: [Float], shape: [Int]) -> [UInt8] {
        precondition(values.count == shape.reduce(1, *))
        return header(shape: shape) + values.withUnsafeBytes { Array($0) }
    }
}
