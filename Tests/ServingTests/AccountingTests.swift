// SPDX-License-Identifier: Apache-2.0

import Engine
import TestSupport
import Testing

@testable import RPC
@testable import Serving

@Suite("What is counted, and who sees it", .fewAtOnce, .bounded)
struct AccountingTests {
    private func record(_ uid: UInt32, prompt: Int, completion: Int) -> RequestRecord {
        let call = Call(
            peer: Peer(uid: uid, gid: uid, pid: 1), service: "s", method: "Generate", received: 0,
            deadline: .max)
        let record = RequestRecord(
            id: "r\(uid)-\(prompt)", call: call, model: "m", promptTokens: prompt)
        record.completionTokens = completion
        return record
    }

    @Test("totals are of those users that may be seen, and nobody's token counts are in others'")
    func totals() throws {
        let ledger = Ledger(ServingConfiguration())
        for (uid, prompt, completion) in [(1, 17, 5), (2, 123, 41), (1, 3, 9)]
            as [(UInt32, Int, Int)]
        {
            let record = record(uid, prompt: prompt, completion: completion)
            _ = try ledger.admit(record)
            ledger.leaveQueue(record)
            _ = ledger.finish(record)
        }
        let (own, all, none) = (
            ledger.totals { $0.uid == 1 }, ledger.totals { _ in true },
            ledger.totals { $0.uid == 3 }
        )
        #expect([own.finished, own.promptTokens, own.completionTokens] == [2, 20, 14])
        #expect([all.finished, all.promptTokens, all.completionTokens] == [3, 143, 55])
        #expect([none.finished, none.promptTokens, none.completionTokens] == [0, 0, 0])
    }

    @Test("what is logged of a prompt of token ids is 256 of them and their number")
    func excerpts() {
        let ids = InferenceService.excerpt(.tokens([UInt32](repeating: 7, count: 200_000)))
        #expect(ids.hasPrefix("tokens 7,7,7") && ids.hasSuffix("… (200000 tokens)"))
        #expect(ids.utf8.count < 1000)
        #expect(InferenceService.excerpt(.text("short")) == "short")
        #expect(InferenceService.excerpt(.tokens([1, 2])) == "tokens 1,2")
    }

    @Test("the size of a Tokenize answer is known before it is built")
    func tokenizeSize() async throws {
        try await withDaemon { daemon in
            let tokenizer = try #require(daemon.model("tiny").tokenizer)
            for text in ["", "a", "abc é € \n and so on", String(repeating: "word ", count: 5000)] {
                let tokens = tokenizer.encode(text, addBOS: true)
                var response = TokenizeResponse()
                response.tokens = tokens
                response.pieces = tokens.map { tokenizer.piece($0) }
                // Tag and length of the ids are not counted.
                let difference = response.encoded().count - AnswerSize.tokenized(tokens, tokenizer)
                #expect((0...6).contains(difference))
            }
            try await daemon.withClient { inference, _ in
                var request = TokenizeRequest()
                request.text = String(repeating: "x", count: 4_000_000)
                let error = try await refusal { _ = try await inference.tokenize(request) }
                #expect(error?.reason == "ANSWER_TOO_LARGE")
            }
        }
    }

    @Test("a text is as long as it takes, and none when it is too long for a frame")
    func textSize() async throws {
        try await withDaemon { daemon in
            let tokenizer = try #require(daemon.model("tiny").tokenizer)
            let ids = tokenizer.encode("abc é €", addBOS: true)
            for skips in [true, false] {
                #expect(
                    AnswerSize.text(of: ids, tokenizer, skipSpecial: skips)
                        == tokenizer.decode(ids, skipSpecial: skips))
            }
            // Bytes that are no UTF-8 take three each.
            let wrong = [UInt32](repeating: TinyModel.byte(0xFF), count: 1_400_000)
            #expect(AnswerSize.text(of: wrong, tokenizer, skipSpecial: true) == nil)
        }
    }
}
