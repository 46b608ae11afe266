// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import ModelStore
import SystemPackage

struct Logits: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Write a packed file's logits for some tokens, to hold them against another implementation.",
        discussion:
            "float32 in NumPy's format: [tokens, vocabulary]; --hidden [tokens, hidden]; --state [layers, channels]."
    )

    @Argument(help: "The packed file.") var file: String
    @Option(help: "Token ids: 1,415,310.") var tokens: TokenList?
    @Option(help: "A text instead of ids.") var text: String?
    @Option(name: [.short, .long], help: "The .npy file to write.") var output: String
    @Flag(help: "The final hidden states instead.") var hidden = false
    @Flag(help: "The recurrent state after the last token instead.") var state = false
    @OptionGroup var options: LocalOptions

    func validate() throws {
        guard (text == nil) != (tokens == nil) else {
            throw ValidationError("give --tokens or --text")
        }
        if hidden, state { throw ValidationError("--hidden or --state, not both") }
    }

    func run() throws {
        // Before the work.
        _ = try OutputPlace.file(FilePath(output), replacing: true)
        let local = try LocalModel(file, options)
        let ids = try tokens?.ids ?? local.tokens(of: text ?? "")
        var values: [Float] = []
        try local.feed(ids, wants: state ? .nothing : hidden ? .hidden : .logits) { _, row in
            values.append(contentsOf: row)
        }
        let shape = local.model.shape
        let size =
            state
            ? [shape.layers, shape.inner] : [ids.count, hidden ? shape.hidden : shape.vocabulary]
        if state { values = local.states.save(0) }
        try NumPy.write(values, shape: size, to: output)
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

    static func write(_ values: [Float], shape: [Int], to path: String) throws {
        precondition(values.count == shape.reduce(1, *))
        try OutputFile.replace(
            FilePath(path), with: header(shape: shape) + values.withUnsafeBytes { Array($0) })
    }
}
