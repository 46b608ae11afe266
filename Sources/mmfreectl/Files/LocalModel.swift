// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CKernels
import Engine
import Glibc
import ModelStore

/// How to run a packed file without the daemon.
struct LocalOptions: ParsableArguments {
    @Option(help: "Threads. Default: one for each processor.") var threads: Int?
    @Flag(help: "Keep each thread to a processor of its own.") var pin = false
    @Option(help: "The kernel table. Default: $MMFREED_KERNELS, or the fastest.") var kernels:
        String?

    func validate() throws {
        if let threads, !(1...1024).contains(threads) {
            throw ValidationError("--threads is 1 to 1024")
        }
    }

    /// The threads; the calling one is among them.
    func workers() -> WorkerPool {
        let workers = WorkerPool(threads: threads, pinned: pin)
        if let problem = workers.pinCaller() {
            Terminal.complain("--pin: the system refuses it: \(problem), ignoring")
        }
        return workers
    }

    func table() throws -> Kernels.Table {
        kernels == nil ? try Kernels.fromEnvironment() : try Kernels.select(kernels)
    }
}

/// A model run in this process, of any architecture: one conversation.
protocol LocalRun {
    var vocabulary: Int { get }
    var hidden: Int { get }
    var tokenizer: Tokenizer? { get }
    /// Bytes on disk.
    var byteCount: Int { get }
    /// Begins a new conversation.
    func reset()
    /// Feeds tokens; lends what each row wanted, with the token's place.
    func feed(
        _ tokens: [UInt32], wants: Wants, _ body: (Int, UnsafeBufferPointer<Float>) throws -> Void
    ) throws
}

extension LocalRun {
    /// The tokens of a text as a prompt.
    func encode(_ text: String) throws -> [UInt32] {
        guard let tokenizer else {
            throw Failure(
                "the file was packed without a tokenizer and takes token ids only", .configuration)
        }
        return tokenizer.encode(text, addBOS: tokenizer.addsBOS)
    }

    /// Refuses tokens that the model does not have.
    func check(_ tokens: some Sequence<UInt32>) throws {
        if let wrong = tokens.first(where: { $0 >= UInt32(vocabulary) }) {
            throw Failure("token \(wrong); the model's vocabulary has \(vocabulary)", .usage)
        }
    }
}

/// A packed file by what runs its architecture: the engine, or the reference where the engine does not yet.
func openLocal(_ file: String, _ options: LocalOptions) throws -> any LocalRun {
    let packed = try open(file)
    if try packed.metadata.string(forKey: FormatKeys.architecture) == Format.architecture {
        return try LocalModel(packed, options)
    }
    return try LocalReference(AttentionFile(packed))
}

/// A packed file run in this process: one conversation in slot 0.
final class LocalModel: LocalRun {
    let model: Model
    let evaluator: Evaluator
    let states: StatePool
    let kernels: Kernels.Table
    static let chunk = 256

    var vocabulary: Int { model.shape.vocabulary }
    var hidden: Int { model.shape.hidden }
    var tokenizer: Tokenizer? { model.tokenizer }
    var byteCount: Int { model.file.byteCount }
    func reset() { states.reset(0) }

    convenience init(_ file: String, _ options: LocalOptions) throws {
        try self.init(try open(file), options)
    }

    init(_ file: PackedFile, _ options: LocalOptions) throws {
        model = try Model(file)
        kernels = try options.table()
        evaluator = try Evaluator(
            model: model, workers: options.workers(), maxRows: Self.chunk, kernels: kernels)
        states = try StatePool(slots: 1, model: model)
    }

    func feed(
        _ tokens: [UInt32], wants: Wants, _ body: (Int, UnsafeBufferPointer<Float>) throws -> Void
    ) throws {
        try feed(tokens, wants: wants, chunk: Self.chunk, body)
    }

    func feed(
        _ tokens: some RandomAccessCollection<UInt32>, wants: Wants, chunk: Int,
        _ body: (Int, UnsafeBufferPointer<Float>) throws -> Void = { _, _ in }
    ) throws {
        func lend(_ row: UnsafeBufferPointer<Float>, _ place: Int) throws {
            guard row.isFinite else {
                throw Failure("\(ModelError.notFinite) (token \(place) of the text)", .data)
            }
            try body(place, row)
        }
        var start = 0
        while start < tokens.count {
            let part = Array(tokens.dropFirst(start).prefix(chunk))
            try check(part)
            evaluator.run(part.map { BatchRow(slot: 0, token: $0, wants: wants) }, states: states)
            try model.file.map.checkUnchanged()
            for row in part.indices {
                switch wants {
                case .nothing: break
                case .logits: try evaluator.withLogits(row: row) { try lend($0, start + row) }
                case .hidden: try evaluator.withHidden(row: row) { try lend($0, start + row) }
                }
            }
            start += part.count
        }
    }
}

/// log p(token) under logits, which must be finite.
func logProbability(
    _ token: UInt32, _ logits: UnsafeBufferPointer<Float>, _ kernels: Kernels.Table
) -> Double {
    precondition(Int(token) < logits.count)
    let highest = logits[kernels.pointee.argmax(logits.baseAddress!, logits.count)]
    var sum = 0.0
    for value in logits { sum += exp(Double(value - highest)) }
    return Double(logits[Int(token)] - highest) - log(sum)
}
