// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import Glibc
import MMFree
import ModelStore
import SystemPackage

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure how fast a packed file runs on this machine, or a daemon under load.",
        discussion: """
            With --server a daemon is measured, by clients that ask it all at once and one at a time. With --tune other ways \
            to cut the work are measured, each in turns with the one that is chosen for this processor, and what is \
            faster is shown as a value of MMFREED_TUNING.
            Beside every speed stands what the machine itself gives in the same run: the bandwidth of a plain reader over \
            the same mapping, and the integer units' peak; a share is of whichever bounds it. Machines are noisy, so rounds are interleaved, ratios are taken \
            within a round, and medians are shown.
            """)

    @Argument(help: "A packed file.", completion: .file(extensions: ["gguf"])) var file: String?
    @Option(
        help:
            "A random model of a published size instead: 370M, 1.3B, 2.7B, 2B4T or embedding-0.6B.")
    var shape: PublishedShape?
    @Option(
        help: "Where the random model is put. Default: $TMPDIR, or /tmp.", completion: .directory)
    var directory: String?
    @Option(parsing: .unconditional, help: "Rounds.") var repetitions = 7
    @Option(help: "Sequences decoded at once.") var batch = "1,2,4,8,16,32"
    @Option(help: "Prompt lengths.") var prompt = "16,128,512,2048"
    @Flag(help: "Leave out the time to the first token.") var noFirstToken = false
    @Flag(help: "Measure other kernels, shares and fusing beside the choice for this processor.")
    var tune = false
    @Flag(help: "Measure the daemon instead: what its clients see.") var server = false
    @Option(
        help: "Users whose clients ask, in equal numbers: alice,bob. For root. Default: yourself.")
    var accounts: String?
    @OptionGroup(title: "Load") var load: LoadOptions
    @OptionGroup(title: "Daemon") var connection: Connection
    // Not ModelOption, whose completion asks the daemon and waits: this verb computes, on the main thread.
    @Option(
        name: [.customShort("m"), .customLong("model")], parsing: .unconditional,
        help: "The daemon's model. Default: $MMFREED_MODEL, or the daemon's default model.")
    var model: String?
    @Option(help: "Write a CSV file, \"-\" for standard output.", completion: .file())
    var csv: String?
    @OptionGroup var replacing: Replacing
    @Flag(help: "One JSON object a line.") var json = false
    @OptionGroup var options: LocalOptions

    func validate() throws {
        guard [file != nil, shape != nil, server].count(where: { $0 }) == 1 else {
            throw ValidationError("give a file, --shape or --server")
        }
        if tune, server { throw ValidationError("--tune measures a file or a --shape") }
        if accounts != nil, !server { throw ValidationError("--accounts needs --server") }
        if accounts != nil, geteuid() != 0 {
            throw ValidationError("--accounts is for root, who may ask as other users")
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

    static func numbers(_ text: String, _ range: ClosedRange<Int>) -> [Int]? {
        let parts = text.split(separator: ",")
        let numbers = parts.compactMap { Int($0) }.filter(range.contains)
        return numbers.count == parts.count ? numbers : nil
    }

    func run() throws {
        // Before the work.
        let output = try csv.map {
            try Output($0, replacing: replacing.force, inputs: file.map { [$0] } ?? [])
        }
        if server { return try measureServer(output) }
        let made = try shape.map { try make($0) }
        defer { try? made?.close() }
        let path = made.map { "/proc/self/fd/\($0.rawValue)" } ?? file ?? ""
        let packed = try open(path)
        if tune { return try tune(packed, output) }
        let cold = noFirstToken ? nil : try FirstToken.measure(path, options)
        try packed.map.prefault()
        let run = try BenchRun(packed, options)
        let batches = Self.numbers(batch, 1...512) ?? []
        let prompts = Self.numbers(prompt, 1...65536) ?? []
        if let context = run.context, let long = prompts.first(where: { $0 > context }) {
            throw Failure(
                "--prompt \(long): this model has positions for \(context) (context_length)",
                .usage)
        }
        let progress = ProgressLine()
        for round in 0...repetitions {
            progress.show(round, of: repetitions + 1, "rounds")
            // The first round warms up.
            try run.round(batches: batches, prompts: prompts, counts: round > 0)
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
        try show(rows, run.title, output.map { ($0, Self.csv(rows)) })
    }

    private func tune(_ packed: PackedFile, _ output: Output?) throws {
        try packed.map.prefault()
        // What most requests are made of; the whole list of sizes takes too long.
        let run = try BenchTune(
            packed, options, batches: [1, 4, 8], prompts: [128])
        let candidates = try BenchTune.candidates(besides: run.now, kernels: Kernels.runnable)
        let progress = ProgressLine()
        // Two of every kind: each is first as often as the other.
        let rounds = (repetitions + 1) / 2 * 2 + 1
        func measure(_ candidates: [BenchTune.Candidate]) throws {
            for round in 0..<rounds {
                // The first round warms up.
                try run.round(candidates, isOdd: round % 2 == 1, counts: round > 0) {
                    progress.show(
                        round * candidates.count + $0, of: rounds * candidates.count, "candidates")
                }
            }
        }
        try measure(candidates)
        let best = run.choice.best(of: candidates)
        let isNew = best.tuning != run.now.tuning
        if isNew { try measure([best]) }
        progress.clear()
        let all = candidates + (isNew ? [best] : [])
        let rows = run.rows(all)
        if let output { try output.write(Array(Self.csv(rows).utf8)) }
        if csv == "-" { return }
        if json { return try show(rows, run.title, nil) }
        Terminal.print(run.title)
        Terminal.print(run.table(all))
        Terminal.print(run.choice.advice(best))
    }

    private func measureServer(_ output: Output?) throws {
        // $MMFREED_MODEL goes on to the clients by itself.
        var target = model.map { ["--model", $0] } ?? []
        if let socket = connection.socket { target += ["--socket", socket] }
        if let timeout = connection.timeout { target += ["--timeout", "\(timeout)"] }
        let users = accounts?.split(separator: ",").map(String.init) ?? []
        let run = LoadRun(load: load, accounts: users, target: target)
        let alone = try run.alone()
        let socket = connection.socket.map { ["--socket", $0] } ?? []
        let before = try TurnTime(ownOutput(["metrics"] + socket))
        let together = try run.together()
        let after = try TurnTime(ownOutput(["metrics"] + socket))
        let report = LoadReport(
            samples: together, alone: alone, meanTurn: after.mean(since: before))
        let title =
            "\(load.clients) clients, \(load.requests) requests each, "
            + (load.rate.map { "\($0) requests a second" } ?? "each after the other")
            + (users.isEmpty ? "" : ", of \(users.count) accounts")
        try show(report.rows, title, output.map { ($0, report.csv) })
        if !json, csv != "-" { Terminal.print(report.plot, terminator: "") }
        if let error = together.compactMap(\.error).first {
            Terminal.note("the first request that failed: \(error)")
        }
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

    private static func csv(_ rows: [BenchRow]) -> String {
        var text = "name,value,unit,ratio,of\n"
        for row in rows {
            text += "\(row.name.filter { $0 != "," }),\(row.value),\(row.unit),"
            text += row.ratio.map { "\($0)" } ?? ""
            text += ",\(row.of ?? "")\n"
        }
        return text
    }

    private func show(
        _ rows: [BenchRow], _ title: String, _ file: (output: Output, text: String)?
    ) throws {
        if let file {
            try file.output.write(Array(file.text.utf8))
            if csv == "-" { return }
        }
        if json {
            for row in rows { Terminal.print(try Terminal.json(row)) }
            return
        }
        Terminal.print(title)
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
            try local.feed([UInt32(1)], wants: local.model.shape.hasHead ? .logits : .hidden) {
                _, _ in
            }
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
