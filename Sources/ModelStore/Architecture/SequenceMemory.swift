// SPDX-License-Identifier: Apache-2.0

/// How keys and values are stored. It decides results, beside the model's digest.
package enum KeyValueType: String, Sendable, CaseIterable, BitwiseCopyable {
    /// float32: as they come of the arithmetic.
    case f32
    /// Each rounded to the nearest bfloat16, to even, when it is written, and widened exactly when it is read: half the memory, and
    /// another function.
    case bf16

    /// Of one number.
    package var byteCount: Int {
        switch self {
        case .f32: 4
        case .bf16: 2
        }
    }
}

/// What a model remembers of the tokens that it has read.
package enum SequenceMemory: Sendable, Equatable {
    /// A block of so many floats, whatever was read.
    case recurrent(floats: Int)
    /// Keys and values of each token, so many numbers; of `context` tokens at most.
    case attention(numbersPerToken: Int, type: KeyValueType = .f32, context: Int)

    /// Numbers that `tokens` tokens leave.
    package func numbers(after tokens: Int) -> Int {
        switch self {
        case .recurrent(let floats): tokens == 0 ? 0 : floats
        case .attention(let numbers, _, _): tokens * numbers
        }
    }

    /// Bytes that `tokens` tokens leave.
    package func bytes(after tokens: Int) -> Int {
        numbers(after: tokens) * (keyValueType ?? .f32).byteCount
    }

    /// Bytes to set aside for a sequence of `tokens` tokens, as far as they grow with it.
    package func pageBytes(_ tokens: Int) -> Int {
        switch self {
        case .recurrent: 0
        case .attention: bytes(after: (tokens + 15) / 16 * 16)
        }
    }

    /// Tokens of prompt and answer together; nil for no limit.
    package var context: Int? {
        switch self {
        case .recurrent: nil
        case .attention(_, _, let context): context
        }
    }

    /// nil of models that have no keys and values.
    package var keyValueType: KeyValueType? {
        switch self {
        case .recurrent: nil
        case .attention(_, let type, _): type
        }
    }
}
