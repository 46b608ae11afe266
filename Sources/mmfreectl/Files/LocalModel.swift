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

/// A packed file run in this process: one conversation in slot 0.
final class LocalModel {
    let model: Model
    let evaluator: Evaluator
    let states: StatePool
    let kernels: Kernels.Table
    static let chunk = 256

    init(_ file: String, _ options: LocalOptions) throws {
        model = try Model(try open(file))
        kernels = try options.table()
        evaluator = Evaluator(
            model: model, workers: options.workers(), maxRows: Self.chunk, kernels: kernels)
        states = StatePool(slots: 1, model: model)
    }

    /// Feeds tokens; lends what each row wanted, with the token's place.
    func feed(
        _ tokens: some RandomAccessCollection<UInt32>, wants: Wants, chunk: Int = LocalModel.chunk,
        _ body: (Int, UnsafeBufferPointer<Float>) throws -> Void = { _, _ in }
    ) throws {
        var start = 0
        while start < tokens.count {
            let part = Array(tokens.dropFirst(start).prefix(chunk))
            try check(part)
            evaluator.run(part.map { BatchRow(slot: 0, token: $0, wants: wants) }, states: states)
            try model.file.map.checkUnchanged()
            for row in part.indices {
                switch wants {
                case .nothing: break
                case .logits: try evaluator.withLogits(row: row) { try body(start + row, $0) }
                case .hidden: try evaluator.withHidden(row: row) { try body(start + row, $0) }
                }
            }
            start += part.count
        }
    }

    /// - Throws: `Failure` for a token that is not in the vocabulary.
    func check(_ tokens: [UInt32]) throws {
        if let wrong = tokens.first(where: { $0 >= UInt32(model.shape.vocabulary) }) {
            throw Failure(
                "token \(wrong); the model's vocabulary has \(model.shape.vocabulary)", .usage)
        }
    }

    /// The tokens of a text as a prompt.
    func tokens(of text: String) throws -> [UInt32] {
        guard let tokenizer = model.tokenizer else {
            throw Failure(
                "the file was packed without a tokenizer and takes token ids only", .configuration)
        }
        return tokenizer.encode(text, addBOS: tokenizer.addsBOS)
    }
}

/// log p(token) under logits.
func logProbability(
    _ token: UInt32, _ logits: UnsafeBufferPointer<Float>, _ kernels: Kernels.Table
) -> Double {
    precondition(Int(token) < logits.count)
    let highest = logits[kernels.pointee.argmax(logits.baseAddress!, logits.count)]
    var sum = 0.0
    for value in logits { sum += exp(Double(value - highest)) }
    return Double(logits[Int(token)] - highest) - log(sum)
}
