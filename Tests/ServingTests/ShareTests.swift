// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import ModelStore
import SystemPackage
import TestSupport
import Testing

@testable import RPC
@testable import Serving

extension Daemon {
    var shareSocket: String { directory.appending("share.sock").string }
}

/// Serves `models`, and shares them, for as long as `body` runs.
private func withSharing(
    _ models: [String: UInt64] = ["tiny": 1], _ configuration: ServingConfiguration = .testing,
    opener: @escaping ModelCatalog.Opener = ModelCatalog.load,
    _ body: (Daemon) async throws -> Void
) async throws {
    try await withDaemon(models, configuration, opener: opener) { daemon in
        try daemon.service.share.listen(on: .path(daemon.shareSocket, mode: 0o600))
        try await body(daemon)
    }
}

extension RawShareSocket {
    fileprivate func ask(_ model: String = "", digest: String = "") throws -> (
        ShareResponse, FileDescriptor
    ) {
        send(ShareRequest(model: model, digest: digest).encoded())
        let (bytes, descriptor) = try receive()
        guard let descriptor else { throw RPCError(try Status(decoding: bytes)) }
        return (try ShareResponse(decoding: bytes), descriptor)
    }

    fileprivate func refusal(_ model: String = "", digest: String = "") -> RPCError? {
        do {
            try ask(model, digest: digest).1.close()
            return nil
        } catch { return error as? RPCError }
    }
}

@Suite("Sharing models", .timeLimit(.minutes(10)))
struct ShareTests {
    @Test(
        "the descriptor is of the file the daemon has mapped, and a model bound to it gives the same bits"
    )
    func sameFile() async throws {
        try await withSharing { daemon in
            let (response, file) = try RawShareSocket(daemon.shareSocket).ask("tiny")
            let path = model("tiny", in: daemon.directory)
            let mapped = try MappedFile(descriptor: file, path: "shared")
            let served = try FileIdentity(path: path)
            #expect(mapped.identity == served)
            let shared = try Model(PackedFile(mapped))
            let own = try daemon.model("tiny")
            #expect(response.name == "tiny")
            #expect(response.digest == own.digest)
            #expect(shared.digest == own.digest)
            #expect(Int(response.fileBytes) == own.file.byteCount)
            #expect(response.formatVersion >= 1)
            #expect(response.protection == .plain)
        }
    }

    @Test(
        "a model is found by name, by digest, or as the default; what does not fit together is refused, naming both"
    )
    func choice() async throws {
        try await withSharing(["one": 1, "two": 2]) { daemon in
            let socket = try RawShareSocket(daemon.shareSocket)
            // By a digest nobody has opened a file for yet.
            let digest = try daemon.model("two").digest
            #expect(try socket.ask(digest: digest).0.name == "two")
            #expect(try socket.ask("one").0.name == "one")
            #expect(try socket.ask("two", digest: digest).0.digest == digest)
            let ambiguous = try #require(socket.refusal())
            #expect(ambiguous.code == .invalidArgument)
            daemon.service.catalog.setDefault("one")
            #expect(try socket.ask().0.name == "one")
            let mismatch = try #require(socket.refusal("one", digest: digest))
            #expect(mismatch.code == .failedPrecondition)
            #expect(mismatch.message.contains(digest))
            #expect(mismatch.message.contains(try daemon.model("one").digest))
            let unknown = try #require(socket.refusal("three"))
            #expect(unknown.code == .notFound)
            let absent = try #require(socket.refusal(digest: "abc"))
            #expect(absent.code == .notFound)
            #expect(absent.message.contains("abc") && absent.message.contains(digest))
        }
    }

    @Test("a model that has just been put into the directory is found by its digest")
    func fresh() async throws {
        try await withSharing { daemon in
            let socket = try RawShareSocket(daemon.shareSocket)
            _ = try socket.ask("tiny")
            try TinyModel.write(to: model("later", in: daemon.directory), seed: 5)
            #expect(try socket.ask(digest: try daemon.model("later").digest).0.name == "later")
        }
    }

    @Test(
        "after the file is replaced the next request gets the new one, and who holds the old keeps it"
    )
    func replaced() async throws {
        try await withSharing { daemon in
            let socket = try RawShareSocket(daemon.shareSocket)
            let (before, file) = try socket.ask("tiny")
            let old = try Model(PackedFile(MappedFile(descriptor: file, path: "old")))
            try TinyModel.write(to: model("tiny", in: daemon.directory), seed: 2, replacing: true)
            let (after, other) = try socket.ask("tiny")
            #expect(after.digest != before.digest)
            let new = try Model(PackedFile(MappedFile(descriptor: other, path: "new")))
            #expect(new.digest == after.digest)
            #expect(old.damage == nil)
            try old.file.verify()
        }
    }

    @Test("one that is cut short is not shared any more; the others are")
    func truncated() async throws {
        try await withSharing(["one": 1, "two": 2]) { daemon in
            let socket = try RawShareSocket(daemon.shareSocket)
            _ = try socket.ask("one")
            #expect(truncate(model("one", in: daemon.directory).string, 5000) == 0)
            #expect(socket.refusal("one")?.code == .dataLoss)
            #expect(try socket.ask("two").0.name == "two")
        }
    }

    @Test(
        "a client without rights can neither write, truncate, change the mode nor open it again for writing",
        .enabled(if: getuid() == 0), arguments: [0o640, 0o666] as [mode_t])
    func rights(_ mode: mode_t) async throws {
        try await withSharing { daemon in
            let path = model("tiny", in: daemon.directory)
            #expect(chmod(path.string, mode) == 0)
            let (response, file) = try RawShareSocket(daemon.shareSocket).ask("tiny")
            defer { try? file.close() }
            #expect(response.protection == (mode == 0o640 ? .plain : .sealed))
            let before = try FileIdentity(path: path)
            for attack in [
                "echo x >&0", "echo x >>/proc/self/fd/0", "chmod 666 /proc/self/fd/0",
                "truncate -s 0 /proc/self/fd/0",
                "exec 3<>/proc/self/fd/0",
                "python3 -c 'import os; os.ftruncate(0, 0)'",
                "python3 -c 'import os; os.fchmod(0, 0o666)'",
                "python3 -c 'import fcntl; fcntl.fcntl(0, 1033, 1)'",
                "python3 -c 'import mmap; mmap.mmap(0, 0, access=mmap.ACCESS_WRITE)'",
            ] {
                #expect(try asNobody(attack, input: file) != 0, "\(attack)")
            }
            #expect(
                try asNobody(
                    "python3 -c 'import mmap; assert mmap.mmap(0, 0, access=mmap.ACCESS_READ)[:4] == b\"GGUF\"'",
                    input: file) == 0)
            let after = try FileIdentity(path: path)
            #expect(after == before)
        }
    }

    @Test("a file that others may write is not shared where it is served itself")
    func writable() async throws {
        var configuration = ServingConfiguration.testing
        configuration.untrustedFiles = .allow
        try await withSharing(["tiny": 1], configuration) { daemon in
            let path = model("tiny", in: daemon.directory)
            #expect(chmod(path.string, 0o646) == 0)
            let socket = try RawShareSocket(daemon.shareSocket)
            let error = try #require(socket.refusal("tiny"))
            #expect(error.code == .failedPrecondition)
            #expect(error.reason == "MODEL_UNTRUSTED")
            #expect(error.message.contains(path.string))
            #expect(chmod(path.string, 0o644) == 0)
            #expect(try socket.ask("tiny").0.protection == .plain)
        }
    }

    @Test("one user's requests are limited to 1,000 at once; the refusal says when to come again")
    func rate() async throws {
        try await withSharing { daemon in
            let socket = try RawShareSocket(daemon.shareSocket)
            var (served, refused) = (0, RPCError?.none)
            for _ in 0..<1500 {
                if let error = socket.refusal("tiny") { refused = error } else { served += 1 }
            }
            #expect(served >= 1000)
            let error = try #require(refused)
            #expect(error.code == .resourceExhausted)
            #expect(error.retryAfter.map { (1...5_000_000).contains($0) } == true)
            #expect(error.quota?.field == "uid:\(getuid())")
        }
    }

    @Test(
        "while a model is slow to open, other requests are answered; stopping ends the waiting one")
    func slow() async throws {
        let gate = Flag()
        defer { gate.set() }
        let opener: ModelCatalog.Opener = { entry, configuration, step in
            while entry.file.name == "slow", !gate.isSet { usleep(1000) }
            return ModelCatalog.load(entry, configuration, step)
        }
        try await withSharing(["slow": 1, "quick": 2], opener: opener) { daemon in
            let (first, second, third) = (
                try RawShareSocket(daemon.shareSocket), try RawShareSocket(daemon.shareSocket),
                try RawShareSocket(daemon.shareSocket)
            )
            _ = try second.ask("quick")
            first.send(ShareRequest(model: "slow").encoded())
            third.send(ShareRequest(model: "slow").encoded())
            for _ in 0..<10 { _ = try second.ask("quick") }
            gate.set()
            #expect(try first.receive().descriptor != nil)
            #expect(try third.receive().descriptor != nil)
        }
    }

    @Test("an open connection to either socket keeps the daemon from being idle")
    func idle() async throws {
        try await withSharing { daemon in
            #expect(daemon.service.idleSince != nil)
            let socket = try RawShareSocket(daemon.shareSocket)
            _ = try socket.ask("tiny")
            #expect(daemon.service.idleSince == nil)
            try await daemon.withClient { _, control in _ = try await control.status() }
            #expect(daemon.service.idleSince == nil)
            withExtendedLifetime(socket) {}
        }
    }
}

@Suite("Protection and digests of models", .timeLimit(.minutes(10)))
struct ProtectionTests {
    private func listed(_ daemon: Daemon) async throws -> ModelInfo {
        try await daemon.withClient { _, control in try #require(try await control.models().first) }
    }

    private func corrupt(_ path: FilePath) throws {
        var rotten = try bytes(of: path)
        rotten[rotten.count - 1] ^= 1
        try write(rotten, to: path)
    }

    @Test(
        "digests are compared in the background, before a model is served, or not at all; the list of models tells"
    )
    func checks() async throws {
        for (mode, check) in [(.background, .passed), (.block, .passed), (.skip, .skipped)]
            as [(Verification, DigestCheck)]
        {
            var configuration = ServingConfiguration.testing
            configuration.verification = mode
            try await withDaemon(["tiny": 1], configuration) { daemon in
                try await eventually { try await listed(daemon).digestCheck == check }
                #expect(try await listed(daemon).protection == .plain)
            }
        }
    }

    @Test("with the digests compared first, a broken tensor is never served, and named")
    func block() async throws {
        var configuration = ServingConfiguration.testing
        configuration.verification = .block
        try await withDaemon(["tiny": 1], configuration) { daemon in
            try corrupt(model("tiny", in: daemon.directory))
            try await daemon.withClient { inference, _ in
                let error = try await refusal {
                    _ = try await inference.collect(GenerateRequest("abc", count: 2))
                }
                #expect(error?.code == .dataLoss)
                #expect(error?.message.contains("tensor ") == true)
            }
            #expect(try await listed(daemon).state == "refused")
        }
    }

    @Test(
        "a file that others may write is served from a sealed copy, which its change does not touch; then the new one is"
    )
    func copied() async throws {
        try await withDaemon { daemon in
            let path = model("tiny", in: daemon.directory)
            #expect(chmod(path.string, 0o666) == 0)
            let info = try await listed(daemon)
            #expect(info.protection == .sealed)
            try await daemon.withClient { inference, _ in
                let before = try await inference.collect(GenerateRequest("abc", count: 12))
                try await eventually { try await listed(daemon).digestCheck == .passed }
                try TinyModel.write(to: path, seed: 2, replacing: true)
                let after = try await inference.collect(GenerateRequest("abc", count: 12))
                #expect(before.started?.modelDigest == info.digest)
                #expect(after.started?.modelDigest != info.digest)
            }
            #expect(try await listed(daemon).protection == .plain)
        }
    }

    @Test("or it is refused, by setting, until its permissions are put right")
    func refused() async throws {
        var configuration = ServingConfiguration.testing
        configuration.untrustedFiles = .refuse
        try await withDaemon(["tiny": 1], configuration) { daemon in
            let path = model("tiny", in: daemon.directory)
            #expect(chmod(path.string, 0o666) == 0)
            try await daemon.withClient { inference, _ in
                let error = try await refusal {
                    _ = try await inference.collect(GenerateRequest("abc", count: 2))
                }
                #expect(error?.code == .failedPrecondition)
                #expect(error?.message.contains("may be written by users other") == true)
                #expect(chmod(path.string, 0o644) == 0)
                _ = try await inference.collect(GenerateRequest("abc", count: 2))
            }
        }
    }
}
