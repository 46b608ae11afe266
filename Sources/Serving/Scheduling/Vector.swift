// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import RPC

/// The vector of one input, as its hidden states come in. Sums run in the order of the tokens, so that the result does not
/// depend on how the prompt was cut up.
final class Vector {
    let index: Int
    let pooling: Pooling
    private let normalizes: Bool
    private let group: EmbedGroup
    private var values: [Float] = []
    private var rows = 0

    init(index: Int, pooling: Pooling, normalizes: Bool, group: EmbedGroup) {
        self.index = index
        self.pooling = pooling
        self.normalizes = normalizes
        self.group = group
    }

    /// Takes the hidden state of the next token: [hidden].
    func add(_ hidden: UnsafeBufferPointer<Float>) {
        rows += 1
        switch pooling {
        case .last: values = Array(hidden)
        case .none: values.append(contentsOf: hidden)
        case .mean, .unspecified:
            if values.isEmpty {
                values = Array(hidden)
                return
            }
            for k in hidden.indices { values[k] += hidden[k] }
        }
    }

    /// The input is done.
    func finish(promptTokens: Int) {
        let width = pooling == .none ? values.count / max(1, rows) : values.count
        if pooling == .mean || pooling == .unspecified {
            let count = Float(rows)
            for k in values.indices { values[k] /= count }
        }
        if normalizes {
            for start in stride(from: 0, to: values.count, by: max(1, width)) {
                normalize(start..<start + width)
            }
        }
        var embedding = Embedding()
        embedding.index = UInt32(index)
        embedding.dimensions = UInt32(width)
        embedding.values = values
        embedding.promptTokens = UInt32(promptTokens)
        group.deliver(embedding)
    }

    func fail(_ error: RPCError) { group.fail(error) }
    func flush() { group.flush() }
    var isOver: Bool { group.isOver }
    var isFlowing: Bool { group.isFlowing }
    var waitingSince: UInt64 { group.waitingSince }
    var isRequestOver: Bool { group.isComplete }

    /// Scales to length one; a vector of zeros stays.
    private func normalize(_ range: Range<Int>) {
        var sum: Double = 0
        for k in range { sum += Double(values[k]) * Double(values[k]) }
        guard sum > 0 else { return }
        let inverse = 1 / sum.squareRoot()
        for k in range { values[k] = Float(Double(values[k]) * inverse) }
    }
}

/// All inputs of one Embed call. Owned by the decode thread once posted.
final class EmbedGroup: @unchecked Sendable {
    let record: RequestRecord
    private let sink: ReplySink<EmbedResponse>
    private let digest: String
    private var left: Int
    private var waiting: [EmbedResponse] = []
    private(set) var isOver = false
    /// Since when the reader has not taken what waits; 0 while nothing does.
    private(set) var waitingSince: UInt64 = 0

    init(record: RequestRecord, sink: ReplySink<EmbedResponse>, digest: String, count: Int) {
        self.record = record
        self.sink = sink
        self.digest = digest
        left = count
    }

    var isComplete: Bool { left == 0 || isOver }
    /// Whether the reader takes what is written; false pauses this request alone.
    var isFlowing: Bool { waiting.isEmpty }

    func deliver(_ embedding: Embedding) {
        guard !isOver else { return }
        var response = EmbedResponse()
        response.requestID = record.id
        response.model = record.model
        response.modelDigest = digest
        response.embeddings = [embedding]
        waiting.append(response)
        left -= 1
        flush()
    }

    /// Sends what waits, as far as the reader takes it. At most as many messages wait as there are slots.
    func flush() {
        while !isOver, let first = waiting.first {
            switch sink.send(first) {
            case .accepted: waiting.removeFirst()
            case .full:
                if waitingSince == 0 { waitingSince = cl_monotonic_nanoseconds() }
                return
            case .closed:
                isOver = true
                waiting = []
                sink.finish()
            }
        }
        waitingSince = 0
        if left == 0, waiting.isEmpty, !isOver {
            isOver = true
            sink.finish()
        }
    }

    func fail(_ error: RPCError) {
        guard !isOver else { return }
        isOver = true
        waiting = []
        waitingSince = 0
        sink.fail(error)
    }
}
