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

@Suite("Sessions on disk")
struct SessionDiskTests {
    private let time = Clock()

    private func store(_ directory: FilePath, kept: Int32? = nil) throws -> SessionStore {
        var configuration = ServingConfiguration.testing
        configuration.sessionDirectory = directory.string
        return try SessionStore(
            configuration, accounts: Accounts(), bytes: 1 << 20, kept: kept,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            clock: { [time] in time.now })
    }

    /// Runs `body` with a store, until all it wants on disk is there.
    @discardableResult
    private func with<R>(
        _ directory: FilePath, kept: Int32? = nil, _ body: (SessionStore) throws -> R
    ) throws -> R {
        let store = try store(directory, kept: kept)
        defer { store.close() }
        return try body(store)
    }

    private func create(
        _ store: SessionStore, _ uid: UInt32, _ tokens: [UInt32], ttl: UInt64 = 0
    ) throws -> String {
        try store.create(
            name: "n", model: "tiny", digest: "m", state: state(tokens), bytes: 4096, ttl: ttl,
            for: peer(uid)
        ).session
    }

    private func inDirectory(_ body: (FilePath) throws -> Void) throws {
        try withDirectory { try body($0.appending("sessions")) }
    }

    @Test(
        "are there after a reboot, each at its last complete turn and its owner's; none that was dropped"
    )
    func reboot() throws {
        try inDirectory { directory in
            let (a, b) = try with(directory) { store in
                let a = try create(store, 1, [1, 2])
                let b = try create(store, 2, [3])
                let c = try create(store, 1, [4])
                let turn = try store.beginTurn(a, opening: nil, refusesBusy: false, for: peer(1))
                #expect(turn.commit(state([1, 2, 9])))
                try store.drop(c, for: peer(1))
                store.finish()
                #expect(try store.info(a, for: peer(1)).onDisk)
                return (a, b)
            }
            #expect(names(in: directory) == [a, b].map { $0 + ".session" }.sorted())
            try with(directory) { store in
                #expect(try store.read(a).state.snapshot?.values == [1, 2, 9])
                #expect(try store.read(b).state.snapshot?.values == [3])
                let info = try store.info(a, for: peer(1))
                #expect(info.uid == 1 && info.name == "n" && info.onDisk && info.turns == 0)
                #expect(throws: RPCError.self) { try store.info(a, for: peer(2)) }
                #expect(store.accounts.sessions == 2)
            }
        }
    }

    @Test("one whose time is over is removed, while the daemon runs and when it starts")
    func expiry() throws {
        try inDirectory { directory in
            try with(directory) { store in
                _ = try create(store, 1, [1], ttl: 10_000_000_000)
                _ = try create(store, 1, [2], ttl: 20_000_000_000)
                _ = try create(store, 1, [3], ttl: .max)
                time.pass(seconds: 11)
                #expect(store.list(for: peer(1)).count == 2)
            }
            #expect(names(in: directory).count == 2)
            time.pass(seconds: 11)
            try with(directory) { #expect($0.list(for: peer(1)).count == 1) }
            #expect(names(in: directory).count == 1)
        }
    }

    @Test(
        "a damaged file loses its own session, stays where it is, and takes no other along",
        arguments: 0..<20)
    func damage(_ seed: UInt64) throws {
        var random = SeededGenerator(seed)
        try inDirectory { directory in
            let ids = try with(directory) { store in
                try (0..<6).map { try create(store, 1, [UInt32($0), 7]) }
            }
            let file = directory.appending(ids[2] + ".session")
            var record = try bytes(of: file)
            switch seed % 4 {
            case 0: record.removeLast(Int.random(in: 1...record.count, using: &random))
            case 1: record.append(0)
            default:
                let index = Int.random(in: record.indices, using: &random)
                record[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            }
            try write(record, to: file)
            // Another's contents under a name of its own, a directory, a file of no session.
            try write(
                bytes(of: directory.appending(ids[0] + ".session")),
                to: directory.appending("sx.session"))
            try makeDirectory(directory.appending("sy.session"))
            try write([1, 2, 3], to: directory.appending("notes"))
            try with(directory) { store in
                let left = store.list(for: peer(1)).map(\.session)
                #expect(Set(left) == Set(ids).subtracting([ids[2]]))
                for id in left {
                    let number = try #require(ids.firstIndex(of: id))
                    #expect(try store.read(id).state.snapshot?.values == [Float(number), 7])
                }
                _ = try create(store, 1, [1])
            }
            #expect(try bytes(of: file) == record)
        }
    }

    @Test("of memory and disk the later turn counts, and is then on disk")
    func later() throws {
        try inDirectory { directory in
            let memory = try with(directory) { store in
                let id = try create(store, 1, [1])
                store.finish()
                let file = directory.appending(id + ".session")
                let old = try bytes(of: file)
                let turn = try store.beginTurn(id, opening: nil, refusesBusy: false, for: peer(1))
                #expect(turn.commit(state([1, 2])))
                store.finish()
                try write(old, to: file)
                return dup(store.descriptor)
            }
            let id = try with(directory, kept: memory) { store in
                let id = try #require(store.list(for: peer(1)).first?.session)
                #expect(try store.read(id).state.snapshot?.values == [1, 2])
                return id
            }
            let values = try with(directory) { try $0.read(id).state.snapshot?.values }
            #expect(values == [1, 2])
        }
    }

    @Test("a directory that others may write in, or that another process uses, is refused")
    func refused() throws {
        try inDirectory { directory in
            try makeDirectory(directory)
            chmod(directory.string, 0o777)
            #expect(throws: ModelError.self) { try store(directory) }
            chmod(directory.string, 0o700)
            try with(directory) { _ in
                #expect(throws: ModelError.self) { try store(directory) }
            }
            #expect(throws: ModelError.self) { try store(directory.appending("a/b")) }
        }
    }

    @Test("where nothing can be written, sessions go on in memory and say so")
    func full() throws {
        try inDirectory { directory in
            let store = try store(directory)
            try removeFile(directory)
            let id = try create(store, 1, [1])
            store.finish()
            #expect(try !store.info(id, for: peer(1)).onDisk)
            #expect(try store.read(id).state.snapshot?.values == [1])
        }
    }

    @Test(
        "the end of a turn is told when it is on disk, and a daemon without its memory goes on with the same bits"
    )
    func daemon() async throws {
        let directory = try makeTemporaryDirectory()
        defer { try? removeFile(directory) }
        let (id, _) = try await turn(nil, in: directory)
        let (_, second) = try await turn(id, in: directory)
        let expected = try await withDaemon { daemon in
            let client = try await daemon.connect()
            let (inference, sessions) = (InferenceClient(client), SessionClient(client: client))
            let other = try await sessions.create()
            #expect(!other.onDisk)
            var answer = try await inference.collect(GenerateRequest("abc", in: other.session))
            #expect(answer.finished?.sessionOnDisk == false)
            answer = try await inference.collect(GenerateRequest("abc", in: other.session))
            await client.close()
            return answer
        }
        #expect(second.tokens == expected.tokens && second.logprobs == expected.logprobs)
    }
}

extension SessionDiskTests {
    /// A turn of a session, or of a new one, in a daemon of its own.
    private func turn(
        _ id: String?, in directory: FilePath
    ) async throws -> (String, GenerateResponse) {
        var configuration = ServingConfiguration.testing
        configuration.sessionDirectory = directory.string
        return try await withDaemon(["tiny": 1], configuration) { daemon in
            let client = try await daemon.connect()
            let sessions = SessionClient(client: client)
            let info =
                if let id { try await sessions.get(id) } else { try await sessions.create() }
            #expect(info.onDisk)
            let answer = try await InferenceClient(client).collect(
                GenerateRequest("abc", in: info.session))
            #expect(answer.finished?.sessionOnDisk == true)
            // Nothing has to happen for it to be there.
            let file = try bytes(of: directory.appending(info.session + ".session"))
            let record = try SessionRecord(length: file.count) { Array(file[$0]) }
            #expect(record.history.count == Int(answer.finished?.sessionTokens ?? 0))
            await client.close()
            return (info.session, answer)
        }
    }
}

@Suite("Sessions of a model that turns out to be damaged")
struct SessionProofTests {
    private func store(kept: Int32? = nil) throws -> SessionStore {
        try SessionStore(
            .testing, accounts: Accounts(), bytes: 1 << 20, kept: kept,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, clock: { 1 })
    }

    private func session(_ store: SessionStore, computedBy proofs: ModelProof...) throws -> String {
        let id = try store.create(
            name: "", model: "tiny", digest: "m", state: state([1]), bytes: 4096, ttl: 0,
            for: peer(1)
        ).session
        for proof in proofs {
            let turn = try store.beginTurn(
                id, opening: nil, refusesBusy: false, proof: proof, for: peer(1))
            #expect(turn.commit(state([1, 2])))
            turn.end()
        }
        return id
    }

    private func refusal(_ store: SessionStore, _ id: String, _ uid: UInt32 = 1) -> RPCError? {
        do throws(RPCError) {
            _ = try store.beginTurn(id, opening: nil, refusesBusy: false, for: peer(uid))
            return nil
        } catch { return error }
    }

    @Test(
        "are lost by name if a turn was computed before its bytes were compared, and the others are not"
    )
    func condemned() throws {
        let store = try store()
        let (proof, other) = (ModelProof(.open), ModelProof(.sound))
        let spoilt = try session(store, computedBy: proof, other)
        let fork = try store.fork(spoilt, name: "", ttl: 0, for: peer(1)).session
        let whole = try session(store, computedBy: other)
        let unused = try session(store)
        proof.settle(.damaged)
        store.condemn(proof, digest: "m")
        for id in [spoilt, fork] {
            #expect(refusal(store, id)?.code == .dataLoss)
            #expect(refusal(store, id)?.reason == "SESSION_DAMAGED")
            #expect(refusal(store, id)?.message.contains("'tiny'") == true)
            #expect(refusal(store, id, 2)?.reason == "NO_SUCH_SESSION", "no business of others")
        }
        #expect(refusal(store, whole) == nil && refusal(store, unused) == nil)
        #expect(store.stats.sessions == 2 && store.stats.bytes == 2 * 4096)
    }

    @Test("are kept once the bytes were found to be right")
    func sound() throws {
        let store = try store()
        let proof = ModelProof(.open)
        let id = try session(store, computedBy: proof)
        proof.settle(.sound)
        proof.settle(.damaged)
        store.condemn(proof, digest: "m")
        #expect(proof.verdict == .sound)
        let again = try session(store, computedBy: proof)
        #expect(refusal(store, again) == nil)
        _ = id
    }

    @Test("a turn that comes to its end afterwards leaves nothing")
    func late() throws {
        let store = try store()
        let proof = ModelProof(.open)
        let id = try session(store)
        let turn = try store.beginTurn(
            id, opening: nil, refusesBusy: false, proof: proof, for: peer(1))
        proof.settle(.damaged)
        store.condemn(proof, digest: "m")
        #expect(!turn.commit(state([1, 2, 3])))
        #expect(try store.read(id).state.snapshot?.values == [1])
    }

    @Test("are lost after a restart as well, unless the same bytes have been compared since")
    func restart() throws {
        let first = try store()
        let spoilt = try session(first, computedBy: ModelProof(.open))
        let proven = try session(first, computedBy: ModelProof(.open), ModelProof(.sound))
        let unknown = try session(first, computedBy: ModelProof(.sound))
        let second = try store(kept: dup(first.descriptor))
        let turn = try second.beginTurn(
            proven, opening: nil, refusesBusy: false, proof: ModelProof(.sound), for: peer(1))
        #expect(turn.commit(state([1, 2, 3])))
        turn.end()
        second.condemn(ModelProof(.damaged), digest: "other")
        #expect(second.stats.sessions == 3)
        second.condemn(ModelProof(.damaged), digest: "m")
        #expect(refusal(second, spoilt)?.reason == "SESSION_DAMAGED")
        #expect(refusal(second, proven) == nil && refusal(second, unknown) == nil)
    }
}
