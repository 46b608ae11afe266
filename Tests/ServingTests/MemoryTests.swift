// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import RPC
import SystemPackage
import TestSupport
import Testing

@testable import Serving

@Suite("Models are in memory as the administrator wants", .fewAtOnce, .bounded)
struct MemoryTests {
    private func model(_ control: ControlClient, _ name: String = "tiny") async throws -> ModelInfo
    {
        try #require(try await control.models().first { $0.name == name })
    }

    @Test("what is loaded is resident, and so is the version that comes after it")
    func loaded() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, control in
                let answer = try await control.load("", pin: false)
                #expect(answer.model == "tiny")
                let before = try await model(control)
                #expect(before.memory == "loaded" && before.state == "mapped")
                #expect(before.residentBytes == (before.fileBytes + 4095) / 4096 * 4096)
                #expect(before.cachedBytes == before.fileBytes)
                #expect(try #require(before.shareBytes) > 0)
                let path = TestSupport.model("tiny", in: daemon.directory)
                let identity = try FileIdentity(path: path)
                #expect((before.device, before.inode) == (identity.device, identity.inode))
                try TinyModel.write(to: path, seed: 2, replacing: true)
                _ = try await control.reload()
                try await eventually {
                    let now = try await model(control)
                    return now.digest != before.digest && now.memory == "loaded"
                        && now.residentBytes == before.residentBytes
                }
            }
        }
    }

    @Test("what is pinned is locked; unloading takes it back, and the next request maps it again")
    func unloaded() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, control in
                let answer = try await control.load("tiny", pin: true)
                #expect(answer.bytes > 0)
                #expect(try await model(control).memory == "pinned")
                if getenv("ASAN_OPTIONS") == nil, getenv("TSAN_OPTIONS") == nil {
                    // Under a sanitizer the system's calls that lock memory do nothing.
                    #expect(try locked() >= answer.bytes)
                }
                try await control.unload("tiny")
                try await eventually { daemon.service.catalog.versions(of: "tiny") == 0 }
                let listed = try await model(control)
                #expect(listed.state == "unloaded" && listed.memory == "")
                #expect(listed.fileBytes == answer.bytes && listed.residentBytes == nil)
                _ = try await inference.collect(GenerateRequest("abc", count: 2))
                #expect(try await model(control).state == "mapped")
            }
        }
    }

    /// VmLck of this process. Bytes.
    private func locked() throws -> UInt64 {
        let status = String(decoding: try bytes(of: "/proc/self/status"), as: UTF8.self)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmLck:") }
        return (line?.split(separator: " ").dropFirst().first).flatMap { UInt64($0) }.map {
            $0 << 10
        } ?? 0
    }

    @Test("an answer under way goes on while its model is unloaded")
    func underWay() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, control in
                let alone = try await inference.collect(GenerateRequest("abc", count: 3000)).tokens
                async let answer = inference.collect(GenerateRequest("abc", count: 3000)).tokens
                try await daemon.wait(active: 1)
                try await control.unload("tiny")
                #expect(try await answer == alone)
            }
        }
    }

    @Test("models that there are not are named", arguments: ["load", "unload"])
    func refused(_ verb: String) async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { _, control in
                let error = try await refusal {
                    if verb == "load" {
                        _ = try await control.load("none", pin: false)
                    } else {
                        try await control.unload("none")
                    }
                }
                #expect(error?.code == .notFound && error?.reason == "NO_SUCH_MODEL")
            }
        }
    }

    @Test("pages of a model that nobody uses are given back, and read again when somebody does")
    func idle() async throws {
        var configuration = ServingConfiguration.testing
        (configuration.idleMemory, configuration.idleMemoryAfter) = (.drop, 50_000_000)
        configuration.verification = .skip
        try await withDaemon(["tiny": 1], configuration) { daemon in
            try await daemon.withClient { inference, control in
                let first = try await inference.collect(GenerateRequest("abc", count: 20)).tokens
                try await eventually { try await model(control).residentBytes == 0 }
                let second = try await inference.collect(GenerateRequest("abc", count: 20)).tokens
                #expect(second == first)
                // What is to be in memory stays there.
                _ = try await control.load("", pin: false)
                _ = try await inference.collect(GenerateRequest("abc", count: 20))
                #expect(try await model(control).residentBytes != 0)
            }
        }
    }
}
