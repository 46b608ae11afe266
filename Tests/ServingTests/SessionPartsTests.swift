// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import Logging
import ModelStore
import Packer
import RPC
import SystemPackage
import TestSupport
import Testing

@testable import Serving

extension SessionClient {
    /// A state in parts.
    func saved(_ id: String) async throws -> [SaveSessionResponse] {
        let answer: AnswerStream<SaveSessionResponse> = client.stream(
            ServiceName.session, "Save", SaveSessionRequest(session: id), timeout: nil)
        var parts: [SaveSessionResponse] = []
        for try await part in answer { parts.append(part) }
        return parts
    }

    /// The first part of a state.
    func begin(_ state: some Swift.Sequence<UInt8>, name: String = "") async throws -> SessionInfo {
        try await restore(RestoreSessionRequest(state: Array(state), name: name, more: true))
    }

    /// A part that is not the first.
    func add(
        _ state: some Swift.Sequence<UInt8>, to id: String, at offset: Int, more: Bool = true
    ) async throws -> SessionInfo {
        try await restore(
            RestoreSessionRequest(
                state: Array(state), session: id, offset: UInt64(offset), more: more))
    }
}

@Suite("Sessions are saved and restored in parts", .fewAtOnce, .bounded)
struct SessionPartsTests {
    private func withSessions<R>(
        _ configuration: ServingConfiguration = .testing,
        _ body: (Daemon, InferenceClient, SessionClient) async throws -> R
    ) async throws -> R {
        try await withDaemon(["tiny": 1], configuration) { daemon in
            let client = try await daemon.connect()
            let result: Result<R, any Error>
            do {
                result = .success(
                    try await body(daemon, InferenceClient(client), SessionClient(client: client)))
            } catch { result = .failure(error) }
            await client.close()
            return try result.get()
        }
    }

    /// A saved state of the tiny model.
    private func state(
        _ inference: InferenceClient, _ sessions: SessionClient, _ text: String = "once upon"
    ) async throws -> [UInt8] {
        let id = try await sessions.create().session
        _ = try await inference.collect(GenerateRequest(text, in: id))
        defer { Task { try? await sessions.drop(id) } }
        return try await sessions.save(id)
    }

    @Test("one larger than a frame, of a model with attention, goes on with the same tokens")
    func large() async throws {
        func prepare(_ directory: FilePath) throws {
            // 1 KiB a token: 4200 tokens, for which the model gets a context.
            let checkpoint = directory.appending("checkpoint")
            try makeDirectory(checkpoint)
            let source = fixtures.appending("bitnet").appending("ll_gqa1_sharded")
            for name in names(in: source) {
                try write(bytes(of: source.appending(name)), to: checkpoint.appending(name))
            }
            let config = String(
                decoding: try bytes(of: checkpoint.appending("config.json")), as: UTF8.self)
            try write(
                Array(config.replacing(": 4096", with: ": 8192").utf8),
                to: checkpoint.appending("config.json"))
            _ = try PackJob(
                PackSource(directory: checkpoint), to: directory.appending("long.gguf")
            ).run()
            try removeFile(checkpoint)
        }
        var random = SeededGenerator(1)
        func turn(_ id: String, _ count: Int) -> GenerateRequest {
            var request = GenerateRequest("", count: 8, logprobs: 2)
            request.prompt = .tokens(
                (0..<count).map { _ in UInt32.random(in: 3..<140, using: &random) })
            request.session = id
            request.sampling?.temperature = 0
            return request
        }
        try await withDaemon([:], preparing: prepare) { daemon in
            let client = try await daemon.connect()
            let (inference, sessions) = (InferenceClient(client), SessionClient(client: client))
            let id = try await sessions.create(CreateSessionRequest(model: "long")).session
            _ = try await inference.collect(turn(id, 4200))
            let parts = try await sessions.saved(id)
            #expect(parts.count > 4 && parts.allSatisfy { $0.state.count <= 1 << 20 })
            #expect(parts[0].session?.session == id && parts[1].session == nil)
            let state = parts.flatMap(\.state)
            #expect(state.count > FrameHeader.dataLimit)
            #expect(parts[0].stateBytes == UInt64(state.count))
            let unary = try await refusal { _ = try await sessions.save(id) }
            #expect(
                unary?.reason == "ANSWER_TOO_LARGE" && unary?.message.contains("stream") == true)
            var info = try await sessions.begin(state[..<1_000_000])
            let charged = info.bytes
            #expect(info.incomplete && charged >= UInt64(state.count))
            for offset in stride(from: 1_000_000, to: state.count, by: 1_000_000) {
                let part = state[offset..<min(state.count, offset + 1_000_000)]
                info = try await sessions.add(
                    part, to: info.session, at: offset, more: part.endIndex < state.count)
            }
            #expect(!info.incomplete && info.bytes == charged)
            let original = try await sessions.get(id)
            #expect(info.tokens == original.tokens && info.tokensDigest == original.tokensDigest)
            #expect(try await sessions.saved(info.session).flatMap(\.state) == state)
            var next = turn(id, 5)
            let expected = try await inference.collect(next)
            next.session = info.session
            let found = try await inference.collect(next)
            #expect(found.tokens == expected.tokens && found.logprobs == expected.logprobs)
            await client.close()
        }
    }

    @Test("two at a time, cut anywhere, are what they would be at once", arguments: 0..<4)
    func interleaved(_ seed: UInt64) async throws {
        try await withSessions { _, inference, sessions in
            let states = [
                try await state(inference, sessions, "once upon"),
                try await state(inference, sessions, "a time"),
            ]
            var random = SeededGenerator(seed)
            var ids: [String] = []
            var counts: [Int] = []
            for state in states {
                let count = Int.random(in: 184..<state.count, using: &random)
                ids.append(try await sessions.begin(state[..<count], name: "n").session)
                counts.append(count)
            }
            while counts != states.map(\.count) {
                let one = Int.random(in: 0..<2, using: &random)
                let rest = states[one][counts[one]...]
                let part = rest.prefix(Int.random(in: 0...rest.count, using: &random))
                guard counts[one] < states[one].count else { continue }
                let info = try await sessions.add(part, to: ids[one], at: counts[one])
                counts[one] += part.count
                #expect(info.incomplete == (counts[one] < states[one].count))
                #expect(info.name == "n")
            }
            for (id, state) in zip(ids, states) { #expect(try await sessions.save(id) == state) }
        }
    }

    @Test("one that is incomplete has no turns, and is neither forked nor saved")
    func incomplete() async throws {
        try await withSessions { daemon, inference, sessions in
            let state = try await state(inference, sessions)
            let info = try await sessions.begin(state[..<200])
            let id = info.session
            #expect(info.incomplete && info.receivedBytes == 200 && info.tokens > 0)
            #expect(try await sessions.get(id).receivedBytes == 200)
            #expect(try await sessions.list().filter(\.incomplete).map(\.session) == [id])
            let refusals = [
                try await refusal {
                    _ = try await inference.collect(GenerateRequest("more", in: id))
                },
                try await refusal { _ = try await sessions.fork(id) },
                try await refusal { _ = try await sessions.save(id) },
                try await refusal { _ = try await sessions.saved(id) },
            ]
            for refusal in refusals {
                #expect(refusal?.code == .failedPrecondition)
                #expect(refusal?.reason == "SESSION_INCOMPLETE")
                #expect(refusal?.message.contains("200 of the \(state.count) bytes") == true)
            }
            try await sessions.drop(id)
            #expect(
                try await refusal { _ = try await sessions.get(id) }?.reason == "NO_SUCH_SESSION")
        }
    }

    @Test(
        "a part that belongs elsewhere is refused with the place of the next, and changes nothing")
    func offsets() async throws {
        try await withSessions { _, inference, sessions in
            let state = try await state(inference, sessions)
            let id = try await sessions.begin(state[..<200]).session
            _ = try await sessions.add(state[200..<300], to: id, at: 200)
            for offset in [0, 200, 299, 301, Int.max] {
                let error = try await refusal {
                    _ = try await sessions.add(state[200..<300], to: id, at: offset)
                }
                #expect(error?.code == .failedPrecondition && error?.reason == "WRONG_OFFSET")
                #expect(error?.message.contains("300 of \(state.count) have come") == true)
            }
            let last = try await refusal {
                _ = try await sessions.add(state[300..<400], to: id, at: 300, more: false)
            }
            #expect(last?.code == .invalidArgument)
            let long = try await refusal {
                _ = try await sessions.add(state[300...] + [0], to: id, at: 300)
            }
            #expect(long?.code == .invalidArgument)
            let info = try await sessions.add(state[300...], to: id, at: 300, more: false)
            #expect(!info.incomplete && info.receivedBytes == 0)
            #expect(try await sessions.save(id) == state)
            let over = try await refusal {
                _ = try await sessions.add(state[300...], to: id, at: 300, more: false)
            }
            #expect(over?.code == .failedPrecondition && over?.reason == "SESSION_COMPLETE")
        }
    }

    @Test("damage drops the session, and who asks for it is told why")
    func damage() async throws {
        try await withSessions { daemon, inference, sessions in
            var state = try await state(inference, sessions)
            state[state.count / 2] ^= 1
            let id = try await sessions.begin(state[..<300]).session
            let error = try await refusal {
                _ = try await sessions.add(state[300...], to: id, at: 300, more: false)
            }
            #expect(error?.code == .invalidArgument && error?.message.contains("damaged") == true)
            #expect(error?.message.contains(id) == true)
            let later = try await refusal { _ = try await sessions.get(id) }
            #expect(later?.message == error?.message)
            #expect(try await sessions.list().filter(\.incomplete).isEmpty)
        }
    }

    @Test(
        "a first part that tells no state of the model makes no session, nor does a whole state that begins elsewhere"
    )
    func firstPart() async throws {
        try await withSessions { daemon, inference, sessions in
            let state = try await state(inference, sessions)
            var other = state
            other[40] ^= 1
            let refused: [(bytes: [UInt8], offset: UInt64, code: RPCCode)] = [
                ([], 0, .invalidArgument), (Array(state[..<100]), 0, .invalidArgument),
                (Array(state[..<200]), 1, .invalidArgument),
                (Array(state.reversed()), 0, .invalidArgument), (state + [0], 0, .invalidArgument),
                // The number of its numbers.
                (Array(other[..<200]), 0, .failedPrecondition),
            ]
            for (bytes, offset, code) in refused {
                let error = try await refusal {
                    _ = try await sessions.restore(
                        RestoreSessionRequest(state: bytes, offset: offset, more: true))
                }
                #expect(error?.code == code, "\(error.map { "\($0)" } ?? "nothing")")
            }
            let whole = try await refusal {
                _ = try await sessions.restore(RestoreSessionRequest(state: state, offset: 8))
            }
            #expect(whole?.code == .invalidArgument && whole?.message.contains("offset") == true)
            try await eventually { daemon.service.sessions.stats.sessions == 0 }
            let unknown = try await refusal {
                _ = try await sessions.add(state, to: "s0", at: 0)
            }
            #expect(unknown?.reason == "NO_SUCH_SESSION")
        }
    }
}

/// The store alone, for what needs its clock or its memory.
@Suite("The store of sessions that are restored in parts")
struct PartialStateTests {
    private let clock = Clock()

    private func store(
        bytes: Int = 64 << 20, accounts: Accounts = Accounts(), directory: FilePath? = nil,
        kept: Int32? = nil
    ) throws -> SessionStore {
        var configuration = ServingConfiguration.testing
        configuration.sessionDirectory = directory?.string
        return try SessionStore(
            configuration, accounts: accounts, bytes: bytes, kept: kept,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            clock: { [clock] in clock.now })
    }

    /// The bytes of a state of so many numbers.
    private func bytes(_ values: Int) -> [UInt8] {
        let snapshot = StateSnapshot(
            modelDigest: "m", history: TokenHistory([1]),
            values: (0..<values).map { Float($0) })
        return SavedState(
            modelDigest: "m", state: SessionState(snapshot: snapshot, unread: [])
        ).encoded()
    }

    private func header(_ bytes: [UInt8]) throws -> SavedStateHeader {
        var reader = SavedStateReader()
        try reader.take(bytes.prefix(SavedStateHeader.mostBytes))
        return try #require(reader.header)
    }

    private func begin(
        _ store: SessionStore, _ bytes: [UInt8], _ count: Int, ttl: UInt64 = 0
    ) throws -> String {
        try store.restore(
            header(bytes), Array(bytes[..<count]), name: "n", model: "tiny", ttl: ttl,
            for: peer(1)
        ).session
    }

    @Test(
        "all that the header tells of is charged at once, refused beyond the quota, and given back")
    func quota() throws {
        var limits = Accounts.Limits()
        limits.stateBytes = 1 << 20
        let store = try store(accounts: Accounts(limits))
        // 1.2 MB are told of, 200 bytes are there.
        let error = #expect(throws: RPCError.self) { try begin(store, bytes(300_000), 200) }
        #expect(error?.code == .resourceExhausted && error?.reason == "USER_QUOTA")
        #expect(store.stats.sessions == 0 && store.stats.bytes == 0)
        let state = bytes(200_000)
        let id = try begin(store, state, 200)
        #expect(store.stats.bytes > state.count && store.stats.bytes < state.count + 16384)
        #expect(throws: RPCError.self) { try begin(store, state, 200) }
        try store.drop(id, for: peer(1))
        #expect(store.stats.bytes == 0)
        _ = try begin(store, state, 200)
    }

    @Test("one of which nothing comes is dropped when its time is over, counted from its last part")
    func expiry() throws {
        let store = try store()
        let state = bytes(1000)
        let id = try begin(store, state, 200, ttl: 10_000_000_000)
        clock.pass(seconds: 9)
        _ = try store.restore(
            id, Array(state[200..<300]), at: 200, isLast: false, for: peer(1))
        clock.pass(seconds: 9)
        #expect(try store.info(id, for: peer(1)).incomplete)
        clock.pass(seconds: 1)
        let error = #expect(throws: RPCError.self) {
            try store.restore(id, Array(state[300...]), at: 300, isLast: true, for: peer(1))
        }
        #expect(error?.reason == "NO_SUCH_SESSION" && store.stats.bytes == 0)
    }

    @Test("others than its owner and root may add nothing")
    func owner() throws {
        let store = try store()
        let state = bytes(1000)
        let id = try begin(store, state, 200)
        let error = #expect(throws: RPCError.self) {
            try store.restore(id, [1], at: 200, isLast: false, for: peer(2))
        }
        #expect(error?.code == .permissionDenied)
    }

    @Test(
        "a restart keeps what is complete, in the same memory or a larger one, and nothing of what is not",
        arguments: [64 << 20, 128 << 20])
    func restart(_ size: Int) throws {
        let first = try store()
        let state = bytes(100_000)
        _ = try begin(first, state, 300_000)
        let whole = try begin(first, state, 300_000)
        _ = try first.restore(
            whole, Array(state[300_000...]), at: 300_000, isLast: true, for: peer(1))
        let second = try store(bytes: size, kept: dup(first.descriptor))
        #expect(second.isAdopted == (size == 64 << 20))
        #expect(second.list(for: peer(1)).map(\.session) == [whole])
        let values = try second.read(whole).state.snapshot?.values
        #expect(values == (0..<100_000).map { Float($0) })
    }

    @Test("one is on disk when it is complete, and not before")
    func disk() throws {
        try withDirectory { directory in
            let store = try store(directory: directory)
            defer { store.close() }
            let state = bytes(100_000)
            let id = try begin(store, state, 300_000)
            store.finish()
            #expect(names(in: directory).isEmpty)
            _ = try store.restore(
                id, Array(state[300_000...]), at: 300_000, isLast: true, for: peer(1))
            store.finish()
            #expect(names(in: directory) == [id + ".session"])
            #expect(store.isOnDisk(id))
            let file = try TestSupport.bytes(of: directory.appending(id + ".session"))
            let record = try SessionRecord(length: file.count) { Array(file[$0]) }
            #expect(record.id == id && record.uid == 1)
            #expect(Array(file.dropLast(8).suffix(state.count)) == state)
        }
    }

    @Test("a turn that comes to its end while a state is read ends the reading by name")
    func overtaken() throws {
        let store = try store()
        let state = bytes(200_000)
        let id = try begin(store, state, state.count)
        var parts = try StateParts(store, store.whole(id))
        let first = try #require(try parts.next())
        #expect(first.count < state.count && state.starts(with: first))
        let turn = try store.beginTurn(id, opening: nil, refusesBusy: false, for: peer(1))
        #expect(turn.commit(ServingTests.state([1, 2])))
        turn.end()
        do throws(StateParts.Failure) {
            _ = try parts.next()
            Issue.record("bytes of another record")
        } catch {
            let refusal = store.refusal(error, try store.whole(id))
            #expect(refusal.code == .aborted && refusal.reason == "SESSION_CHANGED")
        }
        #expect(try store.read(id).state.snapshot?.values == [1, 2])
    }
}
