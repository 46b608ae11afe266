// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Engine
import ModelStore
import RPC
import Synchronization
import TestSupport
import Testing

@testable import Serving

@Suite("A place for a model", .timeLimit(.minutes(10)))
struct ModelPlaceTests {
    private func withEntry(_ body: (ModelDirectory.Entry) async throws -> Void) async throws {
        try await withModels(["tiny": 1]) { directory in
            try await body(try #require(ModelDirectory([directory]).scan().first))
        }
    }

    private func map(_ entry: ModelDirectory.Entry) -> Result<Model, RPCError> {
        do { return .success(try Model(PackedFile(path: entry.path))) } catch {
            return .failure(RPCError(.internal, "\(error)"))
        }
    }

    /// Opens it three times, `pause` nanoseconds apart, counting the tries; the first is refused for `reason`.
    private func outcomes(
        _ place: ModelPlace, reason: String, pause: UInt64
    ) -> (refused: Int, tries: Int) {
        let tries = Mutex(0)
        var refused = 0
        for time in 0..<3 {
            do {
                _ = try place.open(now: 7 + UInt64(time) * pause) { entry in
                    let count = tries.withLock { count in
                        count += 1
                        return count
                    }
                    return count == 1
                        ? .failure(RPCError(.failedPrecondition, "no", reason: reason)) : map(entry)
                }
            } catch { refused += 1 }
        }
        return (refused, tries.withLock { $0 })
    }

    @Test("a file that could not be read is tried again after a second, one that is wrong is not")
    func tries() async throws {
        try await withEntry { entry in
            let unreadable = outcomes(
                ModelPlace(entry), reason: ModelPlace.unreadable, pause: 1_000_000_001)
            #expect(unreadable == (1, 2))
            let early = outcomes(
                ModelPlace(entry), reason: ModelPlace.unreadable, pause: 500_000_000)
            #expect(early == (3, 1))
            let wrong = outcomes(
                ModelPlace(entry), reason: "MODEL_DAMAGED", pause: 1_000_000_001)
            #expect(wrong == (3, 1))
        }
    }

    @Test("a reload gives a refused file another try and leaves a mapped one alone")
    func standing() async throws {
        try await withEntry { entry in
            let place = ModelPlace(entry)
            #expect(place.standing(of: entry) == .same)
            _ = try? place.open { _ in .failure(RPCError(.dataLoss, "no")) }
            #expect(place.standing(of: entry) == .refused)
            let mapped = ModelPlace(entry)
            _ = try mapped.open { map($0) }
            #expect(mapped.standing(of: entry) == .same)
        }
    }

    @Test("while a model is read into memory others are told to come again, and then it is there")
    func preparation() async throws {
        try await withEntry { entry in
            let place = ModelPlace(entry)
            var refusal: RPCError?
            try place.prepare {
                #expect(place.isLoading)
                do throws(RPCError) { try place.prepare {} } catch { refusal = error }
            }
            #expect(refusal?.code == .unavailable)
            #expect((refusal?.retryAfter ?? 0) > 0)
            #expect(!place.isLoading)
            try place.prepare { Issue.record("prepared twice") }
        }
    }

    @Test("nobody who looks waits while a file is being opened")
    func opening() async throws {
        try await withEntry { entry in
            let place = ModelPlace(entry)
            // A thread of its own: whoever blocks one of the tasks' threads may wait for a task that needs it.
            let (began, look) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
            let done = DispatchSemaphore(value: 0)
            startThread(name: "opener") {
                _ = try? place.open { _ in
                    began.signal()
                    // A look that waits for this ends the wait by its own time limit.
                    _ = look.wait(timeout: .now() + 5)
                    return .failure(RPCError(.dataLoss, "no"))
                }
                done.signal()
            }
            began.wait()
            let start = ContinuousClock.now
            #expect(place.model == nil)
            #expect(!place.isLoading)
            #expect(place.standing(of: entry) == .same)
            #expect(ContinuousClock.now - start < .seconds(2))
            look.signal()
            done.wait()
            #expect(place.standing(of: entry) == .refused)
        }
    }

    @Test("one message a second passes, and the next says how many did not")
    func logLimit() {
        let limit = LogLimit()
        let second: UInt64 = 1_000_000_000
        #expect(limit.pass(now: 5 * second) == 0)
        #expect(limit.pass(now: 5 * second + 1) == nil)
        #expect(limit.pass(now: 6 * second - 1) == nil)
        #expect(limit.pass(now: 6 * second) == 2)
        #expect(limit.pass(now: 7 * second) == 0)
    }
}
