// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOPosix
import Testing

@testable import RPC

@Suite("Tasks on an event loop")
struct LoopExecutorTests {
    @Test("a task runs on the loop of its executor, and so after it has waited")
    func stays() async {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let places = await Task(executorPreference: LoopExecutor(loop)) {
            var places = [loop.inEventLoop]
            await Task.yield()
            places.append(loop.inEventLoop)
            await Task { await Task.yield() }.value
            places.append(loop.inEventLoop)
            return places
        }.value
        #expect(places == [true, true, true])
    }

    @Test("waiting ends when its time is over")
    func sleeps() async throws {
        let began = ContinuousClock.now
        try await LoopExecutor.sleep(for: .milliseconds(5))
        #expect(ContinuousClock.now - began >= .milliseconds(5))
    }

    @Test("cancelling a task ends its waiting", arguments: [false, true])
    func cancels(isAlreadyWaiting: Bool) async {
        let (begun, tell) = AsyncStream.makeStream(of: Void.self)
        let task = Task {
            if isAlreadyWaiting { tell.yield() } else { while !Task.isCancelled {} }
            try await LoopExecutor.sleep(for: .seconds(3600))
        }
        if isAlreadyWaiting { for await _ in begun { break } }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
    }
}
