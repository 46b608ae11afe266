// SPDX-License-Identifier: Apache-2.0

import Glibc
import RPC
import Serving
import TestSupport
import Testing

@Suite("Limits are kept", .fewAtOnce, .bounded)
struct LimitTests {
    /// Runs `body` while one request keeps the only slot.
    private func whileBusy(
        _ configuration: ServingConfiguration = .oneSlot, _ body: (Daemon) async throws -> Void
    ) async throws {
        try await withDaemon(["tiny": 1], configuration) { daemon in
            let hog = try await daemon.connect()
            let task = Task { try await InferenceClient(hog).collect(.endless) }
            try await daemon.wait(active: 1)
            try await body(daemon)
            await hog.close()
            _ = await task.result
            try await daemon.wait(active: 0)
        }
    }

    @Test("who waits is served as soon as a slot is free, with nothing else going on")
    func queueMoves() async throws {
        try await withDaemon(["tiny": 1], .oneSlot) { daemon in
            try await daemon.withClient { inference, _ in
                try await withThrowingTaskGroup(of: Int.self) { group in
                    for _ in 0..<6 {
                        group.addTask {
                            try await inference.collect(GenerateRequest("abc", count: 5)).tokens
                                .count
                        }
                    }
                    for try await count in group { #expect(count == 5) }
                }
            }
        }
    }

    @Test("a full queue refuses, and says when to try again")
    func queueFull() async throws {
        var configuration = ServingConfiguration.oneSlot
        configuration.queue = 2
        try await whileBusy(configuration) { daemon in
            let waiting = try await daemon.connect()
            let tasks = (0..<2).map { _ in
                Task { try await InferenceClient(waiting).collect(.endless) }
            }
            try await daemon.wait(active: 1, queued: 2)
            try await daemon.withClient { inference, control in
                let error = try await refusal { _ = try await inference.collect(.endless) }
                #expect(error?.code == .resourceExhausted)
                #expect(error?.reason == "QUEUE_FULL")
                #expect((error?.retryAfter ?? 0) > 0)
                #expect(try await control.status().refusedRequests == 1)
            }
            await waiting.close()
            for task in tasks { _ = await task.result }
        }
    }

    @Test("one user's share of the queue is limited by itself")
    func userQuota() async throws {
        var configuration = ServingConfiguration.oneSlot
        configuration.queuePerUser = 1
        try await whileBusy(configuration) { daemon in
            let waiting = try await daemon.connect()
            let task = Task { try await InferenceClient(waiting).collect(.endless) }
            try await daemon.wait(active: 1, queued: 1)
            try await daemon.withClient { inference, _ in
                let error = try await refusal { _ = try await inference.collect(.endless) }
                #expect(error?.code == .resourceExhausted)
                #expect(error?.reason == "USER_QUOTA")
                #expect(error?.quota != nil)
            }
            await waiting.close()
            _ = await task.result
        }
    }

    @Test("no queue at all serves whoever finds a free slot, and refuses the next")
    func noQueue() async throws {
        var configuration = ServingConfiguration.oneSlot
        configuration.queue = 0
        try await whileBusy(configuration) { daemon in
            try await daemon.withClient { inference, _ in
                let error = try await refusal { _ = try await inference.collect(.endless) }
                #expect(error?.reason == "QUEUE_FULL")
            }
        }
    }

    @Test("a request for many embeddings counts for every slot it takes")
    func embeddingSlots() async throws {
        var configuration = ServingConfiguration.testing
        configuration.slots = 2
        configuration.queue = 0
        try await withDaemon(["tiny": 1], configuration) { daemon in
            let hog = try await daemon.connect()
            var request = EmbedRequest()
            request.input = (0..<200).map { _ in
                var input = EmbedInput()
                input.input = .tokens([UInt32](repeating: 9, count: 2000))
                return input
            }
            let task = Task { [request] in try await InferenceClient(hog).embedWhole(request) }
            try await daemon.wait(active: 2)
            try await daemon.withClient { inference, _ in
                let error = try await refusal { _ = try await inference.collect(.endless) }
                #expect(error?.reason == "QUEUE_FULL")
            }
            await hog.close()
            _ = await task.result
            try await daemon.wait(active: 0)
        }
    }

    @Test("an answer of no stated length is no longer than the longest allowed")
    func defaultLength() async throws {
        var configuration = ServingConfiguration.testing
        configuration.maxTokens = 3
        try await withDaemon(["tiny": 1], configuration) { daemon in
            try await daemon.withClient { inference, _ in
                let answer = try await inference.collect(GenerateRequest("abc", count: 0))
                #expect(answer.tokens.count == 3)
            }
        }
    }

    @Test("who waits is told at once its name and its place, and can be cancelled by that name")
    func announced() async throws {
        try await whileBusy { daemon in
            var clients: [RPCClient] = []
            var streams: [AnswerStream<GenerateResponse>] = []
            var started: [Started] = []
            for _ in 0..<3 {
                clients.append(try await daemon.connect())
                streams.append(InferenceClient(clients[clients.count - 1]).generate(.endless))
                var parts = streams[streams.count - 1].makeAsyncIterator()
                started.append(try #require(try await parts.next()?.started))
            }
            #expect(started.map(\.queuePosition) == [0, 1, 2])
            try await daemon.withClient { other, _ in
                let cancelled = try await other.cancel(started[1].requestID)
                #expect(cancelled)
            }
            let error = try await refusal { for try await _ in streams[1] {} }
            #expect(error?.code == .cancelled)
            #expect(error?.message.contains(started[1].requestID) == true)
            for client in clients { await client.close() }
        }
    }

    @Test("a deadline counts the time in the queue")
    func deadlineInQueue() async throws {
        try await whileBusy { daemon in
            try await daemon.withClient(timeout: 200_000_000_000) { inference, _ in
                async let late = refusal { _ = try await inference.collect(.endless) }
                try await daemon.wait(active: 1, queued: 1)
                daemon.pass(200)
                let error = try await late
                #expect(error?.code == .deadlineExceeded)
                #expect(error?.message.contains("waiting for a slot") == true)
            }
        }
    }

    @Test("a deadline while writing ends the answer with what there is")
    func deadlineWhileWriting() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                var answer = GenerateResponse()
                for try await part in inference.generate(.endless) {
                    if answer.tokens.isEmpty, !part.tokens.isEmpty { daemon.pass(300) }
                    answer.merge(part)
                }
                #expect(answer.finished?.reason == .deadline)
                #expect(answer.finished?.usage?.completionTokens == UInt32(answer.tokens.count))
            }
        }
    }

    @Test("a closed connection frees its slot")
    func disconnect() async throws {
        try await whileBusy { _ in }
    }

    @Test("a request that waits goes when its connection closes")
    func disconnectInQueue() async throws {
        try await whileBusy { daemon in
            let waiting = try await daemon.connect()
            let task = Task { try await InferenceClient(waiting).collect(.endless) }
            try await daemon.wait(active: 1, queued: 1)
            await waiting.close()
            try await daemon.wait(active: 1, queued: 0)
            _ = await task.result
        }
    }

    @Test("Cancel by id ends an answer with what there is, from another connection too")
    func cancel() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, _ in
                var answer = GenerateResponse()
                var asked = false
                for try await part in inference.generate(.endless) {
                    answer.merge(part)
                    if !asked, answer.tokens.count >= 3, let id = answer.started?.requestID {
                        asked = true
                        try await daemon.withClient { other, _ in
                            let cancelled = try await other.cancel(id)
                            #expect(cancelled)
                        }
                    }
                }
                #expect(answer.finished?.reason == .cancelled)
                #expect(answer.finished?.usage?.completionTokens == UInt32(answer.tokens.count))
                let id = answer.started?.requestID ?? ""
                let again = try await refusal { _ = try await inference.cancel(id) }
                #expect(again?.code == .notFound)
            }
        }
    }

    @Test("only the owner and root may cancel, only root, the daemon and controllers may reload")
    func permissions() {
        func peer(_ uid: UInt32) -> Peer { Peer(uid: uid, gid: uid, pid: 1) }
        #expect(Permissions.mayCancel(peer(1000), ownedBy: peer(1000)))
        #expect(Permissions.mayCancel(peer(0), ownedBy: peer(1000)))
        #expect(!Permissions.mayCancel(peer(1001), ownedBy: peer(1000)))
        #expect(!Permissions.mayCancel(peer(1001), ownedBy: peer(0)))
        func sees(_ uid: UInt32, _ owner: UInt32) -> Bool {
            Permissions.maySee(peer(uid), ownedBy: owner, controllers: [5], own: 999)
        }
        #expect(sees(1000, 1000) && sees(0, 1000) && sees(999, 1000) && sees(5, 1000))
        #expect(!sees(1001, 1000) && !sees(1000, 0))
        #expect(Permissions.mayControl(peer(0), controllers: [], own: 999))
        #expect(Permissions.mayControl(peer(999), controllers: [], own: 999))
        #expect(Permissions.mayControl(peer(5), controllers: [5], own: 999))
        #expect(!Permissions.mayControl(peer(1000), controllers: [5], own: 999))
    }

    @Test("status shows what is open, with its phase and its user")
    func status() async throws {
        try await whileBusy { daemon in
            try await daemon.withClient { _, control in
                let status = try await control.status()
                #expect(status.state == "serving")
                #expect(status.active == 1)
                #expect(status.requests.count == 1)
                let request = try #require(status.requests.first)
                #expect(request.model == "tiny")
                #expect(request.method == "Generate")
                #expect(request.uid == getuid())
                #expect(["prefill", "decode"].contains(request.phase))
            }
        }
    }
}
