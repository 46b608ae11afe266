// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC

/// The vectors of an Embed call, each sent as soon as its input has been read.
final class EmbeddingJob: Consumer {
    private let record: RequestRecord
    private let outbox: Outbox<EmbedResponse>
    private let digest: String
    private let pooling: Pooling
    private let normalizes: Bool
    /// Of the inputs under way.
    private var vectors: [Int: PooledVector] = [:]

    init(
        record: RequestRecord, outbox: Outbox<EmbedResponse>, digest: String, pooling: Pooling,
        normalizes: Bool
    ) {
        self.record = record
        self.outbox = outbox
        self.digest = digest
        self.pooling = pooling
        self.normalizes = normalizes
    }

    var stalledSince: UInt64 { outbox.stalledSince }
    var keepsPartialAnswer: Bool { false }
    var transcript: String? { nil }

    func begin() {}

    func wants(isLast: Bool) -> Wants { pooling == .last && !isLast ? .nothing : .hidden }

    func take(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool) -> Step {
        var vector = vectors.removeValue(forKey: sequence.input) ?? PooledVector(pooling)
        if pooling != .last {
            for index in rows.rows.indices {
                rows.withHidden(index - rows.rows.lowerBound) { vector.add($0) }
            }
        } else if isPromptDone {
            rows.withHidden(rows.rows.count - 1) { vector.add($0) }
        }
        guard isPromptDone else {
            vectors[sequence.input] = vector
            return .reading
        }
        vector.finish(normalizes: normalizes)
        var embedding = Embedding()
        embedding.index = UInt32(sequence.input)
        embedding.dimensions = UInt32(vector.width)
        embedding.values = vector.values
        embedding.promptTokens = UInt32(sequence.tokens.count)
        var response = EmbedResponse()
        response.requestID = record.id
        response.model = record.model
        response.modelDigest = digest
        response.embeddings = [embedding]
        return outbox.send(response) == .closed ? .closed : .inputDone
    }

    func end(_ reason: FinishReason?, usage: Usage, timings: Timings) { outbox.finish() }
    func fail(_ error: RPCError) { outbox.fail(error) }
}

/// The vector of one input, as its hidden states come in. Sums run in the order of the tokens, so that the result does not
/// depend on how the prompt was cut up.
struct PooledVector {
    private let pooling: Pooling
    private(set) var values: [Float] = []
    private var rows = 0

    init(_ pooling: Pooling) { self.pooling = pooling }

    /// Numbers in one vector; with no pooling there is one for each token.
    var width: Int { pooling == .none ? values.count / max(1, rows) : values.count }

    /// Takes the hidden state of the next token: [hidden].
    mutating func add(_ hidden: UnsafeBufferPointer<Float>) {
        rows += 1
        if pooling == .none {
            values.append(contentsOf: hidden)
        } else if pooling == .last || values.isEmpty {
            values = Array(hidden)
        } else {
            for k in hidden.indices { values[k] += hidden[k] }
        }
    }

    /// All rows have come.
    mutating func finish(normalizes: Bool) {
        if pooling == .mean || pooling == .unspecified {
            let count = Float(rows)
            for k in values.indices { values[k] /= count }
        }
        guard normalizes, width > 0 else { return }
        for start in stride(from: 0, to: values.count, by: width) {
            normalize(start..<start + width)
        }
    }

    /// Scales to length one; a vector of zeros stays.
    private mutating func normalize(_ range: Range<Int>) {
        var sum: Double = 0
        for k in range { sum += Double(values[k]) * Double(values[k]) }
        guard sum > 0 else { return }
        let inverse = 1 / sum.squareRoot()
        for k in range { values[k] = Float(Double(values[k]) * inverse) }
    }
}
