// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC

/// Finds out that an answer is larger than a frame before it is built: in memory it takes many times that.
enum AnswerSize {
    /// What is left for a message beside its envelope.
    static let limit = FrameHeader.dataLimit - 4096

    static func tooLarge(_ advice: String) -> RPCError {
        RPCError(
            .resourceExhausted,
            "the answer takes more than \(limit) bytes, a frame holds \(FrameHeader.dataLimit): \(advice)",
            reason: "ANSWER_TOO_LARGE")
    }

    /// Bytes of a TokenizeResponse, or some number above the limit.
    static func tokenized(_ tokens: [UInt32], _ tokenizer: Tokenizer) -> Int {
        var bytes = 0
        for token in tokens where bytes <= limit {
            let piece = tokenizer.pieceLength(token)
            // The id; then tag, length and bytes of the piece.
            bytes += varint(Int(token)) + 1 + varint(piece) + piece
        }
        return bytes
    }

    /// The text of `ids`; `nil` if it is too long for a frame.
    static func text(of ids: [UInt32], _ tokenizer: Tokenizer, skipSpecial: Bool) -> String? {
        var detokenizer = Detokenizer(tokenizer, continuing: false, skipSpecial: skipSpecial)
        var text = ""
        for id in ids {
            text += detokenizer.append(id)
            guard text.utf8.count <= limit else { return nil }
        }
        return text + detokenizer.finish()
    }

    private static func varint(_ value: Int) -> Int {
        max(1, (Int.bitWidth - value.leadingZeroBitCount + 6) / 7)
    }
}
