// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import ModelStore
import SystemPackage

/// Maps a packed file.
func open(_ file: String) throws -> PackedFile { try PackedFile(path: FilePath(file)) }

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show what is in a packed file.")

    @Argument(help: "The packed file.", completion: .file(extensions: ["gguf"])) var file: String
    @Flag(help: "List the tensors too.") var tensors = false
    @Flag(help: "One JSON object.") var json = false

    private struct Row: Encodable {
        struct Tensor: Encodable {
            let name, type, sha256: String
            let shape: [Int]
            let offset, bytes: Int
            let scale: Float?
        }
        let digest: String
        let bytes: Int
        let metadata: [String: String]
        let tensors: [Tensor]
    }

    /// Long texts, such as chat templates, by their beginning.
    private static func brief(_ text: String) -> String {
        text.utf8.count > 200 ? "\(text.utf8.count) bytes: \(text.quoted)" : text
    }

    private static func sizes(_ packed: PackedFile) throws -> String {
        if try packed.metadata.string(forKey: FormatKeys.architecture) == Format.architecture {
            let shape = try ModelShape(packed.metadata)
            return
                "\(shape.ternaryWeights) ternary weights; a conversation's state takes \(shape.stateCount * 4) bytes"
        }
        let shape = try AttentionFile(packed).shape
        return "\(shape.ternaryWeights) ternary weights; "
            + (shape.family.hasHead
                ? "a token's keys and values take \(shape.tokenNumbers * KeyValueType.f32.byteCount) bytes, in bf16 \(shape.tokenNumbers * KeyValueType.bf16.byteCount)"
                : "a text's vector has \(shape.hidden) numbers")
    }

    func run() throws {
        let packed = try open(file)
        let rows = packed.tensors.map { tensor in
            let matrix = packed.packed[tensor.name]
            return Row.Tensor(
                name: tensor.name, type: matrix == nil ? "\(tensor.type)" : "ternary",
                sha256: packed.digest(of: tensor.name) ?? "",
                shape: matrix.map { [$0.rows, $0.columns] } ?? tensor.shape, offset: tensor.offset,
                bytes: tensor.byteCount, scale: matrix?.scale)
        }
        if json {
            let metadata = Dictionary(
                uniqueKeysWithValues: packed.metadata.keys.map {
                    ($0, packed.metadata.describe($0))
                })
            return Terminal.print(
                try Terminal.json(
                    Row(
                        digest: packed.modelDigest, bytes: packed.byteCount, metadata: metadata,
                        tensors: rows)))
        }
        var table = Table([], numeric: [])
        table.rows = packed.metadata.keys.map {
            [$0, Self.brief(packed.metadata.describe($0))]
        }
        Terminal.print(table.text)
        Terminal.print(
            "\n\(packed.tensors.count) tensors, \(packed.packed.count) of them ternary; \(packed.byteCount) bytes; "
                + (try Self.sizes(packed)))
        guard tensors else { return }
        var list = Table(
            ["TENSOR", "TYPE", "SHAPE", "OFFSET", "BYTES", "SCALE"], numeric: [3, 4, 5])
        for row in rows {
            list.add([
                row.name, row.type, row.shape.map(String.init).joined(separator: " × "),
                "\(row.offset)", "\(row.bytes)", row.scale.map { "\($0)" } ?? "",
            ])
        }
        Terminal.print("\n" + list.text)
    }
}
