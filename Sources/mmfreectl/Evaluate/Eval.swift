// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import Glibc
import ModelStore
import SystemPackage

struct Eval: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure how many questions of known tasks a model answers right.",
        discussion: """
            Zero-shot, as lm-evaluation-harness asks and counts: \(EvalTask.allCases.map(\.rawValue).joined(separator: ", ")).
            The data are rows of the datasets that it names, a JSON object a line. Without --server no daemon is needed; the \
            results are the same bits.

              mmfreectl eval 2.7b.gguf arc_easy=arc_easy.jsonl piqa=piqa.jsonl
              mmfreectl eval --server 2.7b piqa=piqa.jsonl
            """)

    @Argument(
        help: "The packed file; with --server, a model's name.",
        completion: .file(extensions: ["gguf"]))
    var file: String
    @Argument(help: "Tasks and their data: arc_easy=FILE.", completion: .file())
    var tasks: [TaskData]
    @Option(parsing: .unconditional, help: "Use only the first so many questions of each task.")
    var limit: Int?
    @Option(
        help: "Keep results in this file, and go on from what is there.", completion: .file())
    var resume: String?
    @Flag(help: "Put the beginning-of-text token first; the harness does not unless it is told to.")
    var bos = false
    @Flag(help: "Let a daemon compute, with its other work.") var server = false
    @Flag(help: "One JSON object.") var json = false
    @OptionGroup var options: LocalOptions
    @OptionGroup var connection: Connection

    /// "arc_easy=data.jsonl"
    struct TaskData: ExpressibleByArgument {
        let task: EvalTask
        let path: String

        init?(argument: String) {
            let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2, let task = EvalTask(rawValue: parts[0]) else { return nil }
            self.task = task
            path = parts[1]
        }
    }

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit is 1 or more") }
        guard Set(tasks.map(\.task)).count == tasks.count else {
            throw ValidationError("give each task once")
        }
        guard !tasks.isEmpty else { throw ValidationError("give a task and its data") }
        if server,
            options.threads != nil || options.pin || options.kernels != nil
                || options.keyValues != nil
        {
            throw ValidationError(
                "--threads, --pin, --kernels and --key-values are the daemon's affair")
        }
        if !server, connection.socket != nil || connection.timeout != nil {
            throw ValidationError("--socket and --timeout need --server")
        }
    }

    private struct Row: Encodable {
        let questions: Int
        let acc: Double
        let accStderr, accNorm, accNormStderr: Double?
        let dataSha256: String
    }

    private struct Report: Encodable {
        let model, modelDigest: String
        /// Left out of models that have none.
        let keyValues: String?
        let addBos: Bool
        let tasks: [String: Row]
        let seconds: Double
    }

    func run() async throws {
        Interruption.watch()
        let model: any EvalModel =
            server
            ? try await ServedEvalModel(file, connection.client(), addsBOS: bos)
            : try LocalEvalModel(file, options, addsBOS: bos)
        // All data are read before any is computed with.
        let data = try tasks.map { try EvalData($0.task, $0.path, limit: limit) }
        var run = try EvalRun(model, resume: resume, addsBOS: bos)
        let began = ContinuousClock.now
        let scores = try await run.scores(data)
        let seconds = seconds(since: began)
        if json {
            var rows: [String: Row] = [:]
            for (data, score) in zip(data, scores) {
                rows[data.task.rawValue] = Row(
                    questions: score.count, acc: score.accuracy,
                    accStderr: score.error(score.right),
                    accNorm: data.task.hasNorm ? score.normAccuracy : nil,
                    accNormStderr: data.task.hasNorm ? score.error(score.rightByLength) : nil,
                    dataSha256: data.digest)
            }
            return Terminal.print(
                try Terminal.json(
                    Report(
                        model: model.name, modelDigest: model.digest, keyValues: model.keyValues,
                        addBos: bos, tasks: rows,
                        seconds: seconds)))
        }
        var table = Table(
            ["TASK", "QUESTIONS", "ACC", "±", "ACC_NORM", "±"], numeric: [1, 2, 3, 4, 5])
        func number(_ value: Double?) -> String { value.map { String(printf: "%.4f", $0) } ?? "" }
        for (data, score) in zip(data, scores) {
            let hasNorm = data.task.hasNorm
            table.add([
                data.task.rawValue, "\(score.count)", number(score.accuracy),
                number(score.error(score.right)), hasNorm ? number(score.normAccuracy) : "",
                hasNorm ? number(score.error(score.rightByLength)) : "",
            ])
        }
        Terminal.print(table.text)
    }
}

/// The questions of one task.
struct EvalData {
    let task: EvalTask
    let questions: [EvalQuestion]
    /// SHA-256 of the file.
    let digest: String

    private static let sizeLimit = 1 << 30

    init(_ task: EvalTask, _ path: String, limit: Int?) throws {
        self.task = task
        let bytes = try Input(path).bytes(limit: Self.sizeLimit)
        digest = bytes.withUnsafeBytes { Digest.of($0) }
        var questions: [EvalQuestion] = []
        for (number, line) in bytes.split(separator: 0x0A, omittingEmptySubsequences: false)
            .enumerated()
        where !line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) {
            func fail(_ what: String) -> Failure {
                Failure("\(path), line \(number + 1): \(what)", .data)
            }
            if let limit, questions.count == limit { break }
            do {
                questions.append(try task.question(try JSON(parsing: Array(line))))
            } catch let error as JSONError {
                throw fail("byte \(error.offset): \(error.what)")
            } catch let error as EvalTask.RowError {
                throw fail(error.what)
            }
        }
        guard !questions.isEmpty else { throw Failure("\(path) has no questions", .data) }
        self.questions = questions
    }
}

/// An evaluation under way: what is known already is not computed again.
struct EvalRun {
    private let model: any EvalModel
    private let path: String?
    private var record: EvalRecord
    private var saved = ContinuousClock.now

    /// Time between two writings of the file.
    private static let interval = Duration.seconds(10)

    init(_ model: any EvalModel, resume path: String?, addsBOS: Bool) throws {
        self.model = model
        self.path = path
        record = EvalRecord(
            model: model.digest, keyValues: model.keyValues, addsBOS: addsBOS)
        guard let path, access(path, F_OK) == 0 else { return }
        let bytes = try Input(path).bytes(limit: EvalRecord.sizeLimit)
        do {
            record = try EvalRecord(
                parsing: bytes, model: model.digest, keyValues: model.keyValues,
                addsBOS: addsBOS)
        } catch { throw Failure("\(path): \(error.message)", error.status) }
    }

    mutating func scores(_ data: [EvalData]) async throws -> [EvalScore] {
        let progress = ProgressLine()
        let total = data.reduce(0) { $0 + $1.questions.count }
        var done = 0
        var scores: [EvalScore] = []
        do {
            for data in data {
                var score = EvalScore()
                let known: [[Double]]
                do { known = try record.results(data.task.rawValue, digest: data.digest) } catch {
                    throw Failure("\(path ?? ""): \(error.message)", error.status)
                }
                for (index, question) in data.questions.enumerated() {
                    try Interruption.check()
                    let result: [Double]
                    if index < known.count {
                        result = known[index]
                        guard result.count == question.pairs.count else {
                            throw Failure(
                                "\(path ?? ""): result \(index) of \(data.task.rawValue) has \(result.count) numbers, the question \(question.pairs.count) answers",
                                .data)
                        }
                    } else {
                        result = try await model.logProbabilities(question)
                        record.add(result, data.task.rawValue, digest: data.digest)
                        try save(onlyIfDue: true)
                    }
                    score.add(result, question)
                    done += 1
                    progress.show(done, of: total, data.task.rawValue)
                }
                scores.append(score)
            }
        } catch {
            // What is computed is not lost; that the file cannot be written is the lesser news.
            try? save(onlyIfDue: false)
            throw error
        }
        progress.clear()
        try save(onlyIfDue: false)
        return scores
    }

    private mutating func save(onlyIfDue: Bool) throws {
        guard let path, !onlyIfDue || ContinuousClock.now - saved > Self.interval else { return }
        try OutputFile.replace(FilePath(path), with: record.bytes, replacing: true)
        saved = .now
    }
}
