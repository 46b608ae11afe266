// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import Glibc
import MMFree
import ModelStore
import SystemPackage

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure how fast a packed file runs on this machine.",
        discussion: """
            Beside every speed stands what the machine itself gives in the same run: the bandwidth of a plain reader over \
            the same mapping, and the integer units' peak. Machines are noisy, so rounds are interleaved, ratios are taken \
            within a round, and medians are shown.
            """)

    @Argument(help: "A packed file.", completion: .file(extensions: ["gguf"])) var file: String?
    @Option(help: "A random model of a published size instead: 370M, 1.3B or 2.7B.") var shape:
        PublishedShape?
    @Option(
        help: "Where the random model is put. Default: $TMPDIR, or /tmp.", completion: .directory)
    var directory: String?
    @Option(parsing: .unconditional, help: "Rounds.") var repetitions = 7
    @Option(help: "Sequences decoded at once.") var batch = "1,2,4,8,16,32"
    @Option(help: "Prompt lengths.") var prompt = "16,128,512,2048"
    @Flag(help: "Leave out the time to the first token.") var noFirstToken = false
    @Option(help: "Write a CSV file, \"-\" for standard output.", completion: .file())
    var csv: String?
    @OptionGroup var replacing: Replacing
    @Flag(help: "One JSON object a line.") var json = false
    @OptionGroup var options: LocalOptions

    func validate() throws {
        guard (file == nil) != (shape == nil) else {
            throw ValidationError("give a file or --shape")
        }
        guard (1...1000).contains(repetitions) else {
            throw ValidationError("--repetitions is 1 to 1000")
        }
        guard Self.numbers(batch, 1...512) != nil else {
            throw ValidationError("--batch is numbers from 1 to 512: 1,2,4")
        }
        guard Self.numbers(prompt, 1...65536) != nil else {
            throw ValidationError("--prompt is numbers from 1 to 65536: 16,128")
        }
    }

    private static func numbers(_ text: String, _ range: ClosedRange<Int>) -> [Int]? {
        let parts = text.split(separator: ",")
        let numbers = parts.compactMap { Int($0) }.filter(range.contains)
        return numbers.count == parts.count ? numbers : nil
    }

    func run() throws {
        // Before the work.
        let output = try csv.map {
            try Output($0, replacing: replacing.force, inputs: file.map { [$0] } ?? [])
        }
        let made = try shape.map { try make($0) }
        defer { try? made?.close() }
        let path = made.map { "/proc/self/fd/\($0.rawValue)" } ?? file ?? ""
        let packed = try open(path)
        let cold = noFirstToken ? nil : try FirstToken.measure(path, options)
        try packed.map.prefault()
        let run = try BenchRun(packed, options)
        let batches = Self.numbers(batch, 1...512) ?? []
        let prompts = Self.numbers(prompt, 1...65536) ?? []
        let progress = ProgressLine()
        for round in 0...repetitions {
            progress.show(round, of: repetitions + 1, "rounds")
            // The first round warms up.
            run.round(batches: batches, prompts: prompts, counts: round > 0)
        }
        progress.clear()
        var rows = run.rows()
        if let cold {
            rows.append(BenchRow("first token, cold", cold.cold * 1e3, "ms", nil, nil))
            rows.append(BenchRow("first token, warm", cold.warm * 1e3, "ms", nil, nil))
        }
        rows.append(BenchRow("resident memory", Double(memoryFigure("Rss")) / 1e6, "MB", nil, nil))
        rows.append(
            BenchRow("proportional memory", Double(memoryFigure("Pss")) / 1e6, "MB", nil, nil))
        try show(rows, run, output)
    }

    /// Writes a random model and takes its name away at once: a killed bench leaves nothing behind.
    private func make(_ shape: PublishedShape) throws -> FileDescriptor {
        let path = FilePath(
            "\(directory ?? environmentVariable("TMPDIR") ?? "/tmp")/mmfreectl-bench-\(shape.rawValue)-\(getpid()).gguf"
        )
        try shape.write(to: path)
        defer { unlink(path.string) }
        return try FileDescriptor.open(path, .readOnly, options: [.closeOnExec])
    }

    private func show(_ rows: [BenchRow], _ run: BenchRun, _ output: Output?) throws {
        if let output {
            var text = "name,value,unit,ratio,of\n"
            for row in rows {
                text += "\(row.name.filter { $0 != "," }),\(row.value),\(row.unit),"
                text += row.ratio.map { "\($0)" } ?? ""
                text += ",\(row.of ?? "")\n"
            }
            try output.write(Array(text.utf8))
            if csv == "-" { return }
        }
        if json {
            for row in rows { Terminal.print(try Terminal.json(row)) }
            return
        }
        Terminal.print(run.title)
        var table = Table(["", "", "", "", ""], numeric: [1, 3])
        table.rows = []
        for row in rows {
            table.add([
                row.name, String(printf: row.value < 10 ? "%.2f" : "%.1f", row.value), row.unit,
                row.ratio.map { String(printf: "%.1f %%", $0 * 100) } ?? "", row.of ?? "",
            ])
        }
        Terminal.print(table.text)
    }
}

/// One figure, and what share of what it is.
struct BenchRow: Encodable {
    let name: String
    let value: Double
    let unit: String
    let ratio: Double?
    let of: String?

    init(_ name: String, _ value: Double, _ unit: String, _ ratio: Double?, _ of: String?) {
        (self.name, self.value, self.unit, self.ratio, self.of) = (name, value, unit, ratio, of)
    }
}

/// How long it takes from opening a file to its first token.
enum FirstToken {
    static func measure(_ path: String, _ options: LocalOptions) throws -> (
        cold: Double, warm: Double
    ) {
        func once() throws -> Double {
            let began = ContinuousClock.now
            let local = try LocalModel(path, options)
            try local.feed([UInt32(1)], wants: .logits)
            return seconds(since: began)
        }
        dropCache(path)
        return (try once(), try once())
    }

    /// Takes the file's clean pages out of the page cache.
    private static func dropCache(_ path: String) {
        guard let file = try? FileDescriptor.open(FilePath(path), .readOnly) else { return }
        defer { try? file.close() }
        fsync(file.rawValue)
        posix_fadvise(file.rawValue, 0, 0, POSIX_FADV_DONTNEED)
    }
}
