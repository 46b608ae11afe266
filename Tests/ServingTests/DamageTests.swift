// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import ModelStore
import RPC
import Serving
import SystemPackage
import TestSupport
import Testing

/// What is done to a file that is being served. All of it is forbidden by the manual and happens every day.
enum Harm: String, CaseIterable, CustomTestStringConvertible {
    /// `truncate -s 5000`
    case cut
    /// `: > FILE`
    case emptied
    /// `cp OTHER FILE`, of another model in the same format: as long, or nearly.
    case copiedOver

    var testDescription: String { rawValue }

    func inflict(on path: FilePath) throws {
        switch self {
        case .cut: #expect(truncate(path.string, 5000) == 0)
        case .emptied: #expect(truncate(path.string, 0) == 0)
        case .copiedOver:
            let other = FilePath(path.string + ".other")
            try TinyModel.write(to: other, seed: 9)
            defer { unlink(other.string) }
            try copy(other, over: path)
        }
    }
}

/// `cp`: into the file that is there.
func copy(_ source: FilePath, over path: FilePath) throws {
    let (from, to) = (
        try FileDescriptor.open(source, .readOnly),
        try FileDescriptor.open(path, .writeOnly, options: .truncate)
    )
    defer {
        try? from.close()
        try? to.close()
    }
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = try buffer.withUnsafeMutableBytes { try from.read(into: $0) }
        if count == 0 { return }
        try to.writeAll(buffer[..<count])
    }
}

@Suite("A served file that is cut short or written over", .fewAtOnce, .bounded)
struct DamageTests {
    private func request(_ name: String, _ count: Int) -> GenerateRequest {
        var request = GenerateRequest("abc", count: count)
        request.model = name
        return request
    }

    @Test(
        "ends its own requests with DATA_LOSS naming the model; another model's answer is what it is undisturbed",
        arguments: Harm.allCases)
    func decoding(_ harm: Harm) async throws {
        try await withDaemon(["torn": 1, "whole": 2]) { daemon in
            try await daemon.withClient { inference, _ in
                let reference = try await inference.collect(request("whole", 3000))
                async let beside = inference.collect(request("whole", 3000))
                var tokens = 0
                let error = try await refusal {
                    for try await part in inference.generate(request("torn", 60000)) {
                        if tokens < 5, tokens + part.tokens.count >= 5 {
                            try harm.inflict(on: model("torn", in: daemon.directory))
                        }
                        tokens += part.tokens.count
                    }
                }
                #expect(error?.code == .dataLoss)
                #expect(error?.reason == "MODEL_DAMAGED")
                #expect(error?.message.contains("torn") == true)
                #expect(tokens < 60000)
                #expect(try await beside.tokens == reference.tokens)
            }
        }
    }

    @Test(
        "a model whose results overflow ends its requests with DATA_LOSS naming it; a vector may not overflow either"
    )
    func overflow() async throws {
        try await withDaemon { daemon in
            try TinyModel.write(to: model("huge", in: daemon.directory), scale: 3e38)
            try await daemon.withClient { inference, _ in
                let error = try await refusal {
                    _ = try await inference.collect(request("huge", 5))
                }
                #expect(error?.code == .dataLoss)
                #expect(error?.message.contains("model 'huge'") == true)
                #expect(error?.message.contains("not finite") == true)
                #expect(try await inference.collect(request("tiny", 5)).tokens.count == 5)
            }
        }
        for value in [Float.nan, .infinity] {
            var vector = PooledVector(.mean)
            [1, value].withUnsafeBufferPointer { vector.add($0) }
            let isFinite = vector.finish(normalizes: true)
            #expect(!isFinite)
        }
    }

    @Test(
        "leaves its sessions at their last complete turn: refused by name meanwhile, and with the same bits when the file is back"
    )
    func session() async throws {
        try await withDaemon(["torn": 1]) { daemon in
            let client = try await daemon.connect()
            let (inference, sessions) = (InferenceClient(client), SessionClient(client: client))
            let id = try await sessions.create().session
            _ = try await inference.collect(GenerateRequest("once", in: id))
            try await eventually {
                try await ControlClient(client).models().first?.digestCheck == .passed
            }
            let state = try await sessions.save(id)
            let path = model("torn", in: daemon.directory)
            let whole = try bytes(of: path)
            var endless = GenerateRequest.endless
            endless.session = id
            var tokens = 0
            let error = try await refusal { [endless] in
                for try await part in inference.generate(endless) {
                    if tokens < 5, tokens + part.tokens.count >= 5 {
                        try Harm.copiedOver.inflict(on: path)
                    }
                    tokens += part.tokens.count
                }
            }
            #expect(error?.reason == "MODEL_DAMAGED")
            let refused = try await refusal {
                _ = try await inference.collect(GenerateRequest("more", in: id))
            }
            #expect([.dataLoss, .notFound, .failedPrecondition].contains(refused?.code))
            try write(whole, to: path)
            try await eventually { () async throws -> Bool in
                try await refusal {
                    _ = try await inference.tokenize(TokenizeRequest(text: "a"))
                } == nil
            }
            #expect(try await sessions.save(id) == state)
            let restored = try await sessions.restore(.init(state: state)).session
            let a = try await inference.collect(GenerateRequest("more", in: id))
            let b = try await inference.collect(GenerateRequest("more", in: restored))
            #expect(a.tokens == b.tokens && a.logprobs == b.logprobs)
            await client.close()
        }
    }

    @Test("ends requests that read their prompt, and Embed, the same way", arguments: Harm.allCases)
    func reading(_ harm: Harm) async throws {
        var configuration = ServingConfiguration.testing
        configuration.prefillChunk = 1
        try await withDaemon(["torn": 1], configuration) { daemon in
            try await daemon.withClient { inference, _ in
                var prompt = request("torn", 1)
                prompt.prompt = .tokens([UInt32](repeating: 300, count: 50_000))
                var embed = EmbedRequest()
                var input = EmbedInput()
                input.input = prompt.prompt
                embed.input = [input]
                async let prefill = refusal { _ = try await inference.collect(prompt) }
                async let vector = refusal { for try await _ in inference.embed(embed) {} }
                try await daemon.wait(active: 2)
                try harm.inflict(on: model("torn", in: daemon.directory))
                let errors = [try await prefill, try await vector]
                #expect(errors.map { $0?.code } == [.dataLoss, .dataLoss])
            }
        }
    }
}
