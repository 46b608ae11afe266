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
        var vector =
            vectors.removeValue(forKey: sequence.input) ?? PooledVector(PooledVector.Kind(pooling))
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
        guard vector.finish(normalizes: normalizes) else { return .notFinite }
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

extension PooledVector.Kind {
    init(_ wire: Pooling) {
        switch wire {
        case .unspecified, .mean: self = .mean
        case .last: self = .last
        case .none: self = .all
        }
    }
}
