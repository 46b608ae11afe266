// SPDX-License-Identifier: Apache-2.0

package import ModelStore

/// The vector of one input, as its hidden states come in. Sums run in the order of the tokens, so that the result does not
/// depend on how the prompt was cut up.
package struct PooledVector {
    package enum Kind: Sendable {
        case mean, first, last, all

        package init(_ pooling: Pooling) {
            switch pooling {
            case .mean: self = .mean
            case .first: self = .first
            case .last: self = .last
            }
        }

        /// Whether the hidden state of token `index` of `count` is looked at.
        package func needs(_ index: Int, of count: Int) -> Bool {
            switch self {
            case .mean, .all: true
            case .first: index == 0
            case .last: index == count - 1
            }
        }
    }

    package let kind: Kind
    package private(set) var values: [Float] = []
    private var rows = 0

    package init(_ kind: Kind) { self.kind = kind }

    /// A mean that goes on after `count` tokens, whose hidden states have this sum, taken in their order.
    package init(mean sum: [Float], of count: Int) {
        kind = .mean
        values = sum
        rows = count
    }

    /// Numbers in one vector; of kind `all` there is one for each token.
    package var width: Int { kind == .all ? values.count / max(1, rows) : values.count }

    /// Takes the hidden state of the next token: [hidden].
    package mutating func add(_ hidden: UnsafeBufferPointer<Float>) {
        rows += 1
        if kind == .all {
            values.append(contentsOf: hidden)
        } else if kind == .last || kind == .first || values.isEmpty {
            values = Array(hidden)
        } else {
            for k in hidden.indices { values[k] += hidden[k] }
        }
    }

    /// All rows have come.
    ///
    /// - Returns: whether all numbers are finite.
    package mutating func finish(normalizes: Bool) -> Bool {
        if kind == .mean {
            let count = Float(rows)
            for k in values.indices { values[k] /= count }
        }
        guard values.withUnsafeBufferPointer({ $0.isFinite }) else { return false }
        guard normalizes, width > 0 else { return true }
        for start in stride(from: 0, to: values.count, by: width) {
            normalize(start..<start + width)
        }
        return true
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
