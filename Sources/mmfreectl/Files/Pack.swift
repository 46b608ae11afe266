// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import ModelStore
import Packer
import SystemPackage

struct Pack: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Turn a Hugging Face checkpoint into one packed file.",
        discussion: """
            CHECKPOINT holds config.json, model.safetensors (or its shards and index) and the tokenizer. Every trit and \
            scale is what the original code computes; matrices that are ternary already are kept as they are. Of models with \
            attention, see docs/bitnet.md.
            """)

    @Argument(help: "The checkpoint's directory.", completion: .directory) var checkpoint: String

    @Option(
        name: [.short, .long],
        help: "The file to write: NAME.gguf, which the daemon serves as the model NAME.",
        completion: .file(extensions: ["gguf"]))
    var output: String

    @Option(
        help:
            "keep: the embedding as it is, lossless. q6: about 6.5 bits a value, which brings the 2.7B model under 600 MB."
    )
    var embedding = PackJob.Embedding.keep

    @Option(
        help:
            "Of float masters with attention that are -a, 0 and a already: keep a for the scale, or recompute it. Refused if neither is said."
    )
    var ternaryMasters: TernaryMasters?

    @Option(
        help:
            "What the file says of itself (general.name); clients know the model by the file's name. Default: config.json's name."
    )
    var name: String?

    @OptionGroup var replacing: Replacing

    func validate() throws { try checkIsFile(output) }

    func run() throws {
        Interruption.watch()
        let progress = ProgressLine()
        let source = try PackSource(directory: FilePath(checkpoint), masters: ternaryMasters)
        let report = try PackJob(
            source, to: FilePath(output), embedding: embedding, name: name,
            replacing: replacing.force,
            parallel: Parallel(workers: CPUBudget.threads())
        ).run(
            isCancelled: { Interruption.isWanted },
            progress: { progress.show($0.done, of: $0.total, $0.tensor) })
        progress.clear()
        show(report)
        let file = FilePath(output).lastComponent?.string ?? ""
        if ModelDirectory.modelName(file) == nil {
            Terminal.complain(
                "warning: the daemon does not serve a file called \"\(file)\": it takes NAME.gguf, NAME being at most 200 letters, "
                    + "digits, '.', '_' and '-', not beginning with '.'")
        }
    }

    private func show(_ report: PackReport) {
        func percent(_ fraction: Double) -> String { String(printf: "%.1f %%", fraction * 100) }
        var table = Table(["", ""])
        table.rows = []
        table.add(["checkpoint", Terminal.bytes(report.checkpointBytes)])
        table.add([
            "packed",
            "\(Terminal.bytes(report.fileBytes)) (\(report.fileBytes) bytes), "
                + String(
                    printf: "%.1f times smaller",
                    Double(report.checkpointBytes) / Double(max(1, report.fileBytes))),
        ])
        table.add([
            "bits a weight",
            String(
                printf: "%.3f of all, %.3f of the ternary ones", report.bitsPerWeight,
                report.bitsPerTernaryWeight),
        ])
        table.add([
            "embedding",
            "\(report.embedding), \(Terminal.bytes(report.embeddingBytes))"
                + (report.embeddingError > 0
                    ? ", off by \(percent(report.embeddingError)) (relative RMS)" : ", lossless"),
        ])
        table.add([
            "zeros",
            report.zeros.map { "\($0.kind) \(percent($0.fraction))" }.joined(separator: ", "),
        ])
        table.add([
            "already ternary", "\(report.alreadyTernary) of \(report.matrices) matrices",
        ])
        table.add([
            "tokenizer", report.tokenizer ?? "none: serves token ids only, and ends at no token",
        ])
        table.add(["digest", report.digest])
        table.add(["time", String(printf: "%.1f s", report.seconds)])
        Terminal.print(table.text)
        for warning in report.warnings { Terminal.complain("warning: \(warning)") }
    }
}

extension PackJob.Embedding: ExpressibleByArgument {}
extension TernaryMasters: ExpressibleByArgument {}

private func checkIsFile(_ output: String) throws {
    guard output != "-" else {
        throw ValidationError(
            "-o -: not written to standard output; give a name (./- for a file of this one)")
    }
}

struct Unpack: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Turn a packed file back into a checkpoint of scaled ternary weights.",
        discussion: "Packing the result again gives the same ternary bytes.")

    @Argument(help: "The packed file.", completion: .file(extensions: ["gguf"])) var file: String
    @Option(name: [.short, .long], help: "The directory to make.", completion: .directory)
    var output: String

    func validate() throws { try checkIsFile(output) }

    func run() throws {
        Interruption.watch()
        let progress = ProgressLine()
        let packed = try open(file)
        try UnpackJob(packed, to: FilePath(output)).run(
            isCancelled: { Interruption.isWanted },
            progress: { progress.show($0.done, of: $0.total, $0.tensor) })
        progress.clear()
        Terminal.print("wrote \(output)")
    }
}
