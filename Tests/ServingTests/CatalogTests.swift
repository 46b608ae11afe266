// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import Logging
import ModelStore
import RPC
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Serving

/// A gate that files are held at while they are opened.
private final class Gate: Sendable {
    private let isOpen = Atomic<Bool>(false)
    private let waiting = Atomic<Int>(0)

    var arrivals: Int { waiting.load(ordering: .sequentiallyConsistent) }
    func open() { isOpen.store(true, ordering: .sequentiallyConsistent) }
    func pass() {
        waiting.add(1, ordering: .sequentiallyConsistent)
        while !isOpen.load(ordering: .sequentiallyConsistent) { usleep(1000) }
    }
}

final class Flag: Sendable {
    private let flag = Atomic<Bool>(false)

    var isSet: Bool { flag.load(ordering: .relaxed) }
    func set() { flag.store(true, ordering: .relaxed) }
}

@Suite("While a file is slow to open", .fewAtOnce, .bounded)
struct SlowFileTests {
    /// A daemon whose file "slow" is opened when the gate is.
    private func withSlowDaemon(_ body: (Daemon, Gate) async throws -> Void) async throws {
        let gate = Gate()
        let opener: ModelCatalog.Opener = { entry, configuration, step in
            if entry.file.name == "slow" { gate.pass() }
            return ModelCatalog.load(entry, configuration, step)
        }
        try await withDaemon(["slow": 1, "quick": 2], opener: opener) { daemon in
            defer { gate.open() }
            try await body(daemon, gate)
        }
    }

    private func request(_ name: String, count: Int = 12) -> GenerateRequest {
        var request = GenerateRequest("abc", count: count)
        request.model = name
        return request
    }

    @Test(
        "control calls, and requests for models that are mapped, are answered; then the waiting ones are"
    )
    func control() async throws {
        try await withSlowDaemon { daemon, gate in
            try await daemon.withClient { inference, control in
                let quick = try await inference.collect(request("quick"))
                try await withThrowingTaskGroup(of: [UInt32].self) { group in
                    // More than there are threads for handlers.
                    for _ in 0..<12 {
                        group.addTask { try await inference.collect(request("slow")).tokens }
                    }
                    try await eventually { gate.arrivals == 1 }
                    #expect(try await control.status().state == "serving")
                    #expect(try await control.info().threads == 2)
                    #expect(try await control.reload().added.isEmpty)
                    #expect(try await control.health(of: "slow") == .notServing)
                    #expect(try await control.health(of: "quick") == .serving)
                    let states = try await control.models().map { "\($0.name) \($0.state)" }
                    #expect(states == ["quick mapped", "slow opening"])
                    let error = try await refusal { _ = try await inference.cancel("nobody") }
                    #expect(error?.code == .notFound)
                    #expect(try await inference.collect(request("quick")).tokens == quick.tokens)
                    gate.open()
                    let answers = try await group.reduce(into: []) { $0.append($1) }
                    #expect(answers.count == 12)
                    #expect(Set(answers).count == 1)
                }
            }
        }
    }

    @Test("stopping does not wait for it, and refuses what waits")
    func stopping() async throws {
        try await withSlowDaemon { daemon, gate in
            try await daemon.withClient { inference, _ in
                async let refused = refusal { _ = try await inference.collect(request("slow")) }
                try await eventually { gate.arrivals == 1 }
                await daemon.drain(limit: .seconds(60))
                #expect(try await refused?.code == .unavailable)
                #expect(try await refused?.reason == "DRAINING")
            }
        }
    }

    @Test("a request's deadline counts")
    func deadline() async throws {
        try await withSlowDaemon { daemon, gate in
            try await daemon.withClient { inference, _ in
                async let first = inference.collect(request("slow"))
                try await eventually { gate.arrivals == 1 }
                try await daemon.withClient(timeout: 50_000_000) { other, _ in
                    let error = try await refusal { _ = try await other.collect(request("slow")) }
                    #expect(error?.code == .deadlineExceeded)
                }
                gate.open()
                #expect(try await first.tokens.count == 12)
            }
        }
    }
}

@Suite("A model served while its file changes", .fewAtOnce, .bounded)
struct SwapTests {
    private func collect(_ inference: InferenceClient, _ count: Int = 12) async throws
        -> (digest: String?, tokens: [UInt32])
    {
        let answer = try await inference.collect(GenerateRequest("abc", count: count))
        return (answer.started?.modelDigest, answer.tokens)
    }

    @Test("a file written over in place: the next request gets the new digest with the new answers")
    func copiedOver() async throws {
        try await withDaemon { daemon in
            let path = model("tiny", in: daemon.directory)
            let other = FilePath(path.string + ".other")
            try TinyModel.write(to: other, seed: 2)
            defer { unlink(other.string) }
            try await daemon.withClient { inference, _ in
                let before = try await collect(inference)
                try copy(other, over: path)
                let after = try await collect(inference)
                #expect(after.digest != before.digest)
                #expect(after.tokens != before.tokens)
                try TinyModel.write(to: path, seed: 2, replacing: true)
                let fresh = try await collect(inference)
                #expect(fresh.digest == after.digest && fresh.tokens == after.tokens)
            }
        }
    }

    @Test("after a hundred replacements under load one version is mapped, and no deleted file")
    func swaps() async throws {
        try await withDaemon { daemon in
            let path = model("tiny", in: daemon.directory)
            let answers: [[UInt32]] = [try await daemon.answer(), try await daemon.answer(seed: 2)]
            let isDone = Flag()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        try await daemon.withClient { inference, control in
                            while !isDone.isSet {
                                let answer = try await collect(inference)
                                #expect(answers.contains { $0 == answer.tokens })
                                _ = try await control.reload()
                            }
                        }
                    }
                }
                for round in 0..<100 {
                    try TinyModel.write(to: path, seed: UInt64(round % 2 + 1), replacing: true)
                    let begun = daemon.service.server.callsBegun
                    try await eventually { daemon.service.server.callsBegun > begun }
                }
                isDone.set()
                try await group.waitForAll()
            }
            try await daemon.withClient { inference, _ in _ = try await collect(inference) }
            try await eventually { daemon.service.catalog.versions(of: "tiny") == 1 }
            try await eventually { try deletedMappings(under: daemon.directory) == 0 }
        }
    }

    /// Mappings of files that have lost their names.
    private func deletedMappings(under directory: FilePath) throws -> Int {
        let maps = String(decoding: try bytes(of: "/proc/self/maps"), as: UTF8.self)
        return maps.split(separator: "\n").count {
            $0.contains(directory.string) && $0.hasSuffix("(deleted)")
        }
    }

    @Test(
        "bytes that are not what the digests tell are found in the background; then the model is refused"
    )
    func bitRot() async throws {
        try await withDaemon { daemon in
            let path = model("tiny", in: daemon.directory)
            var rotten = try bytes(of: path)
            rotten[rotten.count - 1] ^= 1
            try write(rotten, to: path)
            try await daemon.withClient { inference, control in
                // It may be served until it has been looked at.
                try await eventually {
                    try await refusal { _ = try await collect(inference) }?.code == .dataLoss
                }
                let listed = try await control.models()
                #expect(listed.map(\.state) == ["refused"])
                #expect(listed[0].error.contains("SHA-256"))
            }
        }
    }

    @Test("digests are not compared where the settings say so")
    func unverified() async throws {
        var configuration = ServingConfiguration.testing
        configuration.verification = .skip
        try await withDaemon(["tiny": 1], configuration) { daemon in
            let path = model("tiny", in: daemon.directory)
            var rotten = try bytes(of: path)
            rotten[rotten.count - 1] ^= 1
            try write(rotten, to: path)
            try await daemon.withClient { inference, _ in
                for _ in 0..<5 { _ = try await collect(inference, 50) }
            }
        }
    }

    @Test("a file put into the directory is found by the next request that names it, however soon")
    func added() async throws {
        try await withDaemon(["tiny": 1]) { daemon in
            try await daemon.withClient { inference, _ in
                let file = try bytes(of: model("tiny", in: daemon.directory))
                for number in 0..<20 {
                    let name = "new\(number)"
                    let request = GenerateRequest("a", count: 1).with(model: name)
                    let error = try await refusal { _ = try await inference.collect(request) }
                    #expect(error?.code == .notFound)
                    try write(file, to: model(name, in: daemon.directory))
                    #expect(try await inference.collect(request).started?.model == name)
                }
            }
        }
    }

    @Test("the default may be set anew while the daemon runs")
    func newDefault() async throws {
        try await withDaemon(["one": 1, "two": 2]) { daemon in
            try await daemon.withClient { inference, control in
                let error = try await refusal { _ = try await collect(inference) }
                #expect(error?.code == .invalidArgument)
                daemon.service.catalog.setDefault("two")
                #expect(
                    try await inference.collect(GenerateRequest("a", count: 2)).started?.model
                        == "two")
                #expect(try await control.models().map(\.isDefault) == [false, true])
                daemon.service.catalog.setDefault(nil)
                #expect(
                    try await refusal { _ = try await collect(inference) }?.code
                        == .invalidArgument)
            }
        }
    }
}

extension GenerateRequest {
    fileprivate func with(model: String) -> Self {
        var request = self
        request.model = model
        return request
    }
}

extension Daemon {
    /// What the tiny model of `seed` answers, from a daemon of its own.
    fileprivate func answer(seed: UInt64 = 1) async throws -> [UInt32] {
        try await withDaemon(["tiny": seed]) { daemon in
            try await daemon.withClient { inference, _ in
                try await inference.collect(GenerateRequest("abc", count: 12)).tokens
            }
        }
    }
}
