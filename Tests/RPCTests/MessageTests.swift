// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import RPC

@Suite("Messages")
struct MessageTests {
    private func generate(_ random: inout SeededGenerator) -> GenerateRequest {
        var request = GenerateRequest()
        func text(_ random: inout SeededGenerator) -> String {
            String(
                (0..<Int.random(in: 0...9, using: &random)).map { _ in
                    "aé▁\0🙂\n".randomElement(using: &random)!
                })
        }
        request.model = ["", "demo"].randomElement(using: &random)!
        request.prompt = [
            nil, .text(text(&random)),
            .tokens(
                (0..<Int.random(in: 0...5, using: &random)).map { _ in
                    UInt32.random(in: 0 ... .max, using: &random)
                }),
        ].randomElement(using: &random)!
        request.maxTokens = .random(in: 0...9, using: &random)
        request.stop = (0..<Int.random(in: 0...3, using: &random)).map { _ in text(&random) }
        request.echo = .random(using: &random)
        request.logprobs = Bool.random(using: &random) ? nil : .random(in: 0...5, using: &random)
        if Bool.random(using: &random) {
            var sampling = Sampling()
            sampling.temperature =
                Bool.random(using: &random) ? nil : .random(in: -1...2, using: &random)
            sampling.topK = Bool.random(using: &random) ? nil : 0
            sampling.seed = Bool.random(using: &random) ? nil : .max
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                var bias = LogitBias()
                bias.token = 5
                bias.bias = -.infinity
                sampling.logitBias.append(bias)
            }
            request.sampling = sampling
        }
        return request
    }

    @Test("a request's metadata are passed over, whatever is in them")
    func metadata() throws {
        var request = Request()
        request.service = "s"
        request.timeoutNano = 7
        let text: [UInt8] = [0x2a, 6, 0x0a, 1, 0x6b, 0x12, 1, 0x76]
        let noText: [UInt8] = [0x2a, 3, 0x12, 1, 0xff]
        #expect(try Request(decoding: request.encoded() + text + noText) == request)
    }

    @Test("a long error text is cut at 2,000 bytes, in whole code points")
    func cut() {
        #expect(RPCError.cut("short") == "short")
        for (head, kept) in [("", 1998), ("a", 1999), ("aa", 2000), ("aaa", 1998)] {
            let whole = head + String(repeating: "▁", count: 1000)
            let cut = RPCError.cut(whole)
            #expect(cut.utf8.count == kept + 3)
            #expect(whole.hasPrefix(cut.dropLast()))
        }
    }

    @Test("what is encoded is decoded, absent and zero told apart")
    func roundTrip() throws {
        var random = SeededGenerator(3)
        for _ in 0..<2000 {
            let request = generate(&random)
            #expect(try GenerateRequest(decoding: request.encoded()) == request)
        }
        var response = GenerateResponse()
        response.started = Started()
        response.text = "x\0y"
        response.tokens = [0, .max]
        response.logprobs = [TokenLogprobs()]
        var finished = Finished()
        finished.reason = .deadline
        finished.usage = Usage()
        response.finished = finished
        #expect(try GenerateResponse(decoding: response.encoded()) == response)
        var embed = EmbedResponse()
        var vector = Embedding()
        vector.values = [1.5, -0.0, .infinity]
        vector.dimensions = 3
        embed.embeddings = [vector, Embedding()]
        #expect(try EmbedResponse(decoding: embed.encoded()) == embed)
        #expect(try StatusResponse(decoding: []) == StatusResponse())
    }

    @Test("the bytes are protobuf's own")
    func bytes() throws {
        var request = TokenizeRequest()
        request.model = "m"
        request.text = "hé"
        request.addBOS = true
        // Field 1, string; field 2, bytes; field 3, varint.
        #expect(request.encoded() == [0x0a, 1, 0x6d, 0x12, 3, 0x68, 0xc3, 0xa9, 0x18, 1])
    }

    @Test("NUL in a string field is refused by its name, never cut; text fields hold it")
    func nul() throws {
        // "demo", NUL, "x"
        let name: [UInt8] = [0x64, 0x65, 0x6d, 0x6f, 0, 0x78]
        #expect(throws: WireError.nul("model")) {
            try GenerateRequest(decoding: [0x0a, 6] + name)
        }
        #expect(throws: WireError.nul("model")) { try GenerateRequest(decoding: [0x0a, 1, 0]) }
        #expect(throws: WireError.nul("service")) { try Request(decoding: [0x0a, 6] + name) }
        #expect(throws: WireError.nul("method")) { try Request(decoding: [0x12, 6] + name) }
        #expect(throws: WireError.nul("added")) { try ReloadResponse(decoding: [0x0a, 6] + name) }
        #expect(try GenerateRequest(decoding: [0x12, 6] + name).prompt == .text("demo\0x"))
        // The last of several counts, as everywhere in protobuf.
        #expect(try GenerateRequest(decoding: [0x0a, 1, 0, 0x0a, 1, 0x61]).model == "a")
        #expect(try GenerateRequest(decoding: [0x0a, 1, 0x61, 0x0a, 0]).model == "")
        // Nor is it cut on the way out: the receiver sees a name that nothing has.
        let sent = GenerateRequest(model: "demo\0x")
        #expect(try GenerateRequest(decoding: sent.encoded()).model == "demo\u{FFFD}x")
    }

    @Test("an answer's enum keeps a value of a later version; a request's is refused by name")
    func enums() throws {
        // Field 1, varint 9; then −1, which is ten bytes.
        #expect(try Finished(decoding: [8, 9]).reason == .unrecognized(9))
        let minusOne: [UInt8] = [8] + [UInt8](repeating: 0xff, count: 9) + [1]
        #expect(try Finished(decoding: minusOne).reason == .unrecognized(-1))
        #expect(try HealthCheckResponse(decoding: [8, 77]).status == .unrecognized(77))
        let kept = Finished(reason: .unrecognized(9))
        #expect(kept.encoded() == [8, 9])
        for reason in [FinishReason.unspecified, .stop, .length, .cancelled, .deadline] {
            #expect(try Finished(decoding: Finished(reason: reason).encoded()).reason == reason)
        }
        #expect(throws: WireError.unknownEnum("pooling", 9)) {
            try EmbedRequest(decoding: [0x18, 9])
        }
    }

    @Test("text that is not UTF-8 and values no enum has are refused by their fields")
    func wrong() {
        #expect(throws: WireError.notUTF8("text")) {
            try TokenizeRequest(decoding: [0x12, 2, 0xc3, 0x28])
        }
        #expect(throws: WireError.notUTF8("model")) {
            try TokenizeRequest(decoding: [0x0a, 1, 0xff])
        }
        #expect(throws: WireError.unknownEnum("pooling", 9)) {
            try EmbedRequest(decoding: [0x18, 9])
        }
        #expect(throws: WireError.malformed("TokenizeRequest")) {
            try TokenizeRequest(decoding: [0x0a, 5, 1])
        }
    }

    @Test("a message that would take more memory than its budget is refused")
    func budget() throws {
        // Empty submessages: two bytes each on the wire, far more in memory.
        let bytes = [UInt8](repeating: 0, count: 200_000).enumerated().map {
            UInt8($0.offset % 2 == 0 ? 0x12 : 0)
        }
        #expect(throws: WireError.tooLarge("EmbedRequest", 1 << 20)) {
            try EmbedRequest(decoding: bytes, budget: 1 << 20)
        }
        #expect(throws: WireError.tooLarge("EmbedRequest", 16 * 200_000 + 1 << 20)) {
            try EmbedRequest(decoding: bytes)
        }
        #expect(try EmbedRequest(decoding: bytes, budget: 16 << 20).input.count == 100_000)
    }

    @Test("the largest honest messages fit the default budget of 16 n + 1 MiB")
    func honest() throws {
        // One byte each on the wire, four in memory.
        let ids = GenerateRequest(prompt: .tokens([UInt32](repeating: 1, count: 4_000_000)))
        #expect(try GenerateRequest(decoding: ids.encoded()) == ids)
        let pieces = TokenizeResponse(
            tokens: [UInt32](repeating: 7, count: 800_000),
            pieces: [String](repeating: "ab", count: 800_000))
        #expect(try TokenizeResponse(decoding: pieces.encoded()) == pieces)
        let row = TokenLogprobs(
            chosen: TokenLogprob(token: 1, logprob: -1, text: [97]),
            top: [TokenLogprob](
                repeating: TokenLogprob(token: 1, logprob: -1, text: [97]), count: 5))
        let logprobs = GenerateResponse(logprobs: [TokenLogprobs](repeating: row, count: 40_000))
        #expect(try GenerateResponse(decoding: logprobs.encoded()) == logprobs)
        let inputs = EmbedRequest(
            input: [EmbedInput](repeating: EmbedInput(input: .text("a")), count: 256))
        #expect(try EmbedRequest(decoding: inputs.encoded()) == inputs)
    }

    @Test("30,000 changed messages are decoded or refused, never worse")
    func mutations() {
        var random = SeededGenerator(4)
        for _ in 0..<30_000 {
            var bytes = generate(&random).encoded()
            guard !bytes.isEmpty else { continue }
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let at = bytes.indices.randomElement(using: &random)!
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: bytes[at] = 0xff
                default: bytes.insert(.random(in: 0...255, using: &random), at: at)
                }
            }
            // What it throws is typed: the point is that it returns.
            _ = try? GenerateRequest(decoding: bytes)
        }
    }

    @Test(
        "what cannot be decoded is refused with its field; memory that ran out is told apart"
    )
    func refusals() {
        for error in [WireError.notUTF8("model"), .nul("model"), .unknownEnum("model", 9)] {
            let refusal = RPCError(error)
            #expect(refusal.code == .invalidArgument)
            #expect(refusal.violations.map(\.field) == ["model"])
        }
        #expect(RPCError(.malformed("Request")).code == .invalidArgument)
        let memory = RPCError(.outOfMemory("Request"))
        #expect(memory.code == .resourceExhausted && memory.retryAfter == 1_000_000_000)
    }

    @Test("an error's details survive the wire")
    func details() throws {
        var error = RPCError.invalid("top_p", "2 is too much").retrying(after: 1_500_000_001)
        error.quota = .init(field: "uid:5", description: "full")
        #expect(RPCError(try Status(decoding: error.status.encoded())) == error)
        #expect(RPCCode.deadlineExceeded.name == "DEADLINE_EXCEEDED")
        #expect(RPCCode.ok.name == "OK")
    }

    @Test("an error that repeats what a caller sent is short, one endless letter included")
    func cutErrors() throws {
        for sent in [
            String(repeating: "é", count: 5000), "e" + String(repeating: "\u{301}", count: 100_000),
        ] {
            let error = RPCError.invalid("model", sent)
            #expect(error.status.message.utf8.count < 2100)
            #expect(error.status.encoded().count < 6000)
            #expect(error.status.message.hasPrefix("model: "))
        }
    }
}
