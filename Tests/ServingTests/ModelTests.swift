// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import RPC
import Serving
import SystemPackage
import TestSupport
import Testing

@Suite("Models come and go", .fewAtOnce, .bounded)
struct ModelTests {
    private func named(_ name: String, count: Int = 12) -> GenerateRequest {
        var request = GenerateRequest("abc", count: count)
        request.model = name
        return request
    }

    @Test("a request goes to the model it names; two models answer differently")
    func named() async throws {
        try await withDaemon(["one": 1, "two": 2]) { daemon in
            try await daemon.withClient { inference, _ in
                let one = try await inference.collect(named("one"))
                let two = try await inference.collect(named("two"))
                #expect(one.started?.model == "one")
                #expect(one.started?.modelDigest != two.started?.modelDigest)
                #expect(one.tokens != two.tokens)
            }
        }
    }

    @Test("asked to, all models are read into memory beforehand, unless that is stopped")
    func prepared() async throws {
        var configuration = ServingConfiguration.testing
        try await withDaemon(["one": 1, "two": 2], configuration) { daemon in
            daemon.service.catalog.prepareAll { name, _, _ in
                Issue.record("\(name) is read unasked")
                return true
            }
        }
        configuration.prefault = true
        try await withDaemon(["one": 1, "two": 2], configuration) { daemon in
            var steps: [String] = []
            daemon.service.catalog.prepareAll { name, done, all in
                steps.append("\(name) \(done == all)")
                return true
            }
            #expect(steps == ["one true", "two true"])
            daemon.service.catalog.prepareAll { name, _, _ in
                Issue.record("\(name) is read twice")
                return true
            }
        }
        try await withDaemon(["one": 1, "two": 2], configuration) { daemon in
            var asked = 0
            daemon.service.catalog.prepareAll { _, _, _ in
                asked += 1
                return false
            }
            #expect(asked == 1)
        }
    }

    @Test("a model that there is no memory to run is refused by name, and the daemon lives on")
    func noMemory() async throws {
        var configuration = ServingConfiguration.testing
        configuration.prefillChunk = 1 << 44
        try await withDaemon(["one": 1], configuration) { daemon in
            try await daemon.withClient { inference, control in
                for _ in 1...2 {
                    let error = try await refusal { _ = try await inference.collect(named("one")) }
                    #expect(error?.code == .resourceExhausted)
                    #expect(error?.reason == "NO_MEMORY")
                    #expect(error?.message.contains("model 'one' cannot be run") == true)
                }
                let status = try await control.status()
                #expect(status.active == 0)
                #expect(status.queued == 0)
            }
        }
    }

    @Test("no name: the default if there is one, else the question which")
    func unnamed() async throws {
        try await withDaemon(["one": 1, "two": 2]) { daemon in
            try await daemon.withClient { inference, _ in
                let error = try await refusal { _ = try await inference.collect(named("")) }
                #expect(error?.code == .invalidArgument)
                #expect(error?.violations.first?.field == "model")
                #expect(error?.message.contains("one, two") == true)
            }
        }
        var configuration = ServingConfiguration.testing
        configuration.defaultModel = "two"
        try await withDaemon(["one": 1, "two": 2], configuration) { daemon in
            try await daemon.withClient { inference, _ in
                let answer = try await inference.collect(named(""))
                #expect(answer.started?.model == "two")
            }
        }
    }

    @Test("an unknown name is not found, and the answer lists the known ones")
    func unknown() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, control in
                let error = try await refusal { _ = try await inference.collect(named("nope")) }
                #expect(error?.code == .notFound)
                #expect(error?.message.contains("tiny") == true)
                #expect(try await control.health(of: "nope") == .serviceUnknown)
                #expect(try await control.health(of: "tiny") == .serving)
                #expect(try await control.health() == .serving)
            }
        }
    }

    @Test("a damaged model is refused with the reason, and the good one beside it is served")
    func damaged() async throws {
        try await withDaemon(["good": 1, "short": 2]) { daemon in
            let path = model("short", in: daemon.directory).string
            #expect(truncate(path, 5000) == 0)
            try [UInt8]("not a model".utf8).withUnsafeBytes { bytes in
                let file = try FileDescriptor.open(
                    model("junk", in: daemon.directory), .writeOnly, options: .create,
                    permissions: .ownerReadWrite)
                try file.closeAfter { _ = try file.writeAll(bytes) }
            }
            try await daemon.withClient { inference, control in
                _ = try await control.reload()
                for name in ["short", "junk"] {
                    let error = try await refusal { _ = try await inference.collect(named(name)) }
                    #expect(error?.code == .dataLoss, "\(name)")
                    #expect(error?.message.contains(name) == true)
                }
                #expect(try await inference.collect(named("good")).tokens.count == 12)
                let states = try await control.models().map { "\($0.name) \($0.state)" }
                #expect(states == ["good mapped", "junk refused", "short refused"])
            }
        }
    }

    @Test("a damaged model that is repaired is served, without a reload")
    func repaired() async throws {
        try await withDaemon { daemon in
            let path = model("tiny", in: daemon.directory)
            #expect(truncate(path.string, 5000) == 0)
            try await daemon.withClient { inference, _ in
                let error = try await refusal { _ = try await inference.collect(named("tiny")) }
                #expect(error?.code == .dataLoss)
                try TinyModel.write(to: path, replacing: true)
                #expect(try await inference.collect(named("tiny")).tokens.count == 12)
            }
        }
    }

    @Test("after a reload new requests get the new file; one under way ends on its old one")
    func replaced() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, control in
                let reference = try await inference.collect(named("tiny", count: 1500))
                var old = GenerateResponse()
                var new: GenerateResponse?
                for try await part in inference.generate(named("tiny", count: 1500)) {
                    old.merge(part)
                    guard new == nil, old.tokens.count >= 5 else { continue }
                    let path = model("tiny", in: daemon.directory)
                    try TinyModel.write(to: path, seed: 2, replacing: true)
                    #expect(try await control.reload().replaced == ["tiny"])
                    new = try await inference.collect(named("tiny"))
                }
                #expect(old.tokens == reference.tokens)
                #expect(new?.started?.modelDigest != old.started?.modelDigest)
                #expect(new?.tokens != Array(old.tokens.prefix(12)))
            }
        }
    }

    @Test("a model copied in is found by its name, and a removed one is gone after a reload")
    func comesAndGoes() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, control in
                try TinyModel.write(to: model("late", in: daemon.directory), seed: 3)
                #expect(try await control.reload().added == ["late"])
                #expect(try await inference.collect(named("late")).tokens.count == 12)
                unlink(model("late", in: daemon.directory).string)
                #expect(try await control.reload().removed == ["late"])
                let error = try await refusal { _ = try await inference.collect(named("late")) }
                #expect(error?.code == .notFound)
            }
        }
    }

    @Test("without a tokenizer a model takes and gives token ids only")
    func noTokenizer() async throws {
        try await withDaemon([:]) { daemon in
            let path = model("ids", in: daemon.directory)
            try TinyModel.write(to: path, hasTokenizer: false)
            _ = daemon.service.reload()
            try await daemon.withClient { inference, _ in
                var request = named("ids")
                let error = try await refusal { _ = try await inference.collect(request) }
                #expect(error?.code == .failedPrecondition)
                #expect(error?.message.contains("token ids only") == true)
                request.prompt = .tokens([5, 6, 7])
                let answer = try await inference.collect(request)
                #expect(answer.tokens.count == 12)
                #expect(answer.text.isEmpty)
            }
        }
    }
}
