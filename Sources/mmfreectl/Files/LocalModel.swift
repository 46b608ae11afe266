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
    @Option(
        name: .customLong("key-values"),
        help:
            "How keys and values are stored: f32 or bf16. Models without attention have none. Default: f32."
    )
    var keyValues: KeyValueType?

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

    func model(_ file: PackedFile) throws -> Model {
        let model = try Model(file, keyValues: keyValues ?? .f32)
        guard keyValues == nil || model.memory.keyValueType != nil else {
            throw Failure(
                "--key-values: architecture \(model.shape.name) has no keys and values", .usage)
        }
        return model
    }
}

extension KeyValueType: ExpressibleByArgument {}

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

/// A packed file run in this process: one conversation in slot 0.
final class LocalModel: LocalRun {
    let model: Model
    let evaluator: Evaluator
    let states: StatePool
    let kernels: Kernels.Table
    static let chunk = 256
    /// Tokens of the conversation so far.
    private var read = 0

    var vocabulary: Int { model.shape.vocabulary }
    var hidden: Int { model.shape.hidden }
    var tokenizer: Tokenizer? { model.tokenizer }
    var byteCount: Int { model.file.byteCount }
    func reset() {
        states.reset(0)
        read = 0
    }

    convenience init(_ file: String, _ options: LocalOptions) throws {
        try self.init(try open(file), options)
    }

    init(_ file: PackedFile, _ options: LocalOptions) throws {
        model = try options.model(file)
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
        guard wants != .logits || model.shape.hasHead else {
            throw Failure(
                "architecture \(model.shape.name) is an embedding model: it has no logits; ask for --hidden or --embedding",
                .usage)
        }
        if let context = model.memory.context, read + tokens.count > context {
            throw Failure(
                "\(read + tokens.count) tokens; this model has positions for \(context) (context_length)",
                .usage)
        }
        var start = 0
        while start < tokens.count {
            let part = Array(tokens.dropFirst(start).prefix(chunk))
            try check(part)
            try evaluator.run(
                part.map { BatchRow(slot: 0, token: $0, wants: wants) }, states: states)
            read += part.count
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

extension LocalModel {
    /// A text's vector as the model's files make it, [hidden]; of a text that is too long the beginning. Embedding models only.
    ///
    /// - Parameter suffix: the token behind every text; it stays where the text is cut.
    func embed(_ tokens: [UInt32], suffix: UInt32?) throws -> [Float] {
        guard let (pooling, normalizes) = model.shape.embedding else {
            throw Failure(
                "architecture \(model.shape.name) is no embedding model: ask for --hidden", .usage)
        }
        var tokens = tokens
        if let suffix {
            let most = (model.memory.context ?? .max) - 1
            tokens = tokens.prefix(most) + [suffix]
        }
        try check(tokens)
        var vector = PooledVector(.init(pooling))
        try feed(tokens, wants: .hidden) { place, row in
            if vector.kind.needs(place, of: tokens.count) { vector.add(row) }
        }
        guard vector.finish(normalizes: normalizes) else {
            throw Failure("\(ModelError.notFinite)", .data)
        }
        return vector.values
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
