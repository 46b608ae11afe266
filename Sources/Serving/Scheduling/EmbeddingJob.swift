// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC

/// The vectors of an Embed call, each sent as soon as its input has been read.
final class EmbeddingJob: Consumer {
    private let record: RequestRecord
    private let outbox: Outbox<EmbedResponse>
    private let digest: String
    private let kind: PooledVector.Kind
    private let normalizes: Bool
    /// Of the inputs under way.
    private var vectors: [Int: PooledVector] = [:]
    /// Sums at the taps of the rows last taken, by input and mark.
    private var sums: [Int: [Int: [Float]]] = [:]

    /// - Parameter files: how the model's files make a vector, where they say; what a request that says nothing gets.
    init(
        record: RequestRecord, outbox: Outbox<EmbedResponse>, digest: String, pooling: RPC.Pooling,
        normalizes: Bool, files: (pooling: ModelStore.Pooling, normalizes: Bool)? = nil
    ) {
        self.record = record
        self.outbox = outbox
        self.digest = digest
        let isDefault = pooling == .unspecified
        kind = isDefault ? files.map { .init($0.pooling) } ?? .mean : .init(pooling)
        self.normalizes = normalizes || (isDefault && files?.normalizes == true)
    }

    var stalledSince: UInt64 { outbox.stalledSince }
    var keepsPartialAnswer: Bool { false }
    var transcript: String? { nil }

    func begin() {}

    func wants(_ index: Int, of count: Int) -> Wants {
        kind.needs(index, of: count) ? .hidden : .nothing
    }

    var prefixUse: PrefixUse {
        switch kind {
        case .last: .state
        case .mean: .stateAndSum
        case .first, .all: .nothing
        }
    }

    func begin(_ sequence: Sequence, after prefix: KnownPrefix) {
        guard prefixUse == .stateAndSum, let sum = prefix.hiddenSum else { return }
        vectors[sequence.input] = PooledVector(mean: sum, of: prefix.snapshot.tokens)
    }

    func hiddenSum(of sequence: Sequence, at mark: Int) -> [Float]? { sums[sequence.input]?[mark] }

    func take(_ rows: ComputedRows, of sequence: Sequence, isPromptDone: Bool) -> Step {
        var vector =
            vectors.removeValue(forKey: sequence.input) ?? PooledVector(kind)
        sums[sequence.input] = nil
        for index in 0..<rows.rows.count
        where kind.needs(sequence.read + index, of: sequence.tokens.count) {
            rows.withHidden(index) { vector.add($0) }
            let mark = sequence.read + index + 1
            guard prefixUse == .stateAndSum, sequence.taps.contains(where: { $0.mark == mark })
            else { continue }
            sums[sequence.input, default: [:]][mark] = vector.values
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
        embedding.cachedTokens = UInt32(sequence.cached)
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
    fileprivate init(_ wire: RPC.Pooling) {
        switch wire {
        case .unspecified, .mean: self = .mean
        case .last: self = .last
        case .none: self = .all
        }
    }
}
